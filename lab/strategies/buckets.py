"""What happens to a bucket of gradients: it is averaged over the ranks, and everybody can see it.

DistributedDataParallel lays the parameters' gradients side by side in buckets, and hands each bucket over as soon as
backward has filled it. The averaging here is its own, the sum over the ranks of `gradients * (1 / N)`; recording it
changes no result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.futures import Future

from lab import _torch_compat, vgpu
from lab.errors import listed
from lab.events import Bucket, BucketsBuilt
from lab.strategies.base import Job
from lab.timing.base import Timer
from lab.workers.failure import NotFiniteGradientError, UnusedParametersError
from lab.workers.group import Group
from lab.workers.injector import Injector
from lab.workers.slowness import Emulated

if TYPE_CHECKING:
    GradBucket: TypeAlias = Any
    """`torch.distributed.GradBucket`, which has no type stubs."""

SETTLED_STEP = 3
"""From this step on, the buckets stay as they are."""
POWERSGD_FIRST_STEP = 2
"""PowerSGD sends whole gradients in the steps before; PyTorch wants at least two."""


class BucketAverage:
    """DDP's communication hook: averages a bucket over the ranks, and records it."""

    def __init__(self, job: Job, group: Group) -> None:
        self._group, self._recorder, self._enter = group, job.recorder, job.enter
        self._injector = job.injector or Injector((), group, Emulated())
        self._parameters = {id(p): (name, p) for name, p in job.net.named_parameters() if p.requires_grad}
        self._reduce = _COMPRESSIONS[job.experiment.compression]()
        self._scales = job.experiment.compression == "none"  # PyTorch's other hooks divide by the number of ranks
        self._finite = FiniteCheck(group.rank, job.recorder.timer, 1 / group.world_size)
        self._step = -1
        self._seen: list[Bucket] = []
        self._built: list[Bucket] = []

    def start_step(self) -> None:
        self._step += 1
        self._seen = []

    def __call__(self, bucket: GradBucket) -> Future[Tensor]:
        if not self._seen:
            self._enter("synchronise")
        gradients = bucket.buffer()
        about = self._layout(bucket)
        self._seen.append(about)
        self._injector.spoil(gradients)
        skips = self._injector.skips()
        if self._scales and not skips:
            self._finite.scale(gradients, about, self._step)
        else:
            self._finite.look_at(gradients, about, self._step)
        if self._injector.emulates_link:
            # Waiting for an emulated link may happen right here, and is no computation.
            self._recorder.end_turn()
        average = _at_once(gradients) if skips else self._average(bucket, about)
        if bucket.is_last():
            # Nothing is left to compute: from here on, backward only waits for the averages.
            self._recorder.end_turn()
        return average

    def _layout(self, bucket: GradBucket) -> Bucket:
        """What is in a bucket. DDP lays its buckets out once more, before its second step with gradients."""
        index: int = bucket.index()
        size: int = bucket.buffer().nbytes
        if self._step >= SETTLED_STEP and index < len(self._built) and self._built[index].bytes == size:
            return self._built[index]
        names, parameters = zip(*(self._parameters[id(parameter)] for parameter in bucket.parameters()), strict=True)
        return Bucket(index, names, size, tuple(parameter.nbytes for parameter in parameters))

    def _average(self, bucket: GradBucket, about: Bucket) -> Future[Tensor]:
        """The average to come, with its begin and end on the timeline and on the board."""
        gradients = bucket.buffer()
        misshapen = self._injector.misshapen(gradients)
        emulated = " (emulated link)" if self._injector.emulates_link else ""
        done = self._recorder.collective(str(gradients.device), f"bucket {about.index}{emulated}")
        if misshapen is None:
            number = self._group.pen.enter("all_reduce", about.bytes, about.index, about.bytes)
            future, size = self._reduce(bucket)
        else:
            number = self._group.pen.enter("all_reduce", misshapen.nbytes, about.index, about.bytes)
            future, size = all_reduce(misshapen), misshapen.nbytes

        def finish(future: Future[Tensor]) -> Tensor:
            average = future.value()
            if isinstance(average, list):  # one for each tensor of the collective
                (average,) = average
            if self._injector.emulates_link:
                self._injector.hold_up(size)
            done(size)
            self._group.pen.leave(number)
            return average

        return future.then(finish)

    def check(self) -> list[BucketsBuilt]:
        """Call it after backward, before the update.

        Returns:
            On rank 0, the buckets, when they are others than before. DDP lays them out anew after the first step, in
            the order in which the gradients really came.

        Raises:
            NotFiniteGradientError: when this rank's own gradients were not all numbers.
            UnusedParametersError: when a bucket was never full.
        """
        self._finite.check(self._step)
        averaged = {name for bucket in self._seen for name in bucket.parameters}
        if len(averaged) < len(self._parameters):
            raise UnusedParametersError(self._unused(averaged))
        if self._seen == self._built:
            return []
        self._built = self._seen
        return [BucketsBuilt(self._step, tuple(self._built))] if self._group.rank == 0 else []

    def _unused(self, averaged: set[str]) -> str:
        """What to say when backward has ended, and some parameters were not averaged."""
        missing = [(name, parameter) for name, parameter in self._parameters.values() if name not in averaged]
        # The others in their buckets, and in the buckets behind, have gradients and wait.
        unused = [name for name, parameter in missing if parameter.grad is None] or [name for name, _ in missing]
        return (
            f"the loss of rank {self._group.rank} at step {self._step} does not depend on {listed(unused)}: a bucket "
            "is averaged when all its gradients have come, and here one never comes"
        )


