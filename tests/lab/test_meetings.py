"""Who waits for whom in collectives, from round times."""

from __future__ import annotations

from lab.events import Bucket, BucketsBuilt, DeviceInfo, GroupJoined, RunStarted, Span, SpanKind, StepFinished
from lab.state import KEPT_STEPS, RunState
from lab.timing.meetings import Communication, communication, meetings, waited_for
from tests.lab import rank_events
from tests.lab.test_state import started


def span(rank: int, kind: SpanKind, name: str, start: int, end: int, step: int = 0) -> Span:
    return Span(f"rank {rank} · cpu", rank, step, kind, name, start, end, bytes=100 if kind == "collective" else 0)


STEP = [
    span(0, "backward", "fc", 0, 20),
    span(0, "collective", "bucket 0", 10, 60),
    span(1, "backward", "fc", 0, 50),
    span(1, "collective", "bucket 0", 40, 62),
]
"""Rank 1 comes 30 later; rank 0 computes until 20 and has nothing to do until 60."""


def test_a_collective_begins_when_the_last_rank_has_come() -> None:
    first, second = meetings(STEP)
    assert (first.joined_ns, first.last_rank, first.waited_ns) == (40, 1, 30)
    assert (second.joined_ns, second.last_rank, second.waited_ns) == (40, 1, 0)


def test_the_nth_collective_of_a_name_is_the_same_one_everywhere() -> None:
    spans = [
        span(rank, "collective", "bucket 0", start, start + 9) for rank, start in ((0, 0), (0, 20), (1, 5), (1, 22))
    ]
    assert [(each.span.start_ns, each.joined_ns) for each in meetings(spans)] == [(0, 5), (5, 5), (20, 22), (22, 22)]


def test_a_rank_whose_link_is_emulated_meets_the_others() -> None:
    spans = [
        span(0, "collective", "bucket 0", 10, 60),
        span(1, "collective", "bucket 0 (emulated link)", 40, 90),
    ]
    assert [(each.joined_ns, each.last_rank) for each in meetings(spans)] == [(40, 1), (40, 1)]


def test_a_rank_never_waits_beyond_the_end_of_its_own_part() -> None:
    (early, _) = meetings([span(0, "collective", "bucket 0", 0, 10), span(1, "collective", "bucket 0", 30, 40)])
    assert early.waited_ns == 10


def test_hidden_exposed_and_awaited_are_the_whole_collective() -> None:
    assert communication(STEP, meetings(STEP)) == {
        "rank 0 · cpu": Communication(hidden_ns=10, exposed_ns=20, awaited_ns=20),
        "rank 1 · cpu": Communication(hidden_ns=10, exposed_ns=12, awaited_ns=0),
    }


def test_only_waiting_with_nothing_else_to_do_is_blamed_on_the_last_rank() -> None:
    assert waited_for(STEP, meetings(STEP)) == {1: 20}
    # While bucket 0 moves, from 450 to 550, rank 0 does not only wait for bucket 1, to which rank 1 comes at 600.
    spans = [span(rank, kind, name, start, end) for rank, kind, name, start, end in rank_events.STEP]
    assert waited_for(spans, meetings(spans)) == {1: 50}


def test_two_collectives_at_once_count_once() -> None:
    spans = [span(0, "collective", "bucket 0", 0, 10), span(0, "collective", "bucket 1", 5, 12)]
    assert communication(spans, meetings(spans))["rank 0 · cpu"] == Communication(0, 12, 0)


class TestState:
    def state(self, world_size: int = 2) -> RunState:
        state = RunState()
        begun = started("rank 0 · cpu", "rank 1 · cpu")
        devices = tuple(DeviceInfo(f"rank {rank} · cpu", "AMD", 10**9, False, rank) for rank in range(world_size))
        state.apply(RunStarted(begun.run_id, {}, devices, "wall", begun.data, begun.net, begun.total_steps, {}))
        state.apply(GroupJoined(world_size, "gloo", 1, ("w",)))
        return state

    def test_a_step_counts_when_all_ranks_have_finished_it(self) -> None:
        state = self.state()
        state.apply_all([*STEP[:2], StepFinished(0, 0, 1.0, 32, 1e-9 * 64, 64)])
        assert not state.communication
        state.apply_all([*STEP[2:], StepFinished(0, 1, 3.0, 32, 1e-9 * 64, 64)])
        went = state.communication["rank 0 · cpu"]
        assert (went.hidden_ns, went.exposed_ns, went.awaited_ns) == (10, 20, 20)
        assert dict(state.waited_for) == {1: 20}
        assert (state.last_loss, state.ranks[1].loss, state.ranks[1].steps) == (2.0, 3.0, 1)
        assert state.ranks[0].samples_per_second == 32 / 64e-9

    def test_waits_that_name_a_rank_count_too(self) -> None:
        state = self.state()
        state.apply_all([span(0, "wait", "rank 1", 5, 25), span(0, "wait", "host", 25, 50)])
        assert dict(state.waited_for) == {1: 20}
        assert state.communication["rank 0 · cpu"].awaited_ns == 20

    def test_reports_that_come_rank_by_rank_make_whole_steps(self) -> None:
        state, steps = self.state(), 3 * KEPT_STEPS
        for rank in range(2):
            for step in range(steps):
                state.apply(span(rank, "forward", "fc", step, step + 1, step))
                state.apply(StepFinished(step, rank, 1.0, 32, 1e-9, step + 1))
        assert state.timeline_step == steps - 1
        assert {each.rank for each in state.spans[steps - 1]} == {0, 1}
        for step in range(steps, steps + 2):
            state.apply(span(0, "forward", "fc", step, step + 1, step))
        assert len(state.spans) <= KEPT_STEPS + 2

    def test_the_first_and_the_last_layout_of_the_buckets_are_kept(self) -> None:
        state = self.state()
        layouts = [BucketsBuilt(step, (Bucket(0, ("w",), step),)) for step in range(3)]
        state.apply_all(layouts)
        assert state.layouts == [layouts[0], layouts[2]]
