"""The machine that is simulated: its devices, their memory and the clock. One is active in a process at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.errors import DeviceError
from lab.vgpu.clock import LinkModel, VirtualClock
from lab.vgpu.memory import MemoryPool
from lab.vgpu.profiles import Profile

MAX_DEVICES = 64


class Machine:
    """Virtual GPUs of one profile, with a link between them.

    Args:
        devices: how many.
        profile: what each pretends to be.
        link: overrides the profile's link.
        memory_bytes: overrides the profile's capacity, for each device.
    """

    def __init__(
        self, devices: int, profile: Profile, link: LinkModel | None = None, memory_bytes: int | None = None
    ) -> None:
        if not 1 <= devices <= MAX_DEVICES:
            raise DeviceError(f"devices={devices} is not possible: the lab has 1 to {MAX_DEVICES} virtual GPUs")
        self.profile = profile
        capacity = round(profile.memory_gb * 1e9) if memory_bytes is None else memory_bytes
        self.pools = [MemoryPool(f"vgpu:{index}", capacity) for index in range(devices)]
        self.clock = VirtualClock(
            devices,
            issue_ns=round(profile.issue_us * 1000),
            link=link or LinkModel(profile.link_gb_per_s, round(profile.link_latency_us * 1000)),
        )
        self.timing = True
        """False while operations take no simulated time, as during evaluation."""
        self._scale = 1 / profile.speed

    @property
    def device_count(self) -> int:
        return len(self.pools)

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

    def record(self, index: int, started_ns: int) -> None:
        """Counts an operation on the clock: it takes as long as the CPU took since `started_ns`, scaled."""
        if self.timing:
            self.clock.run(self.check(index), round((time.perf_counter_ns() - started_ns) * self._scale))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands still inside: operations and copies take no simulated time."""
        before, self.timing = self.timing, False
        try:
            yield
        finally:
            self.timing = before
