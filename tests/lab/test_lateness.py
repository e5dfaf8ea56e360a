"""Who is late: spans made by hand, so that it is known who waits for whom and for how long."""

from __future__ import annotations

import pytest

from lab.events import DeviceInfo, GroupJoined, RunStarted, Span, StepFinished
from lab.lateness import Straggler, find
from lab.state import RunState

MS = 1_000_000
LINK_MS = 2
"""What the averaging itself takes once all ranks are there."""


def step(
    number: int, computing_ms: list[int], *, virtual: bool = False, begins_ms: list[int] | None = None
) -> list[Span]:
    """A step in which every rank computes for so long, and all meet in one all-reduce."""
    start = number * 100
    begins = begins_ms or [0] * len(computing_ms)
    entered = [start + begin + computing for begin, computing in zip(begins, computing_ms, strict=True)]
    last = max(entered)
    spans = []
    for rank, (begin, own) in enumerate(zip(begins, entered, strict=True)):
        device = f"rank {rank} · cpu"
        spans.append(Span(device, rank, number, "backward", "fc1", (start + begin) * MS, own * MS))
        if virtual and own < last:
            spans.append(Span(device, rank, number, "wait", f"rank {entered.index(last)}", own * MS, last * MS))
        first = last if virtual else own
        spans.append(Span(device, rank, number, "collective", "bucket 0", first * MS, (last + LINK_MS) * MS, 500))
    return spans


@pytest.mark.parametrize("virtual", [False, True], ids=["wall", "virtual"])
def test_the_late_rank_is_blamed_and_not_those_with_the_long_collectives(virtual: bool) -> None:
    found = find([step(number, [10, 20, 11], virtual=virtual) for number in range(4)], 3)
    assert found is not None
    assert found.rank == 1
    assert found.late_ns == 9 * MS
    assert found.waits_ns == {0: 10 * MS, 2: 9 * MS}
    assert found.collective_ns == {0: 12 * MS, 1: 2 * MS, 2: 11 * MS}
    assert found.computation == pytest.approx(20 / 10.5)
    assert str(found) == "rank 1 is late by 9.0 ms a step (1.9x the others' computation); ranks 0 and 2 wait for it"


def test_a_rank_that_is_late_without_computing_for_longer_has_a_slow_link() -> None:
    found = find([step(number, [10, 10], begins_ms=[0, 6]) for number in range(4)], 2)
    assert str(found) == (
        "rank 1 is late by 6.0 ms a step, though it computes no longer than the others: look at its link; "
        "rank 0 waits for it"
    )


def test_time_in_which_a_rank_computes_is_no_waiting() -> None:
    """Rank 0's all-reduce lies open for 10 ms, beside 4 ms of its own backward."""
    steps = [
        [
            Span("vgpu:0", 0, n, "backward", "fc2", (n * 100) * MS, (n * 100 + 10) * MS),
            Span("vgpu:0", 0, n, "collective", "bucket 0", (n * 100 + 10) * MS, (n * 100 + 22) * MS),
            Span("vgpu:0", 0, n, "backward", "fc1", (n * 100 + 10) * MS, (n * 100 + 14) * MS),
            Span("vgpu:1", 1, n, "backward", "fc2", (n * 100) * MS, (n * 100 + 20) * MS),
            Span("vgpu:1", 1, n, "collective", "bucket 0", (n * 100 + 20) * MS, (n * 100 + 22) * MS),
        ]
        for n in range(4)
    ]
    found = find(steps, 2)
    assert found is not None
    assert found.waits_ns == {0: 6 * MS}


@pytest.mark.parametrize(
    "computing",
    [
        pytest.param([[10, 10]] * 6, id="nobody is late"),
        pytest.param([[100, 104]] * 6, id="late by less than a tenth of a step"),
        pytest.param([[10, 20], [20, 10]] * 3, id="now one, now the other"),
        pytest.param([[10, 90], [10, 10], [10, 10], [10, 10]], id="late once"),
        pytest.param([[10, 20]] * 2, id="too few steps to tell"),
    ],
)
def test_nobody_is_blamed_without_need(computing: list[list[int]]) -> None:
    assert find([step(number, each) for number, each in enumerate(computing)], 2) is None


def test_steps_with_ranks_in_different_collectives_are_left_out() -> None:
    """As while the ranks' buckets are laid out anew, or when one has left out an all-reduce."""
    odd = [span for span in step(9, [10, 50]) if not (span.rank == 1 and span.kind == "collective")]
    assert find([odd] * 5, 2) is None
    found = find([odd, *(step(number, [10, 20]) for number in range(3))], 2)
    assert found is not None
    assert found.late_ns == 10 * MS


def test_a_state_tells_who_is_late_now() -> None:
    state = RunState()
    devices = tuple(DeviceInfo(f"rank {rank} · cpu", "CPU", 1, False, rank) for rank in range(2))
    state.apply(RunStarted("id", {}, devices, "wall", None, "Net", 60, {}))  # type: ignore[arg-type]
    state.apply(GroupJoined(2, "gloo", 1, ()))
    assert state.straggler is None

    def go(steps: range, computing: list[int]) -> None:
        for number in steps:
            state.apply_all(step(number, computing))
            state.apply_all([StepFinished(number, rank, 1.0, 32, 0.1, (number + 1) * 100 * MS) for rank in range(2)])

    go(range(10), [10, 10])
    assert state.straggler is None
    go(range(10, 30), [30, 10])
    assert isinstance(state.straggler, Straggler)
    assert (state.straggler.rank, state.straggler.late_ns) == (0, 20 * MS)
    go(range(30, 60), [10, 10])
    assert state.straggler is None
