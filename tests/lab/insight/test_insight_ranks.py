"""Findings about the hand-made run of two ranks in `rank_events`, whose times are worked out there at the top."""

from __future__ import annotations

import dataclasses

import pytest

from lab import insight
from lab.events import BucketsBuilt, Event, Span, StepFinished
from lab.insight.findings import Exchange, Finding, LateRank, Overview, SharedProcessor
from lab.state import RunState
from tests.lab import rank_events as ranks


def folded(events: list[Event], **fields: object) -> RunState:
    """The events, with other fields of the Experiment."""
    state = RunState()
    for event in events:
        if hasattr(event, "experiment"):
            event = dataclasses.replace(event, experiment=event.experiment | fields)
        state.apply(event)
    return state


def of(found: tuple[Finding, ...], kind: type) -> Finding:
    [one] = [each for each in found if type(each) is kind]
    return one


class TestTwoRanks:
    found = insight.look(ranks.folded())

    def test_the_overview(self) -> None:
        # Of 700 µs, rank 0 computes for 550 and rank 1 for 650.
        first = self.found[0]
        assert isinstance(first, Overview)
        assert (first.ranks, first.basis) == (2, "measured")
        assert first.computing == pytest.approx((550 + 650) / 2 / 700)
        assert first.samples_per_second == pytest.approx(64 / 700e-6)

    def test_what_of_the_exchange_is_hidden_and_what_is_exposed(self) -> None:
        exchange = of(self.found, Exchange)
        assert isinstance(exchange, Exchange)
        assert exchange.hidden == pytest.approx((150 + 100) / 2 / 700)
        assert exchange.exposed == exchange.weight == pytest.approx((100 + 50) / 2 / 700)
        assert (exchange.bytes_per_step, exchange.buckets) == (87_360, 2)
        assert exchange.last_layers == ("conv1",)
        # Of bucket 1, both ranks wait for 50 µs; of bucket 0, rank 0 does for 50.
        assert exchange.exposed_bucket == 1

    def test_the_rank_that_comes_last(self) -> None:
        late = of(self.found, LateRank)
        assert isinstance(late, LateRank)
        assert (late.rank, late.others, late.share) == (1, 1, pytest.approx(50 / 700))
        assert late.weight == pytest.approx(50 / 700 / 2)
        assert not late.planned

    def test_ranks_on_one_processor_share_it(self) -> None:
        shared = of(self.found, SharedProcessor)
        assert isinstance(shared, SharedProcessor)
        assert (shared.ranks, shared.threads) == (2, 1)


def test_a_rank_that_is_late_on_purpose() -> None:
    late = of(insight.look(folded(list(ranks.events()), faults=["straggle:1:5:3"])), LateRank)
    assert isinstance(late, LateRank)
    assert late.planned
    other = of(insight.look(folded(list(ranks.events()), faults=["straggle:0:5", "kill:1:9"])), LateRank)
    assert isinstance(other, LateRank)
    assert not other.planned


def test_one_bucket_is_the_last_one() -> None:
    events = [
        event
        for event in ranks.events()
        if not (isinstance(event, Span) and event.name == "bucket 1") and not (isinstance(event, BucketsBuilt))
    ]
    first = next(index for index, event in enumerate(events) if isinstance(event, Span))
    events.insert(first, ranks.FIRST)
    exchange = of(insight.look(folded(events)), Exchange)
    assert isinstance(exchange, Exchange)
    assert exchange.buckets == 1
    assert exchange.bytes_per_step == ranks.FIRST.buckets[0].bytes


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_little_is_said_of_few_steps(steps: int) -> None:
    found = insight.look(ranks.folded(steps))
    assert all(each.place in ("first", "aside") for each in found)
    assert not any(isinstance(each, Overview) for each in found)


def test_a_failure_leaves_what_was_found_before_it() -> None:
    found = insight.look(ranks.folded(20, *ranks.failures(), ranks.finished("failed")))
    assert found == TestTwoRanks.found


def test_a_rank_that_lags_by_a_step_is_no_puzzle() -> None:
    ahead = list(ranks.events(6))
    lagging = [event for event in ranks.step_events(6) if getattr(event, "rank", 0) == 0]
    assert any(isinstance(event, StepFinished) for event in lagging)
    assert insight.look(folded([*ahead, *lagging]))[0].basis == "measured"
