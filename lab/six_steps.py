"""One step of data parallelism in slow motion, with every rank's tensors to look at.

    theta <- theta - eta * (1/N) * sum_i grad L_i(theta)

or, with momentum mu, whose v begins as 0 (torch.optim.SGD's formula),

    v <- mu * v + (1/N) * sum_i grad L_i(theta),    theta <- theta - eta * v

Split the data, copy the model, compute gradients locally, synchronise, update, repeat: each is a method here, in plain
PyTorch on the CPU, with the parameters and the first batch that a run of the same Experiment has. With one rank it is a
step on one device, or of model parallelism, whose devices each update what they hold by the same formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lab import data, placement
from lab.errors import ExperimentError, LabError, Problem
from lab.experiment import Experiment
from lab.layers import layer_paths, tied
from lab.own_nets import copy_of, input_dtype, materialise, to_dtype
from lab.schedule import schedule
from lab.strategies.base import loss_function

NAMES = ("split", "copy", "gradients", "synchronise", "update", "repeat")
"""The six steps, in their order."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a step did to one parameter: both sides of the formula."""

    name: str
    device: str
    """Where the parameter lives; with copies, on every rank."""
    before: Tensor
    gradients: tuple[Tensor, ...]
    """Of each rank's own loss."""
    mean: Tensor
    velocity: Tensor
    """mu * velocity of the step before + mean, computed here: in the first step, or without momentum, the mean."""
    formula: Tensor
    """before - eta * velocity, computed here."""
    after: Tensor
    """What the optimizer made of the parameter."""

    @property
    def difference(self) -> float:
        """Between the two sides, the largest over the parameter's values."""
        return float((self.formula - self.after).abs().max()) if self.after.numel() else 0.0


