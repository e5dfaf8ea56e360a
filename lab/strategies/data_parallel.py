"""Data parallelism in one process: every device holds a copy of the whole net and takes a share of the batch.

`train_step` reads like the six steps of the method: split the data, copy the model, compute gradients locally,
synchronise, update, repeat. It does what `nn.DataParallel` does, with its names: scatter, replicate, parallel apply,
gather, and gradients reduced (added up) on the first device. So its costs show too: the first device alone keeps the
parameters, sends them all out at every step, holds every output, computes the loss, and updates.

On CUDA devices it is the real `nn.DataParallel`; `InSixSteps` is the same for virtual GPUs and for any mix of devices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lab.layers import LayerHooks, own_name
from lab.own_nets import without_numbers
from lab.strategies.base import Job, Strategy, count_flops, evaluating, loss_function, make_optimizer, transfer
from lab.timing.recorder import Recorder
from lab.workers.control import GatePhase


class InSixSteps:
    """`nn.DataParallel`, written out. A batch that makes fewer parts than there are devices leaves some idle."""

    def __init__(self, job: Job) -> None:
        self.recorder, self.enter = job.recorder, job.enter
        self.devices = job.experiment.devices
        self.first_device = self.devices[0]
        self.loss_name = own_name("loss", job.placement)
        shells = [without_numbers(job.net) for _ in self.devices]
        self.net = job.net.to(self.first_device)
        self.optimizer = make_optimizer(job.experiment, self.net)

        count_flops(job, copies=len(self.devices))
        self.replicas = [
            Replica(shell, self.net, LayerHooks(shell, list(job.placement), job.recorder.on(device)))
            for shell, device in zip(shells, self.devices, strict=True)
        ]
        # What travels together: the trained parameters of one dtype, and whatever else the net computes with.
        self.trained: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        self.fixed: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        tensors: list[Tensor] = [*self.net.parameters(), *self.net.buffers()]
        for tensor in tensors:
            (self.trained if tensor.requires_grad else self.fixed)[tensor.dtype].append(tensor)

    def train_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        recorder = self.recorder

        # 1. Split the data: a part for each device. The loss is computed on the first, so all targets go there.
        parts = scatter(inputs, self.devices, recorder)
        targets = transfer(targets, self.first_device, recorder)

        # 2. Copy the model, parameters and buffers, to every device that has a part.
        devices, replicas = self.devices[: len(parts)], self.replicas[: len(parts)]
        self.replicate(devices, replicas)

        # 3. Compute gradients locally: forward and backward of each replica on its own part. The devices do it side by
        #    side; only the outputs come together in between, for the loss.
        self.enter("forward")
        self.optimizer.zero_grad()
        outputs = [replica.forward(part) for replica, part in zip(replicas, parts, strict=True)]
        output: Tensor = Gather.apply(recorder, self.first_device, *outputs)  # type: ignore[no-untyped-call]
        first = recorder.on(self.first_device)
        first.forward_turn(self.loss_name, 0)
        # The mean over the whole batch, so that the sum of the replicas' gradients is the average over all samples.
        loss = loss_function(output, targets)
        first.backward_turn(self.loss_name, 0)

        # 4. Synchronise: backward ends in that of `Replicate`, which adds up the gradients on the first device.
        self.enter("backward")
        loss.backward()

        # 5. Update: there is one optimizer, and it knows the first device's parameters only. The copies go before it
        #    does, being out of date from then on.
        for replica in replicas:
            replica.clear()
        self.enter("update")
        with recorder.span("optimizer", [self.first_device], "optimizer"):
            self.optimizer.step()

        # 6. Repeat, with the next batch and new copies.
        return loss.detach()

    def replicate(self, devices: Sequence[str], replicas: Sequence[Replica]) -> None:
        """Fills the replicas with copies of what the first device holds now."""
        for tensors in self.trained.values():
            copies = Replicate.apply(self.enter, self.recorder, devices, *tensors)  # type: ignore[no-untyped-call]
            for index, replica in enumerate(replicas):
                replica.fill(tensors, copies[index * len(tensors) : (index + 1) * len(tensors)])
        for tensors in self.fixed.values():
            for replica, copied in zip(replicas, broadcast(tensors, devices, self.recorder), strict=True):
                replica.fill(tensors, copied)

    def predict(self, inputs: Tensor) -> Tensor:
        with evaluating(self.net):
            output: Tensor = self.net(inputs.to(self.first_device))
        return output


class Replica:
    """A copy of the net without parameters and buffers of its own: `fill` gives it those that it computes with.

    As in `nn.DataParallel`, what it is given are plain attributes, not leaves: gradients go through them, back to the
    first device's parameters. A copied buffer is lost after the step, with all that happened to it. Only the first
    replica's buffers are the net's own, so running statistics of batch norm are those of the first part.
    """

    def __init__(self, shell: nn.Module, net: nn.Module, hooks: LayerHooks) -> None:
        self._module = shell
        self._hooks = hooks
        self._places: dict[Tensor, list[tuple[nn.Module, str]]] = defaultdict(list)
        """A tensor of the net -> where the replica needs its copy; in several places when layers share it."""
        for ours, theirs in zip(shell.modules(), net.modules(), strict=True):
            for name, parameter in theirs.named_parameters(recurse=False, remove_duplicate=False):
                self._places[parameter].append((ours, name))
                delattr(ours, name)
            for name, buffer in theirs.named_buffers(recurse=False, remove_duplicate=False):
                self._places[buffer].append((ours, name))

    def fill(self, tensors: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
        """Puts the copies where the net has the tensors."""
        for tensor, copied in zip(tensors, copies, strict=True):
            for module, name in self._places[tensor]:
                setattr(module, name, copied)

    def clear(self) -> None:
        """Lets go of the copies, so that their memory is free."""
        for module, name in (place for places in self._places.values() for place in places):
            setattr(module, name, None)

    def forward(self, inputs: Tensor) -> Tensor:
        self._hooks.start_forward()
        output: Tensor = self._module(inputs)
        self._hooks.expect_backward(output)
        return output


# -- from the first device to all, and back ----------------------------------------------------------------------


def scatter(inputs: Tensor, devices: Sequence[str], recorder: Recorder) -> list[Tensor]:
    """A part of the batch (B, ...) on each device: ceil(B / devices) samples, and fewer on the last (`torch.chunk`)."""
    parts = inputs.chunk(len(devices))
    return [move(part, device, recorder, "scatter") for part, device in zip(parts, devices, strict=False)]


def broadcast(tensors: Sequence[Tensor], devices: Sequence[str], recorder: Recorder) -> list[Sequence[Tensor]]:
    """For each device its copies of tensors of one dtype; the first device's are the tensors themselves.

    They travel as one: a transfer for each tensor would cost a latency for each.
    """
    first, *others = devices
    if not others:
        return [tensors]
    with recorder.span("collective", [first], "replicate"):
        packed = pack(tensors)
    return [tensors, *(unpack(move(packed, device, recorder, "replicate"), tensors) for device in others)]


class Replicate(torch.autograd.Function):
    """Copies of parameters for each device. In backward, the gradients of all copies are added up on the first."""

    @staticmethod
    def forward(
        ctx: Any, enter: Callable[[GatePhase], None], recorder: Recorder, devices: Sequence[str], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.enter, ctx.recorder, ctx.devices = enter, recorder, devices
        return tuple(copied for copies in broadcast(tensors, devices, recorder) for copied in copies)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        ctx.enter("synchronise")
        recorder, (first, *others) = ctx.recorder, ctx.devices
        count = len(gradients) // len(ctx.devices)
        own = gradients[:count]
        if not others:
            return None, None, None, *own
        with recorder.span("collective", [first], "reduce"):
            total = pack(own)
        for index, device in enumerate(others, start=1):
            with recorder.span("collective", [device], "reduce"):
                packed = pack(gradients[index * count : (index + 1) * count])
            arrived = move(packed, first, recorder, "reduce")
            with recorder.span("collective", [first], "reduce"):
                total += arrived
        return None, None, None, *unpack(total, own)


class Gather(torch.autograd.Function):
    """The replicas' outputs (b, ...), joined to one (B, ...) on the first device; their gradients go back to each."""

    @staticmethod
    def forward(ctx: Any, recorder: Recorder, first_device: str, *outputs: Tensor) -> Tensor:
        ctx.recorder = recorder
        ctx.devices, ctx.sizes = [str(output.device) for output in outputs], [len(output) for output in outputs]
        moved = [move(output, first_device, recorder, "gather") for output in outputs]
        with recorder.span("collective", [first_device], "gather"):
            return torch.cat(moved)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        parts = zip(gradient.split(ctx.sizes), ctx.devices, strict=True)
        return None, None, *(move(part, device, ctx.recorder, "scatter") for part, device in parts)


