"""What each device sends in a step, against sums worked out by hand."""

from __future__ import annotations

from lab.events import DataSource, DeviceInfo, GroupJoined, RunStarted, Span, StepFinished
from lab.state import MAX_SPANS_PER_STEP, RunState


def started(*devices: str) -> RunStarted:
    infos = tuple(DeviceInfo(name, "Classroom GPU (fictional)", 2 * 10**9, simulated=True) for name in devices)
    return RunStarted("r1", {}, infos, "virtual", DataSource("mnist", "MNIST", 600, 100, "bundled"), "Net", 2, {})


def copy(source: str, target: str, size: int, step: int = 0, rank: int = 0) -> Span:
    return Span(source, rank, step, "transfer", f"{source} → {target}", 0, 10, bytes=size, peer=target)


def collective(rank: int, name: str, size: int, step: int = 0) -> Span:
    return Span(f"vgpu:{rank}", rank, step, "collective", name, 0, 10, bytes=size)


def done(step: int = 0, rank: int = 0) -> StepFinished:
    return StepFinished(step, rank, 1.0, samples=64, seconds=0.002, end_ns=(step + 1) * 2_000_000)


def ranks(count: int) -> RunState:
    state = RunState()
    state.apply_all([started(*(f"vgpu:{rank}" for rank in range(count))), GroupJoined(count, "gloo", 1, ())])
    return state


def test_nothing_is_known_before_the_first_step_has_ended() -> None:
    state = RunState()
    state.apply_all([started("vgpu:0", "vgpu:1"), copy("vgpu:0", "vgpu:1", 100)])
    assert (state.sent_bytes, state.sent_total, state.host_bytes) == ({}, None, None)


def test_copies_count_for_whoever_sends_them_and_the_hosts_apart() -> None:
    state = RunState()
    state.apply_all([started("vgpu:0", "vgpu:1", "vgpu:2"), copy("vgpu:0", "vgpu:1", 100), copy("cpu", "vgpu:0", 7)])
    state.apply_all([copy("vgpu:1", "vgpu:0", 60), copy("vgpu:0", "vgpu:1", 5), copy("vgpu:0", "cpu", 4), done()])
    assert state.sent_bytes == {"vgpu:0": 105, "vgpu:1": 60, "vgpu:2": 0}
    assert (state.sent_total, state.crossing_bytes, state.host_bytes) == (165, 165, 7)


def test_it_is_of_the_last_step_that_has_ended() -> None:
    state = RunState()
    state.apply_all([started("vgpu:0", "vgpu:1"), copy("vgpu:0", "vgpu:1", 100), done(), copy("cpu", "vgpu:1", 9, 1)])
    assert (state.sent_total, state.host_bytes) == (100, 0)
    state.apply_all([copy("vgpu:1", "vgpu:0", 30, step=1), done(1)])
    assert (state.sent_bytes, state.host_bytes) == ({"vgpu:0": 0, "vgpu:1": 30}, 9)


def test_two_ranks_send_what_they_bring_and_four_send_half_as_much_again() -> None:
    for count, each in [(2, 87_360), (4, 131_040)]:
        state = ranks(count)
        for rank in range(count):
            state.apply_all([collective(rank, "bucket 0", 80_000), collective(rank, "bucket 1", 7_360)])
            state.apply(done(rank=rank))
        assert state.sent_bytes == {f"vgpu:{rank}": each for rank in range(count)}
        assert state.sent_total == count * each


def test_a_broadcast_is_passed_on_by_all_but_the_last_and_costs_less_than_an_all_reduce() -> None:
    state = ranks(3)
    for rank in range(3):
        state.apply_all([collective(rank, "broadcast", 300), done(rank=rank)])
    assert state.sent_bytes == {"vgpu:0": 300, "vgpu:1": 300, "vgpu:2": 0}


def test_a_rank_that_is_ahead_does_not_count_before_the_others_have_come() -> None:
    state = ranks(2)
    state.apply_all([collective(0, "bucket 0", 10), done(), collective(0, "bucket 0", 10, 1), done(1)])
    assert state.sent_total is None
    state.apply_all([collective(1, "bucket 0", 10), done(rank=1)])
    assert state.sent_bytes == {"vgpu:0": 10, "vgpu:1": 10}


def test_copies_within_a_rank_are_sent_too() -> None:
    state = RunState()
    state.apply_all([started("vgpu:0", "vgpu:1", "vgpu:2", "vgpu:3"), GroupJoined(2, "gloo", 1, ())])
    for rank, (first, second) in enumerate([("vgpu:0", "vgpu:1"), ("vgpu:2", "vgpu:3")]):
        bucket = Span(second, rank, 0, "collective", "bucket 0", 0, 10, bytes=40)
        state.apply_all([copy("cpu", first, 11, rank=rank), copy(first, second, 3, rank=rank), bucket, done(rank=rank)])
    assert state.sent_bytes == {"vgpu:0": 3, "vgpu:1": 40, "vgpu:2": 3, "vgpu:3": 40}
    assert state.host_bytes == 22


def test_spans_that_are_not_kept_are_counted() -> None:
    state = RunState()
    state.apply_all([started("vgpu:0", "vgpu:1"), *[copy("vgpu:0", "vgpu:1", 2)] * (MAX_SPANS_PER_STEP + 500), done()])
    assert state.sent_bytes["vgpu:0"] == 2 * (MAX_SPANS_PER_STEP + 500)
