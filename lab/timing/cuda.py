"""CUDA events: every device marks its own stream, and the marks are read when the stream has passed them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class _Mark:
    device: str
    event: torch.cuda.Event


@dataclass(frozen=True, slots=True)
class _Interval:
    device: str
    start: torch.cuda.Event
    end: torch.cuda.Event


class CudaTimer:
    """Times on one axis for all devices: each has an origin event, recorded when all devices stood still.

    The origins of different devices differ by what recording them one after another takes, some microseconds.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = tuple(devices)
        self._paused_ns = 0
        for device in self._devices:
            torch.cuda.synchronize(device)
        self._origins = {device: self._record(device) for device in self._devices}
        self._last: dict[str, int] = dict.fromkeys(self._devices, 0)

    @staticmethod
    def _record(device: str) -> torch.cuda.Event:
        with torch.cuda.device(device):
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        return event

    def begin(self, device: str) -> _Mark | None:
        return _Mark(device, self._record(device)) if device in self._origins else None

    def end(self, mark: _Mark | None) -> _Interval | None:
        return _Interval(mark.device, mark.event, self._record(mark.device)) if mark else None

    def ready(self, interval: _Interval) -> bool:
        return bool(interval.end.query())

    def read(self, interval: _Interval) -> tuple[int, int]:
        interval.end.synchronize()
        origin = self._origins[interval.device]
        start, end = (round(origin.elapsed_time(event) * 1e6) for event in (interval.start, interval.end))
        self._last[interval.device] = end - self._paused_ns
        return start - self._paused_ns, end - self._paused_ns

    def now_ns(self) -> int:
        """The latest end that has been read: asking a device would make it wait."""
        return max(self._last.values())

    def keep(self, loss: Tensor) -> Tensor:
        """Copies the loss into pinned memory, behind the step on its stream."""
        kept = torch.empty((), dtype=torch.float64, pin_memory=True)
        return kept.copy_(loss.detach(), non_blocking=True)

    def value(self, kept: Tensor) -> float:
        return kept.item()

    def memory(self, device: str) -> tuple[int, int, int]:
        return cuda_memory(device)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Waits for all devices, and leaves out what they do inside."""
        for device in self._devices:
            torch.cuda.synchronize(device)
        first = self._devices[0]
        start = self._record(first)
        try:
            yield
        finally:
            for device in self._devices:
                torch.cuda.synchronize(device)
            end = self._record(first)
            end.synchronize()
            self.shift(round(start.elapsed_time(end) * 1e6))

    def shift(self, ns: int) -> None:
        self._paused_ns += ns


def cuda_memory(device: str) -> tuple[int, int, int]:
    """Bytes allocated by PyTorch, their peak, and the device's memory."""
    total = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device), total