class SixSteps:
    """The six steps, to be done one after another; `done` counts them.

    Args:
        net: a module of the user's, or what makes one, where the Experiment names one. It is left as it is.

    Raises:
        ExperimentError: for an optimizer other than SGD, whose formula is another one.
    """

    def __init__(self, experiment: Experiment, net: Any = None) -> None:
        if experiment.optimizer != "sgd":
            text = f"{experiment.optimizer!r} updates by another formula than theta - eta * gradient; use 'sgd'"
            raise ExperimentError([Problem("optimizer", text)])
        from lab.training import build_net

        self.experiment = experiment
        self.ranks = _copies(experiment)
        self.done = 0
        """Steps done since the last repetition."""
        self.round = 0
        """Repetitions."""
        dtype = getattr(torch, experiment.dtype)
        with torch.random.fork_rng(devices=[]):
            built = build_net(experiment, copy_of(net) if isinstance(net, nn.Module) else net)
            self._dataset = data.load(experiment.data or "mnist")
            materialise(built, self._dataset.train_inputs[:2])
        self.net = to_dtype(built, dtype)
        """The model that is copied: on rank 0."""
        self._dtype = input_dtype(self.net, dtype)
        self._dealt = _Dealer(experiment, len(self._dataset.train_inputs), self.ranks)
        self._optimizers: list[torch.optim.SGD] = []
        self.indices: list[Tensor] = []
        """Of the samples of each rank's share."""
        self.copies: list[nn.Module] = []
        self.losses: list[float] = []
        """Of each rank, over its share."""
        self.before: dict[str, Tensor] = {}
        self.gradients: list[dict[str, Tensor]] = []
        """Of each rank, by the parameter's name."""
        self.mean: dict[str, Tensor] = {}
        self.velocity: dict[str, Tensor] = {}
        """What the step takes off, times eta: the gradients' mean, with momentum those of the steps before too."""
        self.after: dict[str, Tensor] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters that are trained."""
        return tuple(name for name, parameter in self.net.named_parameters() if parameter.requires_grad)

    def advance(self) -> str:
        """Does the next of the six steps; its name."""
        name = NAMES[self.done]
        getattr(self, f"_{name}")()
        self.done = (self.done + 1) % len(NAMES)
        return name

    def finish(self) -> None:
        """Does what is left up to the update."""
        while self.done < NAMES.index("repeat"):
            self.advance()

    def updates(self) -> list[Update]:
        """What the step did to each parameter.

        Raises:
            LabError: before the update.
        """
        if not self.after:
            raise LabError("nothing has been updated yet: do the steps up to the update first")
        devices = self._devices()
        return [
            Update(
                name,
                devices.get(name, self.experiment.devices[0]),
                self.before[name],
                tuple(gradients[name] for gradients in self.gradients),
                self.mean[name],
                self.velocity[name],
                self.before[name] - self.experiment.lr * self.velocity[name],
                self.after[name],
            )
            for name in self.names
        ]

    # -- the six steps -------------------------------------------------------------------------------------------------

    def _split(self) -> None:
        """1. Split the data: every rank gets a share of the batch."""
        self.indices = self._dealt.deal()

    def _copy(self) -> None:
        """2. Copy the model: every rank begins with the same parameters."""
        if not self.copies:
            self.copies = [copy_of(self.net) for _ in range(self.ranks)]
            lr, momentum = self.experiment.lr, self.experiment.momentum
            self._optimizers = [torch.optim.SGD(each.parameters(), lr=lr, momentum=momentum) for each in self.copies]
        self.before = _values(self.copies[0])

    def _gradients(self) -> None:
        """3. Compute gradients locally: forward and backward of every copy on its own share."""
        self.losses, self.gradients = [], []
        for net, indices in zip(self.copies, self.indices, strict=True):
            net.zero_grad()
            inputs, targets = self._dataset.train_inputs[indices], self._dataset.train_targets[indices]
            if inputs.is_floating_point():
                inputs = inputs.to(self._dtype)
            loss = loss_function(net(inputs), targets)
            loss.backward()
            self.losses.append(float(loss.detach()))
            self.gradients.append({name: _gradient(value) for name, value in net.named_parameters()})

    def _synchronise(self) -> None:
        """4. Synchronise: every rank gets the mean of all gradients, as an all-reduce makes it."""
        self.mean = {
            name: torch.stack([gradients[name] for gradients in self.gradients]).mean(0) for name in self.names
        }
        for net in self.copies:
            for name, parameter in net.named_parameters():
                if name in self.mean:
                    parameter.grad = self.mean[name].clone()

    def _update(self) -> None:
        """5. Update: every rank does the same to its copy, so that the copies stay equal."""
        kept = self.experiment.momentum
        self.velocity = {
            name: mean + kept * self.velocity[name] if name in self.velocity else mean
            for name, mean in self.mean.items()
        }
        for optimizer in self._optimizers:
            optimizer.step()
        self.after = _values(self.copies[0])

    def _repeat(self) -> None:
        """6. Repeat, with the next batch. The copies are equal already."""
        self.round += 1

    @property
    def copies_differ_by(self) -> float:
        """The largest difference between any two copies' parameters."""
        first, *others = [_values(net) for net in self.copies] or [{}]
        return max((float((other[name] - first[name]).abs().max()) for other in others for name in first), default=0.0)

    def whole_batch_gradient(self) -> dict[str, Tensor]:
        """What one device computes that has the whole batch, with the parameters from before the update."""
        net = copy_of(self.net)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name in self.before:
                    parameter.copy_(self.before[name])
        indices = torch.cat(self.indices)
        inputs = self._dataset.train_inputs[indices]
        if inputs.is_floating_point():
            inputs = inputs.to(self._dtype)
        loss_function(net(inputs), self._dataset.train_targets[indices]).backward()
        return {name: _gradient(value) for name, value in net.named_parameters()}

    def _devices(self) -> dict[str, str]:
        """Parameter -> its device, where layers are placed."""
        patterns = self.experiment.placement
        if patterns is None or self.ranks > 1:
            return {}
        layers = layer_paths(self.net)
        if isinstance(patterns, Mapping):
            placed = placement.resolve(patterns, layers)
        else:  # what `auto` finds depends on measurements; the formula does not care
            counts = {path: sum(p.numel() for p in self.net.get_submodule(path).parameters()) for path in layers}
            placed = placement.even(counts, self.experiment.devices, tied(self.net, layers))
        return {name: device for name in self.names for path, device in placed.items() if name.startswith(f"{path}.")}


class _Dealer:
    """The shares of each batch, as the runs deal them."""

    def __init__(self, experiment: Experiment, samples: int, copies: int) -> None:
        self._copies = copies
        ranks = experiment.world_size or 1
        self._schedules = [schedule(samples, experiment, rank) for rank in range(ranks)]

    def deal(self) -> list[Tensor]:
        try:
            dealt = [next(each)[1] for each in self._schedules]
        except StopIteration:
            raise LabError("the Experiment's steps are over: begin anew, or give it more") from None
        return dealt if len(dealt) == self._copies else list(dealt[0].chunk(self._copies))


def _copies(experiment: Experiment) -> int:
    """How many copies of the net share a batch."""
    if experiment.strategy == "data_parallel":
        return min(len(experiment.devices), experiment.batch_size)
    return experiment.world_size or 1


def _values(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.named_parameters() if value.requires_grad}


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()
