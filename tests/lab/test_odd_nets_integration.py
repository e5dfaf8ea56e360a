"""Nets unlike those of the registry in worker processes: ranks, evaluation, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lab
from lab.events import Placed
from lab.run import Run
from tests.lab import odd_nets
from tests.lab.group_runs import losses, plain_losses, run

pytestmark = pytest.mark.usefixtures("no_leaks")
STEPS, BATCH = 3, 16
PLACED = {"devices": "vgpu:0,vgpu:1,vgpu:2,vgpu:3", "world_size": 2, "placement": "even"}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (odd_nets.ItsOwn, {"devices": "vgpu:0,vgpu:1"}),
        (odd_nets.NoLayers, {"devices": "vgpu:0,vgpu:1"}),
        (odd_nets.Types, {"devices": "vgpu:0,vgpu:1"}),
        (odd_nets.Tied, PLACED),
        (odd_nets.Structures, PLACED),
    ],
)
def test_ranks_learn_what_a_plain_loop_learns(kind: type[nn.Module], fields: dict[str, Any]) -> None:
    events = run(kind, strategy="ddp", steps=STEPS, batch_size=BATCH, data="mnist", **fields)
    torch.manual_seed(0)
    coarse = kind is odd_nets.Types  # bfloat16 has three digits
    assert losses(events) == pytest.approx(plain_losses(kind(), "mnist", STEPS, BATCH), abs=5e-4 if coarse else 5e-6)


class Wide(nn.Module):
    """Few parameters and many activations: 50 kB for an image and layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16 * 784, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv2(F.relu(self.conv1(x)))).flatten(1))


class WiderInEvaluation(Wide):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.training else x.repeat(16, 1, 1, 1))[: len(x)]


def short(net: Any, **fields: Any) -> Run:
    return lab.start(lab.Experiment(devices=["vgpu:0"], data="mnist", steps=1, batch_size=32, **fields), net=net)


def test_what_fits_in_training_fits_in_evaluation_and_makes_the_peak() -> None:
    # A batch of 32 keeps four tensors of 1.6 MB, and evaluating 64 at once would have two of 3.2 MB beside each other.
    with short(Wide, memory_mb=14) as started:
        assert started.result().accuracy is not None
    memory = started.state.memory["vgpu:0"]
    assert 4 * 32 * 16 * 784 * 4 < memory.peak < 14e6


def test_an_evaluation_that_runs_out_of_memory_says_where_it_was() -> None:
    with short(WiderInEvaluation, memory_mb=14) as started:
        started.wait()
    failure = started.state.failure
    assert failure is not None
    assert failure.cause.startswith("OutOfMemoryError: in the evaluation on the test split, 32 samples at once: ")
    assert "smaller batch" in failure.advice


def test_patterns_without_effect_are_told_and_what_moved_is_measured() -> None:
    placement = {"conv1": "vgpu:0", "*": "vgpu:1", "fc*": "vgpu:0"}
    experiment = lab.Experiment(strategy="model_parallel", placement=placement, steps=2, batch_size=8)
    with lab.start(experiment) as started:
        (placed,) = [event for event in started if isinstance(event, Placed)]
    assert placed.reason == "As given; but 'fc*' never applies, since '*' before it matches first."
    assert not started.state.crossing_is_forecast
    assert started.state.crossing_bytes == 2 * 4 * 8 * 10 * 12 * 12
