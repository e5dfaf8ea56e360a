"""What is found out in a run's last moments is told: a run whose ranks hold different nets has not gone well."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import lab
from tests.lab.workers.cases import experiment

pytestmark = pytest.mark.usefixtures("no_leaks")
PATIENCE = 60.0


class Strays(nn.Module):
    """Rank 1 changes a number of its own in one step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(784, 16), nn.Linear(16, 10)
        self.step, self.seen = step, 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.device.type != "meta" and dist.is_initialized():
            if dist.get_rank() == 1 and self.seen == self.step:
                with torch.no_grad():
                    self.last.bias[0] += 1
            self.seen += 1
        return self.last(F.relu(self.first(x.flatten(1))))


def trained(where: str, world_size: int, step: int, **fields: Any) -> lab.Run:
    with lab.start(experiment(where, world_size, **fields), net=Strays(step)) as run:
        assert run.wait(PATIENCE)
    return run


@pytest.mark.parametrize(
    ("where", "world_size", "step", "steps"),
    [("cpu", 2, 3, 20), ("cpu", 2, 0, 1), ("cpu", 3, 5, 6), ("vgpu", 2, 2, 3), ("placed", 2, 2, 3)],
)
def test_ranks_that_differ_at_the_end_of_a_short_run(where: str, world_size: int, step: int, steps: int) -> None:
    run = trained(where, world_size, step, steps=steps)
    assert run.state.status == "failed"
    assert run.state.failure.cause == (
        f"rank 1's parameters differ from the others' since step {step}, first in last.bias"
    )
    with pytest.raises(lab.RunError, match="differ"):
        run.result()


def test_ranks_that_differ_when_a_run_is_stopped() -> None:
    """Nothing is reported before the stop: it comes while the ranks are in their first steps."""
    with lab.start(experiment("cpu", epochs=1000), net=Strays(0)) as run:
        run.wait(PATIENCE, until=lambda state: state.started is not None)
        run.stop()
        assert run.wait(PATIENCE)
    # A run that was stopped before its first step has nothing that differs.
    assert run.state.status == ("failed" if run.state.step else "stopped")
    if run.state.step:
        assert "differ from the others' since step 0" in run.state.failure.cause


@pytest.mark.parametrize("where", ["cpu", "vgpu"])
@pytest.mark.parametrize(("fault", "steps"), [("skip:1:0", 5), ("skip:0:3", 20), ("skip:1:4", 5), ("skip:2:4", 5)])
def test_a_left_out_all_reduce_is_told_of_its_own_step(where: str, fault: str, steps: int) -> None:
    _, rank, step = fault.split(":")
    with lab.start(experiment(where, 3 if rank == "2" else 2, steps=steps, faults=[fault])) as run:
        assert run.wait(PATIENCE)
    failure = run.state.failure
    assert failure.rank == int(rank)
    assert re.match(
        rf"rank {rank} left out (an|the) all-reduce .*in step {step}\b|.*an all-reduce in step {step}\b", failure.cause
    )


@pytest.mark.parametrize(("fault", "world_size"), [("wrong_shape:1:0", 2), ("wrong_shape:0:1", 2), ("kill:1:4", 2)])
def test_the_first_and_the_last_step_are_told_right(fault: str, world_size: int) -> None:
    _, rank, step = fault.split(":")
    with lab.start(experiment("placed", world_size, steps=5, faults=[fault])) as run:
        assert run.wait(PATIENCE)
    failure = run.state.failure
    assert failure.rank == int(rank)
    assert f"step {step}" in failure.cause