def move(tensor: Tensor, device: str, recorder: Recorder, purpose: str) -> Tensor:
    """The tensor on `device`, recorded as a transfer if it was elsewhere; autograd knows nothing of it."""
    source = str(tensor.device)
    if source == device:
        return tensor
    with recorder.transfer(source, device, tensor.nbytes, purpose):
        return tensor.to(device)


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers of tensors of one dtype and device, in one dimension."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unpack(packed: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The reverse of `pack`: pieces with the shapes of `tensors`."""
    pieces = packed.split([tensor.numel() for tensor in tensors])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]


# -- on CUDA -----------------------------------------------------------------------------------------------------


class OnCuda:
    """PyTorch's own `nn.DataParallel`. It does the steps inside, so that the timeline shows them together."""

    def __init__(self, job: Job) -> None:
        self.recorder, self.enter = job.recorder, job.enter
        self.devices = job.experiment.devices
        self.net = job.net.to(self.devices[0])
        self.parallel = nn.DataParallel(self.net, device_ids=[torch.device(name) for name in self.devices])
        self.optimizer = make_optimizer(job.experiment, self.net)

    def train_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        recorder = self.recorder
        targets = transfer(targets, self.devices[0], recorder)
        self.enter("forward")
        self.optimizer.zero_grad()
        with recorder.span("forward", self.devices, "scatter, replicate, forward, gather"):
            loss = loss_function(self.parallel(inputs), targets)
        self.enter("backward")
        with recorder.span("backward", self.devices, "backward, reduce"):
            loss.backward()
        self.enter("update")
        with recorder.span("optimizer", [self.devices[0]], "optimizer"):
            self.optimizer.step()
        return loss.detach()

    def predict(self, inputs: Tensor) -> Tensor:
        with evaluating(self.net):
            output: Tensor = self.net(inputs.to(self.devices[0]))
        return output


def make(job: Job) -> Strategy:
    """The real one where all devices are real GPUs."""
    return OnCuda(job) if all(name.startswith("cuda") for name in job.experiment.devices) else InSixSteps(job)


STRATEGY = make
