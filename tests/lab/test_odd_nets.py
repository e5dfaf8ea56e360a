"""Nets unlike those of the registry, under every strategy of one process, against plain PyTorch loops on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.lab import odd_nets
from tests.lab.driven import SPECS, Run, plain_loop, some_batches

TWO = ["vgpu:0", "vgpu:1"]
STEPS = some_batches(SPECS["net"], 8)


pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated"),
    pytest.mark.filterwarnings("ignore:`torch.jit.trace"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True"),  # a checkpoint, in evaluation
]
PARTS_DIFFER = (odd_nets.Lazy, odd_nets.OnAValue, odd_nets.Packed)
"""What computes something else of half a batch: batch norm, a mean over the samples, their places in the batch."""
FORECAST_IS_ROUGH = (odd_nets.UsesWeights, odd_nets.OnAValue, odd_nets.Packed)
"""Where besides what the graph has something small moves: labels to where the output is, and indices."""
ONE_IS_ENOUGH = (odd_nets.UsesWeights,)
"""All its arithmetic is done where its inputs are, so that balancing times leaves a device empty."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def expected(kind: type[nn.Module]) -> list[float]:
    return plain_loop(made(kind), STEPS)


@pytest.mark.parametrize("kind", [each for each in odd_nets.PLACED if each is not odd_nets.Constants])
def test_on_one_device(kind: type[nn.Module]) -> None:
    run = Run(made(kind), STEPS, {"*": "vgpu:0"}, strategy="single")
    assert run.train(STEPS) == pytest.approx(expected(kind), abs=2e-6)


@pytest.mark.parametrize("kind", odd_nets.WHOLE)
@pytest.mark.parametrize("strategy", ["single", "model_parallel"])
def test_what_belongs_to_the_net_itself_goes_to_its_one_device(kind: type[nn.Module], strategy: str) -> None:
    run = Run(made(kind), STEPS, {"*": "vgpu:1"}, strategy=strategy)
    assert run.train(STEPS) == pytest.approx(expected(kind), abs=2e-6)
    assert {str(tensor.device) for tensor in (*run.net.parameters(), *run.net.buffers())} == {"vgpu:1"}
    assert run.spans(1, "forward")
    assert run.spans(1, "backward")


def test_scripted_layers_train_and_are_traced() -> None:
    run = Run(made(odd_nets.Scripted), STEPS, {"*": "cpu"})
    assert run.train(STEPS) == expected(odd_nets.Scripted)
    assert [span.name for span in run.spans(1, "forward")] == ["first", "last"]


@pytest.mark.parametrize("kind", odd_nets.PLACED)
@pytest.mark.parametrize("method", ["even", "auto"])
def test_on_two_devices(kind: type[nn.Module], method: str) -> None:
    fields = {"hardware": "t4"} if method == "auto" else {}
    run = Run(made(kind), STEPS, method, devices=TWO, **fields)
    assert run.train(STEPS) == pytest.approx(expected(kind), abs=2e-6)
    moved = [span for span in run.spans(1, "transfer") if {span.device, span.peer} == set(TWO)]
    if kind not in FORECAST_IS_ROUGH:
        assert sum(span.bytes for span in moved) == run.graph.crossing_bytes
    assert set(run.placement.values()) == set(TWO) or (method == "auto" and kind in ONE_IS_ENOUGH)
    run.strategy.predict(STEPS[0][0])


# Dynamo looks whether a tensor has a gradient, also one of a replica, which is no leaf; it hides the warning, but not
# from those for whom warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("kind", sorted({*odd_nets.PLACED, *odd_nets.WHOLE} - {odd_nets.Constants}, key=str))
def test_copies_on_two_devices(kind: type[nn.Module]) -> None:
    run = Run(made(kind), STEPS, {"*": "vgpu:0"}, devices=TWO, strategy="data_parallel")
    losses = run.train(STEPS)
    if kind not in PARTS_DIFFER:
        assert losses == pytest.approx(
            expected(kind), abs=5e-4 if kind in (odd_nets.Autocast, odd_nets.Types) else 1e-5
        )
