"""Checks of notebook 04: model parallelism."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.exercises.grading import Wrong, call, exercise

TOLERANCE = 1e-5
LR = 0.1


class _Cut(nn.Module):
    """A small net on two devices, whose output is on the second."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.body, self.head = nn.Linear(6, 4).to(first), nn.Linear(4, 3).to(second)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.body(x.to(self.first)))
        output: Tensor = self.head(hidden.to(self.second))
        return output


@exercise("04-step", todo="Mend the training step.")
def step(answer: Any, devices: Sequence[str]) -> str:
    """A training step that follows the output's device, held against the same step on the CPU."""
    x, y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    for first, second in ((devices[0], devices[1]), (devices[1], devices[0])):
        torch.manual_seed(0)
        net = _Cut(first, second)
        alone = _on_cpu(net)
        loss = F.cross_entropy(alone(x), y)
        loss.backward()
        torch.optim.SGD(alone.parameters(), lr=LR).step()

        where = f"the net's output is on {second}"
        about: dict[type[Exception], str] = {
            RuntimeError: f"Here {where}. Ask the output where it is, and send the targets there."
        }
        got = call(answer, net, torch.optim.SGD(net.parameters(), lr=LR), x, y, about=about)
        if not isinstance(got, float) or abs(got - loss.item()) > TOLERANCE:
            raise Wrong(f"{where}: it should return the loss, {loss.item():.4f}; it returned {got!r}")
        theirs = zip(_on_cpu(net).parameters(), alone.parameters(), strict=True)
        if (apart := max(float((a - b).detach().abs().max()) for a, b in theirs)) > TOLERANCE:
            raise Wrong(f"{where}: after the step its parameters are {apart:.2g} away from those of one device")
    return "It makes the step that one device makes, whichever device the output is on."


@exercise("04-anywhere", todo="Let the net take its two devices: Anywhere(first, second).")
def anywhere(answer: Any, devices: Sequence[str]) -> str:
    """A net that runs on any two devices, and computes what it computes on one."""
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    takes = "The class is called with two devices: def __init__(self, first, second)."
    outputs = []
    for first, second in ((devices[0], devices[1]), (devices[1], devices[0]), ("cpu", "cpu")):
        torch.manual_seed(0)
        net = call(answer, first, second, about={TypeError: takes})
        if not isinstance(net, nn.Module):
            raise Wrong(f"give the class of the net; what it makes is a {type(net).__name__}, not an nn.Module")
        wanted = {"conv1": first, "conv2": first, "fc1": second, "fc2": second}
        for layer, device in wanted.items():
            if (found := _device(net, layer)) != torch.device(device):
                raise Wrong(f"Anywhere({first!r}, {second!r}) has {layer} on {found}, and it belongs on {device}")
        crossing = f"With first={first} and second={second}: bring x to where the next layer is."
        output = call(net, x, about={RuntimeError: crossing})
        if not isinstance(output, Tensor) or output.shape != (4, 10):
            raise Wrong("four images should give a tensor of shape (4, 10)")
        outputs.append(output.detach().cpu())
    if max(float((output - outputs[-1]).abs().max()) for output in outputs) > TOLERANCE:
        raise Wrong("with the same parameters it computes something else on two devices than on one")
    return f"It runs on {devices[0]} and {devices[1]}, the other way round, and on the CPU, with the same results."


def _device(net: nn.Module, layer: str) -> torch.device:
    try:
        return next(net.get_submodule(layer).parameters()).device
    except (AttributeError, StopIteration):
        raise Wrong(f"the net has no layer {layer} any more: keep conv1, conv2, fc1 and fc2") from None


def _on_cpu(net: _Cut) -> _Cut:
    """A copy of it with all layers on the CPU."""
    alone = copy.deepcopy(net).to("cpu")
    alone.first = alone.second = "cpu"
    return alone
