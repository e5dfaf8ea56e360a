"""Speed-up and efficiency, from runs whose steps take round times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.events import Clock, GroupJoined, StepFinished
from lab.scaling import scaling
from lab.state import RunState
from tests.lab import rank_events as made


def run(world_size: int, seconds: float, batch_size: int = 64, clock: Clock = "wall") -> RunState:
    state = RunState()
    begun = made.started()
    state.apply(replace(begun, experiment={**begun.experiment, "batch_size": batch_size}, clock=clock))
    state.apply(GroupJoined(world_size, "gloo", 1, ()))
    for rank in range(world_size):
        state.apply(StepFinished(0, rank, 1.0, batch_size // world_size, seconds, round(seconds * 1e9)))
    return state


def test_by_hand() -> None:
    rows = scaling([run(4, 0.004), run(1, 0.008), run(2, 0.005)])
    assert [row.world_size for row in rows] == [1, 2, 4]
    assert [row.samples_per_second for row in rows] == pytest.approx([8_000, 12_800, 16_000])
    assert [row.speedup for row in rows] == pytest.approx([1, 1.6, 2])
    assert [row.efficiency for row in rows] == pytest.approx([1, 0.8, 0.5])


def test_without_a_run_of_one_rank_the_fewest_are_the_yardstick() -> None:
    rows = scaling([run(2, 0.008), run(4, 0.004), RunState()])
    assert [(row.world_size, row.speedup, row.efficiency) for row in rows] == [(2, 1, 1), (4, 2, 1)]
    assert scaling([]) == []


@pytest.mark.parametrize(
    ("other", "what"), [(run(2, 0.1, clock="virtual"), "clock"), (run(2, 0.1, batch_size=32), "batch_size")]
)
def test_what_cannot_be_compared_is_not(other: RunState, what: str) -> None:
    with pytest.raises(ValueError, match=f"different {what}"):
        scaling([run(1, 0.1), other])
