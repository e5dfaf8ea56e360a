"""Several ranks' batches as one story, and the ranks held against each other."""

from __future__ import annotations

from lab.events import DeviceInfo, GroupJoined, ParametersSummed, RunStarted, StepFinished
from lab.workers.inbox import Inbox


def started() -> RunStarted:
    devices = tuple(DeviceInfo(f"rank {rank} · cpu", "CPU", 1, False, rank) for rank in range(3))
    return RunStarted("id", {}, devices, "wall", None, "Net", 10, {})  # type: ignore[arg-type]


def inbox() -> Inbox:
    opened = Inbox()
    opened.take(0, [started(), GroupJoined(3, "gloo", 1, ("conv.weight", "conv.bias", "fc.weight"))])
    return opened


def test_what_comes_before_rank_0_says_what_the_run_is_waits_for_it() -> None:
    opened, step = Inbox(), StepFinished(0, 1, 1.0, 32, 0.1, 100)
    assert opened.take(1, [step]) == []
    first = started()
    assert opened.take(0, [first]) == [first, step]


def test_equal_sums_are_no_divergence_in_whatever_order_they_come() -> None:
    opened = inbox()
    for step, rank in [(0, 0), (1, 0), (0, 2), (0, 1), (1, 1), (1, 2)]:
        opened.take(rank, [ParametersSummed(step, rank, (step, 5, 9))])
    assert opened.divergence is None


def test_the_rank_that_differs_from_most_its_step_and_the_first_parameter() -> None:
    opened = inbox()
    for rank in range(3):
        opened.take(rank, [ParametersSummed(0, rank, (1, 2, 3)), ParametersSummed(1, rank, (4, 5 + (rank == 0), 7))])
    found = opened.divergence
    assert found is not None
    assert (found.rank, found.step, found.parameter) == (0, 1, "conv.bias")
    assert str(found) == "rank 0's parameters differ from the others' since step 1, first in conv.bias"


def test_the_first_divergence_stays() -> None:
    opened = inbox()
    for step in range(3):
        for rank in range(3):
            opened.take(rank, [ParametersSummed(step, rank, (1, 2, 3 + (rank == 2)))])
    assert opened.divergence is not None
    assert opened.divergence.step == 0


def test_a_rank_that_has_not_summed_up_yet_is_waited_for() -> None:
    opened = inbox()
    opened.take(0, [ParametersSummed(0, 0, (1, 2, 3))])
    opened.take(1, [ParametersSummed(0, 1, (1, 2, 4))])
    assert opened.divergence is None
