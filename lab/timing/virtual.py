"""The virtual clock of virtual GPUs, and of a CPU that works beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from lab import vgpu
from lab.timing.step_memory import StepMemory
from lab.timing.wall import WallTimer
from lab.vgpu.clock import Stream
from lab.vgpu.links import HOST
from lab.vgpu.observer import Collective, Copy


@dataclass(frozen=True, slots=True)
class _HostMark:
    """The CPU begins something: when by the wall clock, and when by the virtual one."""

    wall_ns: int
    virtual_ns: int


class VirtualTimer:
    """Reads the active machine's clock.

    On a virtual GPU, an interval goes from the start of its first operation after `begin` to the end of its last.
    What the CPU does itself takes as long as it really took, and the host can issue nothing meanwhile. On modelled
    hardware the host's own work, such as preparing a batch, takes no time instead, unless the CPU is one of the run's
    devices: so a run has the same timeline on every machine.
    """

    def __init__(self, devices: Sequence[str] = ()) -> None:
        self._machine = vgpu.current()
        self._clock = self._machine.clock
        self._cpu = WallTimer()
        self._host_counts = self._machine.model is None or "cpu" in devices
        self.step_memory = StepMemory(self._machine, devices)

    def on_transfer(self, report: Callable[[str, str, int, tuple[int, int]], None]) -> None:
        """`report(source, target, bytes, interval)` is called for every transfer, with its exact times."""

        def listen(copy: Copy) -> None:
            report(_name(copy.source), _name(copy.target), copy.bytes, (copy.start_ns, copy.end_ns))

        self._clock.on_transfer = listen

    def on_collective(self, report: Callable[[str, str, int, int, tuple[int, int], int], None]) -> None:
        """`report(device, name, bytes, ready_ns, interval, last_rank)` is called for every collective of this rank:
        from `ready_ns` to the interval's start, it waits for the last rank."""

        def listen(seen: Collective) -> None:
            interval = seen.start_ns, seen.end_ns
            report(_name(seen.device), seen.name, seen.bytes, seen.ready_ns, interval, seen.last_rank)

        self._clock.on_collective = listen

    def now_ns(self) -> int:
        return self._clock.now_ns

    def begin(self, device: str) -> Stream | _HostMark | None:
        if device == "cpu":
            if not self._host_counts:
                return None
            return _HostMark(time.perf_counter_ns(), self._clock.host_ns)
        stream = self._clock.streams[int(device[5:])]
        stream.mark()
        return stream

    def end(self, mark: Stream | _HostMark | None) -> tuple[int, int] | None:
        if mark is None:
            return None
        if isinstance(mark, Stream):
            return None if mark.first_ns is None else (mark.first_ns, mark.last_ns)
        finished = mark.virtual_ns + time.perf_counter_ns() - mark.wall_ns
        self._clock.advance_host(finished)
        return mark.virtual_ns, finished

    def read(self, interval: tuple[int, int]) -> tuple[int, int]:
        return interval

    def ready(self, interval: tuple[int, int]) -> bool:
        return True

    def keep(self, loss: Tensor) -> Tensor:
        return vgpu.peek(loss)

    def value(self, kept: Tensor) -> float:
        return kept.item()

    def memory(self, device: str) -> tuple[int, int, int]:
        return self._cpu.memory(device)

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._machine.paused():
            yield

    def shift(self, ns: int) -> None:
        """The virtual clock has stood still by itself."""


def _name(end: int) -> str:
    return "cpu" if end == HOST else f"vgpu:{end}"
