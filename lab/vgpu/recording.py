"""What a profile of virtual GPUs holds, and what can be read from it.

All times are nanoseconds on the virtual clock since the profile began: they are simulated.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lab import views
from lab.errors import DeviceError
from lab.vgpu.attribution import Kind
from lab.vgpu.memory_record import MemoryPoint
from lab.vgpu.memory_times import Work, on_device
from lab.vgpu.purposes import MemoryLedger
from lab.vgpu.summary import as_html, as_text


@dataclass(frozen=True, slots=True)
class OpSpan:
    """One operation on a virtual GPU."""

    device: str
    stream: int
    """0 is the device's default stream."""
    name: str
    """The operator, such as `convolution`."""
    kind: Kind
    layer: str
    """As in `attribution.Origin`; so is `node`."""
    node: str
    issued_ns: int
    """When the host had issued it."""
    start_ns: int
    end_ns: int
    flops: int
    """By torch's formulas; 0 for operators without one."""
    bytes: int
    """Read and written."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A copy from one device to another, or from or to the host, which is `cpu`."""

    source: str
    target: str
    source_stream: int
    target_stream: int
    bytes: int
    issued_ns: int
    start_ns: int
    end_ns: int

    @property
    def name(self) -> str:
        return f"{self.source} → {self.target}"


@dataclass(frozen=True, slots=True)
class Collective:
    """A collective of several ranks, as this process's device took part in it."""

    device: str
    stream: int
    """The device's communication stream."""
    name: str
    """Such as `all_reduce`."""
    bytes: int
    """Of this rank's tensors."""
    ready_ns: int
    """When this rank had come to it; until `start_ns` it waited for `last_rank`."""
    start_ns: int
    end_ns: int
    last_rank: int


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What one device did in a profile. The three times add up to the profile's length."""

    device: str
    operations: int
    busy_ns: int
    """Computing, on any of its streams."""
    copying_ns: int
    """Sending or receiving, in a copy or a collective, and not computing meanwhile."""
    idle_ns: int
    flops: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class LinkUse:
    """What went from one end to another."""

    source: str
    target: str
    transfers: int
    bytes: int
    busy_ns: int


