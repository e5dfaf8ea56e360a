"""Checks of notebook 04: model parallelism. The second one is in `placed_net`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from lab.exercises import placed_net as placed_net
from lab.exercises import reading
from lab.exercises.grading import Wrong, call, exercise
from lab.exercises.watching import Operations

TOLERANCE = 1e-4
BATCHES = (8, 5, 7)
"""Samples of the steps that are made one after the other."""
OPTIMIZERS: tuple[tuple[str, Callable[[Any], Optimizer]], ...] = (
    ("SGD with lr=0.1 and momentum", lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)),
    ("SGD with lr=0.3", lambda parameters: torch.optim.SGD(parameters, lr=0.3)),
    ("Adam with lr=0.02", lambda parameters: torch.optim.Adam(parameters, lr=0.02)),
)


class _Cut(nn.Module):
    """A small net on two devices, whose output is on the second. It counts its forwards."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.first, self.second, self.forwards = first, second, 0
        self.body, self.head = nn.Linear(6, 4).to(first), nn.Linear(4, 3).to(second)

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        hidden = torch.relu(self.body(x.to(self.first)))
        output: Tensor = self.head(hidden.to(self.second))
        return output


@dataclass
class _OneDevice:
    """The same training on one device."""

    net: _Cut
    optimizer: Optimizer
    gradient: Tensor
    """Of the last step."""
    added: Tensor
    """Those of all steps so far."""
    loss: float = 0.0

    def step(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(x), y)
        loss.backward()
        self.loss, self.gradient = loss.item(), _gradient(self.net)
        self.added = self.added + self.gradient
        self.optimizer.step()


@exercise(
    "04-step",
    todo="Mend the training step, so that it works wherever the net puts its output.",
    hints=(
        "Which two tensors does the loss need, and on which device is each of them?",
        "A tensor knows where it is: `output.device`.",
        "Bring the targets to where the output is: `y.to(output.device)`.",
    ),
)
def step(answer: Any, devices: Sequence[Any]) -> str:
    """A training step that follows the output's device, held against the same steps on one device."""
    first, second = (reading.device(device) for device in devices[:2])
    places = ((first, second), (second, first), (first, torch.device("cpu")))
    for seed, (place, (name, make)) in enumerate(zip(places, OPTIMIZERS, strict=True)):
        torch.manual_seed(seed)
        net = _Cut(*place)
        alone = copy.deepcopy(net).to("cpu")
        alone.first = alone.second = torch.device("cpu")
        none = torch.zeros(sum(parameter.numel() for parameter in net.parameters()))
        reference = _OneDevice(alone, make(alone.parameters()), none, none)
        optimizer = make(net.parameters())
        for number, samples in enumerate(BATCHES, 1):
            case = f"Here the net's output is on {place[1]}. In step {number}, by {name}"
            _one(answer, net, optimizer, reference, (torch.randn(samples, 6), torch.randint(3, (samples,))), case)
    return "It makes the steps that one device makes, whichever device the output is on."


def _one(
    answer: Any, net: _Cut, optimizer: Optimizer, reference: _OneDevice, data: tuple[Tensor, Tensor], case: str
) -> None:
    """One step of the answer's, and one of the reference's."""
    x, y = data
    places = (net.first, net.second)
    before, forwards, steps = _flat(net), net.forwards, list[Tensor]()
    # After the step, since a closure computes the gradients inside it.
    hook = optimizer.register_step_post_hook(lambda *arguments: steps.append(_gradient(net)))
    about: dict[type[Exception], str] = {RuntimeError: f"Here the net's output is on {net.second}."}
    with Operations() as watch:
        got = call(answer, net, optimizer, x.clone(), y.clone(), about=about)
    hook.remove()
    returned = reading.number(got, asked=f"{case}, one number, the loss,")
    if watch.refused:
        raise Wrong(f'{case}, a call was refused, and it went on with something else: "{watch.refused[0]}".')
    if net.forwards == forwards:
        raise Wrong(f"{case}, the net that it is given was never called.")
    _in_place(net, places, watch, case)
    reference.step(x, y)
    _same_loss(returned, reference, data, case)
    _same_update(net, before, steps, reference, case)


def _in_place(net: _Cut, places: tuple[torch.device, torch.device], watch: Operations, case: str) -> None:
    """Raises:
    Wrong: when layers, or what they computed, are on another device than the net's own.
    """
    for layer, device in zip(("body", "head"), places, strict=True):
        for name, parameter in net.get_submodule(layer).named_parameters():
            if parameter.device != device:
                raise Wrong(f"{case}, {layer}.{name} has gone to {parameter.device}; the net has it on {device}.")
    results = watch.of_layers("linear")
    elsewhere = [device for number, device in enumerate(results) if device != places[number % 2]]
    if elsewhere:
        raise Wrong(
            f"{case}, a layer's result was computed on {elsewhere[0]}; the net's layers are on {places[0]} and "
            f"{places[1]}."
        )


def _same_loss(returned: float, reference: _OneDevice, data: tuple[Tensor, Tensor], case: str) -> None:
    """To be called when the reference has made its step."""
    x, y = data
    if _close(returned, reference.loss):
        return
    later = F.cross_entropy(reference.net(x), y).item()
    what = ""
    if _close(returned, len(x) * reference.loss):
        what = ": it is the sum over the samples"
    elif _close(returned, later):
        what = ": it is the loss after the step"
    raise Wrong(f"{case}, the loss is {reference.loss:.4f}, and it returns {returned:.4f}{what}.")


def _same_update(net: _Cut, before: Tensor, steps: list[Tensor], reference: _OneDevice, case: str) -> None:
    """Raises:
    Wrong: unless the given optimizer has made one step, with this step's gradients.
    """
    moved = not torch.equal(_flat(net), before)
    if not steps:
        if moved:
            raise Wrong(f"{case}, the parameters have changed, but the optimizer that it is given has made no step.")
        there = "the gradients are there, but" if bool(_gradient(net).any()) else "there are no gradients, and"
        raise Wrong(f"{case}, {there} no step was made: the parameters are where they were.")
    if len(steps) > 1:
        raise Wrong(f"{case}, the optimizer has made {len(steps)} steps in place of one.")
    found = steps[0]
    if not bool(found.any()):
        raise Wrong(f"{case}, there was no gradient when the optimizer made its step: all were None or 0.")
    if not torch.allclose(found, reference.gradient, rtol=1e-3, atol=TOLERANCE):
        if torch.allclose(found, reference.added, rtol=1e-3, atol=TOLERANCE):
            raise Wrong(f"{case}, the gradients are still those of the steps before, with this step's added to them.")
        ratio = float(found @ reference.gradient / (reference.gradient @ reference.gradient))
        if torch.allclose(found, ratio * reference.gradient, rtol=1e-3, atol=TOLERANCE):
            raise Wrong(f"{case}, the gradients are {ratio:.3g} times those of one device.")
        away = float((found - reference.gradient).abs().max())
        raise Wrong(f"{case}, the gradients are {away:.2g} away from those of one device.")
    away = float((_flat(net) - _flat(reference.net)).abs().max())
    if away > TOLERANCE:
        raise Wrong(
            f"{case}, the gradients are right, but the parameters are {away:.2g} away from those of one device."
        )


def _flat(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().cpu().flatten() for parameter in net.parameters()]).clone()


def _gradient(net: nn.Module) -> Tensor:
    """Of all parameters, as a copy on the CPU; 0 where there is none."""
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in net.parameters()]
    return torch.cat([each.detach().cpu().flatten() for each in gradients]).clone()


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= TOLERANCE * max(1.0, abs(b))
