"""What happens to a bucket of gradients: it is averaged over the ranks, and everybody can see it.

DistributedDataParallel lays the parameters' gradients side by side in buckets, and hands each bucket over as soon as
backward has filled it. The averaging here is its own, `all_reduce(gradients / N)`; recording it changes no result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.futures import Future

from lab import vgpu
from lab.errors import listed
from lab.events import Bucket, BucketsBuilt
from lab.strategies.base import Job
from lab.workers.failure import NotFiniteGradientError

if TYPE_CHECKING:
    GradBucket: TypeAlias = Any
    """`torch.distributed.GradBucket`, which has no type stubs."""

POWERSGD_FIRST_STEP = 2
"""PowerSGD sends whole gradients in the steps before; PyTorch wants at least two."""


class BucketAverage:
    """DDP's communication hook: averages a bucket over the ranks, and records it.

    Args:
        device: on whose lane the all-reduces are shown.
    """

    def __init__(self, job: Job, device: str) -> None:
        assert job.group is not None
        self._group, self._recorder, self._injector, self._enter = job.group, job.recorder, job.injector, job.enter
        self._device = device
        self._names = {id(parameter): name for name, parameter in job.net.named_parameters()}
        self._reduce = _COMPRESSIONS[job.experiment.compression]()
        self._step = -1
        self._seen: list[Bucket] = []
        self._built: list[Bucket] = []
        self._bad: Bucket | None = None

    def start_step(self) -> None:
        self._step += 1
        self._seen = []
        self._bad = None

    def __call__(self, bucket: GradBucket) -> Future[Tensor]:
        if not self._seen:
            self._enter("synchronise")
        gradients = bucket.buffer()
        about = Bucket(bucket.index(), self._parameters(bucket), gradients.nbytes)
        self._seen.append(about)
        if self._injector is not None:
            self._injector.spoil(gradients)
        # A sum is finite only if all that it sums up is; unlike a look at each number, it needs no memory.
        if self._bad is None and not torch.isfinite(vgpu.peek(gradients).sum()):
            self._bad = about
        if self._injector is not None and self._injector.skips():
            skipped: Future[Tensor] = Future()
            skipped.set_result(gradients)
            return skipped
        average = self._recorded(bucket, about)
        if bucket.is_last():
            # Nothing is left to compute: from here on, backward only waits for the averages.
            self._recorder.end_turn()
        return average

    def _recorded(self, bucket: GradBucket, about: Bucket) -> Future[Tensor]:
        """The average to come, with its begin and end on the timeline and on the board."""
        misshapen = self._injector.misshapen(bucket.buffer()) if self._injector is not None else None
        emulated = " (emulated link)" if self._injector is not None and self._injector.emulates_link else ""
        done = self._recorder.collective(self._device, f"bucket {about.index}{emulated}")
        number = self._group.pen.enter("all_reduce", about.bytes if misshapen is None else misshapen.nbytes)
        if misshapen is not None:
            future, size = all_reduce(misshapen), misshapen.nbytes
        else:
            future, size = self._reduce(bucket)

        def finish(future: Future[Tensor]) -> Tensor:
            average = future.value()
            if self._injector is not None and self._injector.emulates_link:
                self._injector.hold_up(size)
            done(size)
            self._group.pen.leave(number)
            return average

        return future.then(finish)

    def _parameters(self, bucket: GradBucket) -> tuple[str, ...]:
        return tuple(self._names[id(parameter)] for parameter in bucket.parameters())

    def check(self) -> list[BucketsBuilt]:
        """Call it after backward.

        Returns:
            On rank 0, the buckets, when they are others than before. DDP lays them out anew after the first step, in
            the order in which the gradients really came.

        Raises:
            NotFiniteGradientError: when this rank's own gradients were not all numbers.
        """
        if self._bad is not None:
            raise NotFiniteGradientError(
                f"rank {self._group.rank}'s gradients became NaN or infinite at step {self._step}, in bucket "
                f"{self._bad.index} ({listed(self._bad.parameters)}); the all-reduce spread them to every rank"
            )
        if self._seen == self._built or self._group.rank:
            return []
        self._built = self._seen
        return [BucketsBuilt(self._step, tuple(self._built))]


# -- ways to average ---------------------------------------------------------------------------------------------

Reduce: TypeAlias = Callable[[Any], tuple[Future[Tensor], int]]
"""Starts the averaging of a bucket; the average to come, and the bytes of gradients that one rank sends."""


def all_reduce(tensor: Tensor) -> Future[Tensor]:
    """The sum of the ranks' tensors divided by their number. Divided first, so that the sum does not overflow."""
    tensor.div_(dist.get_world_size())
    reduced: Future[Any] = dist.all_reduce(tensor, async_op=True).get_future()
    return reduced.then(lambda future: future.value()[0])


def _whole() -> Reduce:
    return lambda bucket: (all_reduce(bucket.buffer()), bucket.buffer().nbytes)


def _fp16() -> Reduce:
    """Half-precision numbers: half the bytes, and a thousandth of the precision."""
    compress: Any = default_hooks.fp16_compress_hook
    return lambda bucket: (compress(None, bucket), bucket.buffer().numel() * 2)


def _powersgd() -> Reduce:
    """Matrices of rank 1 in place of gradients (Vogels, Karimireddy and Jaggi, 2019, arXiv:1905.13727)."""
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
