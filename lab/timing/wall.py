"""The wall clock, for work on the CPU: when a call returns, its work is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil
import torch
from torch import Tensor


class WallTimer:
    """Nanoseconds of `time.perf_counter_ns` since it was made, pauses left out.

    Args:
        devices: with a CUDA device among them, the timer waits for it at every mark: exact, and slower than a run of
            its own clock would be. That is the price of showing real and virtual GPUs on one clock.
        agree: gives every rank the number that rank 0 passes. All processes of a machine read the same counter, so that
            ranks that agree on its origin are on one clock.
    """

    def __init__(self, devices: Sequence[str] = (), agree: Callable[[int], int] = int) -> None:
        self._agree = agree
        self._synchronized = [device for device in devices if device.startswith("cuda")]
        self._process = psutil.Process()
        self._capacity = psutil.virtual_memory().total
        self._peak = 0
        self._origin = agree(time.perf_counter_ns())

    def now_ns(self) -> int:
        for device in self._synchronized:
            torch.cuda.synchronize(device)
        return time.perf_counter_ns() - self._origin

    def begin(self, device: str) -> int:
        return self.now_ns() if self._synchronized else time.perf_counter_ns() - self._origin

    def end(self, mark: int) -> tuple[int, int]:
        return mark, self.now_ns() if self._synchronized else time.perf_counter_ns() - self._origin

    def read(self, interval: tuple[int, int]) -> tuple[int, int]:
        return interval

    def ready(self, interval: tuple[int, int]) -> bool:
        return True

    def keep(self, loss: Tensor) -> Tensor:
        return loss

    def value(self, kept: Tensor) -> float:
        return kept.item()

    def memory(self, device: str) -> tuple[int, int, int]:
        """For the CPU, the resident memory of this process."""
        if device.startswith("vgpu"):
            from lab import vgpu

            pool = vgpu.current().pools[int(device[5:])]
            return pool.allocated, pool.peak, pool.capacity
        if device.startswith("cuda"):
            from lab.timing.cuda import cuda_memory

            return cuda_memory(device)
        resident = self._process.memory_info().rss
        self._peak = max(self._peak, resident)
        return resident, self._peak, self._capacity

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter_ns()
        yield
        self.shift(self._agree(time.perf_counter_ns() - began))

    def shift(self, ns: int) -> None:
        self._origin += ns