class FiniteCheck:
    """Finds out whether a rank's own gradients are numbers, before the average spreads to all ranks what is none.

    Args:
        factor: by which `scale` multiplies them.
    """

    def __init__(self, rank: int, timer: Timer, factor: float) -> None:
        self._rank, self._timer, self._factor = rank, timer, factor
        self._scalers: dict[int, _torch_compat.Scaler] = {}
        self._scaled: list[tuple[Bucket, _torch_compat.Scaler]] = []
        self._sums: list[tuple[int, Bucket, Tensor, torch.cuda.Event | None]] = []

    def scale(self, gradients: Tensor, about: Bucket, step: int) -> None:
        """Looks at the gradients and multiplies them by the factor; in one go on the CPU, where each costs a pass over
        the memory."""
        if gradients.device.type == "cpu" and gradients.dtype == torch.float32:
            scaler = self._scalers.get(about.index)
            if scaler is None:
                scaler = self._scalers[about.index] = _torch_compat.Scaler(self._factor)
            scaler.scale(gradients)
            self._scaled.append((about, scaler))
        else:
            self.look_at(gradients, about, step)
            gradients.mul_(self._factor)

    def look_at(self, gradients: Tensor, about: Bucket, step: int) -> None:
        # A sum is finite only if all that it sums up is; unlike a look at each number, it needs no memory.
        total = self._timer.keep(vgpu.peek(gradients).sum())
        passed = torch.cuda.current_stream(gradients.device).record_event() if gradients.is_cuda else None
        self._sums.append((step, about, total, passed))

    def check(self, step: int) -> None:
        """Looks at the sums of this step; on CUDA, at those of the step before, as the host does not wait there.

        Raises:
            NotFiniteGradientError: for the first that is no number.
        """
        scaled, self._scaled = self._scaled, []
        for about, scaler in scaled:
            if not scaler.finite:
                raise self._error(about, step)
        sums, self._sums = self._sums, []
        for of_step, about, total, passed in sums:
            if passed is not None:
                if of_step == step:
                    self._sums.append((of_step, about, total, passed))
                    continue
                passed.synchronize()
            if not math.isfinite(self._timer.value(total)):
                raise self._error(about, of_step)

    def _error(self, about: Bucket, step: int) -> NotFiniteGradientError:
        return NotFiniteGradientError(
            f"rank {self._rank}'s gradients became NaN or infinite at step {step}, in bucket {about.index} "
            f"({listed(about.parameters)}); the all-reduce spread them to every rank"
        )


def _at_once(gradients: Tensor) -> Future[Tensor]:
    """A future of what is there already."""
    future: Future[Tensor] = Future()
    future.set_result(gradients)
    return future


# -- ways to average ---------------------------------------------------------------------------------------------

Reduce: TypeAlias = Callable[[Any], tuple[Future[Any], int]]
"""Starts the averaging of a bucket; the average to come, perhaps in a list, and the bytes of gradients that one rank
sends."""


def all_reduce(tensor: Tensor) -> Future[Any]:
    """The sum of the ranks' tensors, in a list."""
    # What `dist.all_reduce(tensor, async_op=True)` calls, without its checks of what is always right here.
    ranks: Any = dist.group.WORLD
    summed: Future[Any] = ranks.allreduce([tensor]).get_future()
    return summed


def _whole() -> Reduce:
    """Every number as it is. The buckets were multiplied by 1 / N before, so that the sums do not overflow."""
    return lambda bucket: (all_reduce(bucket.buffer()), bucket.buffer().nbytes)


def _fp16() -> Reduce:
    """Half-precision numbers: half the bytes. Lost are all but 11 of a number's 24 bits, about three decimal digits are
    left; what is smaller than 6e-8 becomes zero, what is larger than 65,504 infinite."""
    compress: Any = default_hooks.fp16_compress_hook
    return lambda bucket: (compress(None, bucket), bucket.buffer().numel() * 2)


def _powersgd() -> Reduce:
    """Matrices of rank 1 in place of gradients (Vogels, Karimireddy and Jaggi, 2019, arXiv:1905.13727): of a weight of
    n x m, n + m numbers travel. Lost is, for this step, what does not fit into rank 1; each rank keeps its own loss and
    adds it to its next gradients. Biases, and weights too small to gain by it, travel whole."""
    state = powerSGD_hook.PowerSGDState(
        process_group=None, matrix_approximation_rank=1, start_powerSGD_iter=POWERSGD_FIRST_STEP
    )

    def reduce(bucket: GradBucket) -> tuple[Future[Tensor], int]:
        before, compresses = state.total_numel_after_compression, state.iter >= state.start_powerSGD_iter
        future = powerSGD_hook.powerSGD_hook(state, bucket)
        sent = state.total_numel_after_compression - before if compresses else bucket.buffer().numel()
        return future, sent * bucket.buffer().element_size()

    return reduce


_COMPRESSIONS: dict[str, Callable[[], Reduce]] = {"none": _whole, "fp16": _fp16, "powersgd": _powersgd}
