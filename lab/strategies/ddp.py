"""Distributed data parallelism: a process for each rank, with a full copy of the net and its share of every batch.

    theta <- theta - eta * (1/N) * sum_i grad L_i(theta)

Each rank computes the gradients of its own loss L_i. PyTorch's DistributedDataParallel averages them over the N ranks,
bucket by bucket, while backward is still at work on the layers before; so much of the communication is hidden. As all
ranks begin with the same parameters and apply the same average, their copies stay equal without ever being sent again.

The shares of a batch are of the same size. So the mean of the ranks' mean losses is the loss of the whole batch, and
the mean of their gradients is its gradient: N ranks learn what one process does, but for the rounding of sums that are
taken in another order. Batch norm is the exception: each rank normalises with the mean and variance of its own share,
so that the ranks compute something else than one process does (`torch.nn.SyncBatchNorm` would not). The smaller the
shares, the further the two are apart. With ResNet-18 on Shapes and 16 samples a step, the losses of the first two steps
are 2.497 and 2.498 in one process, 2.483 and 2.450 on two ranks, 2.523 and 2.410 on four. For evaluation, all ranks
take rank 0's running statistics.

A rank may itself hold several devices, with the layers placed on them: then it is a copy of a model-parallel net
(`lab.strategies.model_parallel`) that is averaged with the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lab.errors import LabError
from lab.strategies.base import Job, backward, evaluating, layer_hooks, loss_function, make_optimizer, transfer
from lab.strategies.buckets import BucketAverage
from lab.strategies.model_parallel import AlignDevices, bring_inputs, place

DDP_BUCKET_MB = 25
"""DistributedDataParallel's own choice."""


class DDP:
    """One rank's copy of the net, and what keeps it equal to the others'."""

    def __init__(self, job: Job) -> None:
        if job.group is None:
            raise LabError("ddp trains a group of ranks, and this one is alone: start it with lab.start")
        experiment = job.experiment
        self.recorder, self.enter = job.recorder, job.enter
        self.devices = list(dict.fromkeys(job.placement.values()))
        self.first_device, self.last_device = self.devices[0], list(job.placement.values())[-1]
        self.microbatches = experiment.microbatches

        self.net = job.net
        place(self.net, job.placement)
        if len(self.devices) > 1:
            bring_inputs(self.net, job.placement, self.recorder)
        self.hooks = layer_hooks(job)
        self.replica = Replica(self)
        # Here the ranks meet, and all copies become that of rank 0.
        self.ddp = DistributedDataParallel(
            self.replica,
            process_group=job.group.unchecked,
            # The same number, given, would make a large bucket of the first one too; DDP's own holds 1 MB, so that its
            # average is under way soon.
            bucket_cap_mb=None if experiment.bucket_cap_mb == DDP_BUCKET_MB else experiment.bucket_cap_mb,
            gradient_as_bucket_view=experiment.gradient_as_bucket_view,
            static_graph=experiment.static_graph,
            find_unused_parameters=experiment.find_unused_parameters,
        )
        self.average = BucketAverage(job, job.group)
        self.ddp.register_comm_hook(None, lambda state, bucket: self.average(bucket))
        self.optimizer = make_optimizer(experiment, self.net)

    def train_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One optimizer step on this rank's share of the global batch; returns the share's mean loss."""
        inputs = transfer(inputs, self.first_device, self.recorder)
        targets = transfer(targets, self.last_device, self.recorder)
        self.average.start_step()
        self.optimizer.zero_grad()
        loss = self._compute_gradients(inputs, targets)
        self.recorder.report(self.average.check())
        self.enter("update")
        with self.recorder.span("optimizer", self.devices, "optimizer"):
            self.optimizer.step()
        return loss

    def _compute_gradients(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Forward and backward; afterwards, every parameter's gradient is the average over all ranks.

        A rank that holds the whole net accumulates gradients: those of its microbatches add up locally, and only with
        the last of them are the sums averaged. So the ranks synchronise once a step, however many microbatches it has.
        """
        count = min(self.microbatches, len(inputs)) if len(self.devices) == 1 else 1
        parts = [(inputs, targets)]
        if count > 1:
            parts = list(zip(inputs.tensor_split(count), targets.tensor_split(count), strict=True))
        losses = []
        for index, (x, y) in enumerate(parts):
            last = index == count - 1
            self.recorder.microbatch = index
            with contextlib.nullcontext() if last else self.ddp.no_sync():
                self.enter("forward")
                loss = self.ddp(x, y)
                if count > 1:
                    loss = loss * (len(x) / len(inputs))
                self.enter("backward")
                self.hooks.start_backward()
                # With the last microbatch, buckets are averaged inside.
                backward(loss, AlignDevices(self.recorder) if len(self.devices) > 1 else None)
            losses.append(loss.detach())
        self.recorder.microbatch = 0
        return torch.stack(losses).sum() if count > 1 else losses[0]

    def predict(self, inputs: Tensor) -> Tensor:
        with evaluating(self.net):
            return self.replica.output(inputs.to(self.first_device))


class Replica(nn.Module):
    """What DistributedDataParallel wraps: a batch goes in, its mean loss comes out."""

    def __init__(self, rank: DDP) -> None:
        super().__init__()
        self.net = rank.net
        self._recorder, self._hooks = rank.recorder, rank.hooks
        self._stages = len(rank.devices)
        self._microbatches = rank.microbatches

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        if self._stages == 1:
            self._hooks.start_forward()
            return loss_function(self.output(inputs), targets)
        return self._pipeline(inputs, targets)

    def _pipeline(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Microbatches follow each other through the stages, in one forward and one backward for
        DistributedDataParallel. Backward takes the last microbatch first; a parameter's gradient is complete with the
        first one, and only then goes into its bucket."""
        count = min(self._microbatches, len(inputs))
        losses = []
        for index, (x, y) in enumerate(zip(inputs.tensor_split(count), targets.tensor_split(count), strict=True)):
            self._recorder.microbatch = index
            self._hooks.start_forward()
            output = self.output(x)
            y = transfer(y, str(output.device), self._recorder)
            loss = loss_function(output, y) * (len(x) / len(inputs))
            loss.register_hook(self._turn_of(index))
            losses.append(loss)
        return torch.stack(losses).sum()

    def output(self, inputs: Tensor) -> Tensor:
        """The net's output, with tensors moved to where its layers are."""
        with AlignDevices(self._recorder) if self._stages > 1 else contextlib.nullcontext():
            output: Tensor = self.net(inputs)
        return output

    def _turn_of(self, microbatch: int) -> Callable[[Tensor], None]:
        def begin(gradient: Tensor) -> None:
            self._recorder.microbatch = microbatch
            self._hooks.start_backward()

        return begin


STRATEGY = DDP
