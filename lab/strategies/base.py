"""What every strategy does, and what several of them share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lab._torch_compat import run_backward
from lab.events import PlacementGraph
from lab.experiment import Experiment
from lab.layers import LayerHooks
from lab.timing.recorder import Recorder
from lab.workers.control import GatePhase
from lab.workers.group import Group
from lab.workers.injector import Injector


@dataclass(frozen=True, slots=True)
class Job:
    """All that a strategy needs to train."""

    experiment: Experiment
    net: nn.Module
    """On the CPU, freshly initialised."""
    placement: dict[str, str]
    """Layer path -> device, in the order in which the net runs the layers."""
    graph: PlacementGraph | None
    recorder: Recorder
    group: Group | None = None
    """The ranks that train together; None for one that trains alone."""
    enter: Callable[[GatePhase], None] = lambda phase: None
    """Call it at the start of each phase of a step: there the run can be paused, and faults happen."""
    injector: Injector | None = None
    """What is to go wrong in this rank's collectives."""


class Strategy(Protocol):
    """A way to train. It moves the net to its devices when it is made, and then trains step by step."""

    net: nn.Module
    """What is trained, on its devices."""
    optimizer: torch.optim.Optimizer

    def __init__(self, job: Job) -> None: ...

    def train_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One optimizer step on a global batch that lies on the CPU; returns its mean loss, still on its device."""

    def predict(self, inputs: Tensor) -> Tensor:
        """The net's output for a batch that lies on the CPU, without gradients."""


def make_optimizer(experiment: Experiment, net: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the Experiment names, over the net's parameters where they are now."""
    match experiment.optimizer:
        case "adam":
            return torch.optim.Adam(net.parameters(), lr=experiment.lr)
        case "adamw":
            return torch.optim.AdamW(net.parameters(), lr=experiment.lr)
        case _:
            return torch.optim.SGD(net.parameters(), lr=experiment.lr, momentum=experiment.momentum)


def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the batch, and over the tokens of a text.

    Args:
        outputs: (B, C), or (B, T, C) for tokens.
        targets: (B,), or (B, T).
    """
    if outputs.dim() > 2:
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())
    return F.cross_entropy(outputs, targets)


def backward(loss: Tensor, mode: TorchFunctionMode | None) -> None:
    """`loss.backward()`, within a mode that sees what a checkpoint computes again meanwhile."""
    if mode is None:
        loss.backward()
        return
    with mode:
        run_backward(loss)


def layer_hooks(job: Job) -> LayerHooks:
    """Has the recorder told of the turns of the net's layers."""
    job.recorder.placement = job.placement
    count_flops(job)
    return LayerHooks(job.net, list(job.placement), job.recorder)


def count_flops(job: Job, copies: int = 1) -> None:
    """Has each span carry its layer's FLOPs, a part of them where so many copies of the net share a batch."""
    for node in job.graph.nodes if job.graph is not None else ():
        job.recorder.flops["forward", node.name] = node.forward_flops // copies
        job.recorder.flops["backward", node.name] = node.backward_flops // copies


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients; afterwards every module is in the mode in which it was."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


class _Transfer(torch.autograd.Function):
    """A copy to another device: the tensor goes there in forward, its gradient comes back in backward."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, device: str, recorder: Recorder) -> Tensor:
        ctx.source, ctx.recorder = str(tensor.device), recorder
        with recorder.transfer(ctx.source, device, tensor.nbytes):
            return tensor.to(device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        with ctx.recorder.transfer(str(gradient.device), ctx.source, gradient.nbytes):
            return gradient.to(ctx.source), None, None


_device = functools.cache(torch.device)
"""Parsing a device's name anew costs more than comparing it."""


def transfer(tensor: Tensor, device: str, recorder: Recorder) -> Tensor:
    """The tensor on `device`, recorded as a transfer if it was elsewhere; gradients come back the same way."""
    if tensor.device == _device(device):
        return tensor
    moved: Tensor = _Transfer.apply(tensor, device, recorder)  # type: ignore[no-untyped-call]
    return moved