class Recording:
    """What virtual GPUs did, from the beginning of a profile to its end."""

    def __init__(self) -> None:
        self.spans: list[OpSpan] = []
        """Every operation, in the order of issue."""
        self.transfers: list[Transfer] = []
        self.collectives: list[Collective] = []
        """What this rank's devices did together with other ranks'."""
        self.notes: list[str] = []
        """What a reader should know: where it stopped, and why."""
        self.devices: tuple[str, ...] = ()
        self.hardware = ""
        """Title of the hardware that the devices pretend to be."""
        self.issue_ns = 0
        """What it costs the host to issue one operation."""
        self.length_ns = 0
        """Until the host and all devices were done with what was issued inside."""
        self.host_ns = 0
        """Until the host was done issuing."""
        self.left_out = 0
        """Operations and transfers that it had no room for."""
        self._zero_ns = 0
        self._ledger: MemoryLedger | None = None

    # -- what it says ----------------------------------------------------------------------------------------------

    def busy(self, device: str) -> float:
        """The share of the profile's length for which the device computed, 0 to 1.

        Raises:
            DeviceError: when the profile has no such device.
        """
        use = self.use(device)
        return use.busy_ns / self.length_ns if self.length_ns else 0.0

    def use(self, device: str) -> DeviceUse:
        """What one device did.

        Raises:
            DeviceError: when the profile has no such device.
        """
        self._check(device)
        own = [span for span in self.spans if span.device == device]
        busy_ns = _covered(own)
        copies = [copy for copy in self.transfers if device in (copy.source, copy.target)]
        together = [collective for collective in self.collectives if collective.device == device]
        occupied_ns = _covered([*own, *copies, *together])
        return DeviceUse(
            device,
            operations=len(own),
            busy_ns=busy_ns,
            copying_ns=occupied_ns - busy_ns,
            idle_ns=max(0, self.length_ns - occupied_ns),
            flops=sum(span.flops for span in own),
            peak_bytes=max((sum(parts.values()) for _, parts in self.memory_of(device)), default=0),
        )

    def links(self) -> list[LinkUse]:
        """What went where, by source and target."""
        copies: dict[tuple[str, str], list[Transfer]] = defaultdict(list)
        for copy in self.transfers:
            copies[copy.source, copy.target].append(copy)
        return [
            LinkUse(source, target, len(own), sum(copy.bytes for copy in own), _covered(own))
            for (source, target), own in sorted(copies.items())
        ]

    def memory_of(self, device: str) -> list[MemoryPoint]:
        """What a device's memory was used for, by the host: at the beginning, and after every change.

        Raises:
            DeviceError: when the profile has no such device.
        """
        index = self._check(device)
        if self._ledger is None:
            return []
        last = self.length_ns if self.left_out else None
        points = [point._replace(at_ns=point.at_ns - self._zero_ns) for point in self._ledger.timeline(index)]
        return [point for point in points if last is None or point.at_ns <= last]

    def memory_while_running(self, device: str) -> list[MemoryPoint]:
        """The same as `memory_of`, with the times at which the device comes to it: see `lab.vgpu.memory_times`.

        Raises:
            DeviceError: when the profile has no such device.
        """
        works = [Work(span.issued_ns, span.start_ns, span.end_ns) for span in self.spans if span.device == device]
        works += [
            Work(copy.issued_ns, copy.start_ns, copy.end_ns)
            for copy in self.transfers
            if (device, 0) in ((copy.source, copy.source_stream), (copy.target, copy.target_stream))
        ]
        return on_device(self.memory_of(device), works)

    @property
    def memory(self) -> dict[str, list[MemoryPoint]]:
        """What every device's memory was used for, by the host."""
        return {device: self.memory_of(device) for device in self.devices}

    def summary(self) -> str:
        """Two tables as text: what each device did, and what went over each link."""
        return as_text(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a trace in the Chrome trace event format, which https://ui.perfetto.dev and chrome://tracing open."""
        from lab.vgpu import trace

        trace.write(self, path)

    def of_all_ranks(self, group: Any = None) -> Recording | None:
        """The profiles of all ranks as one, on the group's first rank; None on the others. Every rank has to call it.

        Args:
            group: a process group that carries objects; the default one when None.

        Raises:
            DeviceError: without a process group.
        """
        from lab.vgpu import gathering

        return gathering.gather(self, group)

    def timeline(self, theme: str = "light", window_ms: tuple[float, float] | None = None) -> Any:
        """A Plotly figure of what every device and stream did.

        Args:
            theme: `light` or `dark`.
            window_ms: draw only from when to when, milliseconds since the profile began.

        Raises:
            LabError: when what draws it is not installed.
        """
        return views.draw("profile_timeline", self, theme, window_ms)

    def memory_figure(self, theme: str = "light") -> Any:
        """A Plotly figure of what every device's memory was used for, over the device's time.

        Raises:
            LabError: when what draws it is not installed.
        """
        return views.draw("profile_memory", self, theme)

    def _check(self, device: str) -> int:
        if device not in self.devices:
            here = ", ".join(self.devices) or "none: it has not begun"
            raise DeviceError(f"{device!r} is not among this profile's devices: {here}")
        return self.devices.index(device)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return as_html(self)


def _covered(done: Iterable[OpSpan | Transfer | Collective]) -> int:
    """For how many nanoseconds at least one of them was under way."""
    total = until = 0
    for start, end in sorted((each.start_ns, each.end_ns) for each in done):
        total += max(0, end - max(start, until))
        until = max(until, end)
    return total


def corners(points: Iterable[MemoryPoint]) -> list[MemoryPoint]:
    """Of the points at each time, the highest, and then the last if it is another: what a picture needs."""
    found: list[MemoryPoint] = []
    for _, group in itertools.groupby(points, key=lambda point: point.at_ns):
        together = list(group)
        highest = max(together, key=lambda point: point.total)
        found += [highest] if highest is together[-1] else [highest, together[-1]]
    return found
