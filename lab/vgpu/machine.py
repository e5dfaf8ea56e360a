"""The machine that is simulated: its devices, their memory and the clock. One is active in a process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lab.errors import DeviceError
from lab.vgpu import backing as backings
from lab.vgpu.backward_streams import BackwardStreams
from lab.vgpu.clock import VirtualClock
from lab.vgpu.links import Topology
from lab.vgpu.memory import MemoryPool
from lab.vgpu.observer import Observer, Operation
from lab.vgpu.profiles import Profile, Timing
from lab.vgpu.roofline import Roofline


class Machine:
    """Virtual GPUs of one profile, with links between them.

    Args:
        devices: how many.
        profile: what each pretends to be.
        topology: the links between them and the host.
        capacity: bytes of memory of each.
        timing: how operations are timed.
        backing: the real device that has the numbers.
    """

    def __init__(
        self,
        devices: int,
        profile: Profile,
        topology: Topology,
        capacity: int,
        timing: Timing,
        backing: torch.device,
    ) -> None:
        self.profile = profile
        self.clock = VirtualClock(devices, issue_ns=round(profile.issue_us * 1000), topology=topology)
        self.clock.follower = BackwardStreams(self.clock)
        self.pools = [MemoryPool(index, capacity, self.clock) for index in range(devices)]
        self.timing = True
        """False while operations take no simulated time, as during evaluation."""
        self.model = Roofline(profile) if timing == "modelled" else None
        """Times operations from their shapes; None where they are measured."""
        self.backing = backing
        self.watch = backings.watch(backing) if self.model is None else backings.no_watch
        """Read before and after an operation, where operations are measured; in nanoseconds."""
        self.slowness = 1.0
        """How many times as long every operation takes as it would: above 1 for a device that is to be late."""
        self.chosen = False
        """Whether a program has chosen one of the devices, or asked for something that makes CUDA begin."""
        self._scale = 1 / profile.speed

    @property
    def device_count(self) -> int:
        return len(self.pools)

    @property
    def in_use(self) -> bool:
        """Whether a program has begun to use the devices, or chosen one."""
        return self.chosen or self.clock.host_ns > 0 or any(pool.ever_used for pool in self.pools)

    def check(self, index: int) -> int:
        """The index, if there is such a device.

        Raises:
            DeviceError: which devices there are.
        """
        if 0 <= index < len(self.pools):
            return index
        count = len(self.pools)
        here = "vgpu:0" if count == 1 else f"vgpu:0 to vgpu:{count - 1}"
        raise DeviceError(
            f"invalid device ordinal: there is no vgpu:{index}, this lab has {count} virtual GPU{'s' * (count > 1)}, "
            f"{here}. lab.vgpu.enable(devices={index + 1}) makes enough."
        )

    def pool(self, index: int) -> MemoryPool:
        """The memory of a device.

        Raises:
            DeviceError: when there is no such device, as for a tensor of an earlier machine that had more.
        """
        try:
            return self.pools[index]
        except IndexError:
            return self.pools[self.check(index)]

    def record(self, index: int, started_ns: int, func: Any, args: Any, result: Any) -> None:
        """Counts an operation on the clock. Measured, it takes what the watch counted since `started_ns`,
        scaled; modelled, it takes what the roofline says.

        Args:
            func: the operator.
            args: its arguments, on the CPU.
            result: what it gave.
        """
        if not self.timing:
            return
        if self.model is None:
            duration_ns = round((self.watch() - started_ns) * self._scale)
        else:
            duration_ns = self.model.duration_ns(func, args, result)
        if self.slowness != 1:
            duration_ns = round(duration_ns * self.slowness)
        start = self.clock.run(self.check(index), duration_ns)
        if self.observers:
            stream = self.clock.current(index).number
            seen = Operation(index, stream, func, args, result, self.clock.host_ns, start, start + duration_ns)
            for observer in self.observers:
                observer.operation(seen)

    @property
    def observers(self) -> list[Observer]:
        """Those who watch: append to it, and remove what was appended."""
        return self.clock.observers

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands still inside: operations and copies take no simulated time."""
        before, self.timing = self.timing, False
        try:
            yield
        finally:
            self.timing = before
