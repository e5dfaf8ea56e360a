"""The virtual clock: a discrete-event simulation of a host that issues work to devices, as with CUDA streams.

Three rules make the timeline:

- The host issues an operation and goes on at once; issuing costs it a little time.
- A device runs its operations in the order of issue. One starts when it has been issued and the one before has ended.
- A copy between two devices takes its place in the order of both, as `Tensor.to` does between two CUDA devices (PyTorch
  makes each device's stream wait for the other's around a copy). It lasts latency + bytes / bandwidth of the link, and
  waits while the link carries something else.

The host waits only where it needs a result: `.item()`, a copy to the CPU, `synchronize()`. So the simulated devices
overlap as real ones do, although their operations are computed one after another on the CPU.

All times are integers in nanoseconds since the clock was reset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

HOST = -1
"""Index of the host among the ends of a link."""

TransferListener: TypeAlias = Callable[[int, int, int, int, int], None]
"""Called with source, target (device indices or HOST), bytes, start and end."""


@dataclass(frozen=True, slots=True)
class LinkModel:
    """A transfer takes `latency_ns + bytes / bytes_per_ns`."""

    bytes_per_ns: float
    latency_ns: int

    def duration_ns(self, size: int) -> int:
        return self.latency_ns + round(size / self.bytes_per_ns)


class Stream:
    """The queue of one device: its operations run in order."""

    __slots__ = ("first_ns", "free_ns", "last_ns")

    def __init__(self) -> None:
        self.free_ns = 0
        """When the last operation that was issued ends."""
        self.first_ns: int | None = None
        """When the first operation since the last `mark()` started; None while there was none."""
        self.last_ns = 0
        """When the last operation, copies apart, ends."""

    def mark(self) -> None:
        """From now on, `first_ns` is the start of the next operation."""
        self.first_ns = None


class VirtualClock:
    """The time of the host, of every device's stream and of every link.

    Args:
        devices: number of devices.
        issue_ns: what it costs the host to issue one operation.
        link: between any two devices; every pair has a link of its own, and each direction of it carries one transfer
            at a time.
        host_link: between the host and each device; the same as `link` if left out.
    """

    def __init__(self, devices: int, issue_ns: int, link: LinkModel, host_link: LinkModel | None = None) -> None:
        self.issue_ns = issue_ns
        self.link = link
        self.host_link = host_link or link
        self.host_ns = 0
        self.streams = [Stream() for _ in range(devices)]
        self.on_transfer: TransferListener | None = None
        self._link_free_ns: dict[tuple[int, int], int] = {}

    def run(self, device: int, duration_ns: int) -> int:
        """Issues an operation that keeps the device busy for `duration_ns`; returns when it starts."""
        self.host_ns = issued = self.host_ns + self.issue_ns
        stream = self.streams[device]
        start = stream.free_ns
        if issued > start:
            start = issued
        if stream.first_ns is None:
            stream.first_ns = start
        stream.free_ns = stream.last_ns = start + duration_ns
        return start

    def transfer(self, source: int, target: int, size: int, *, host_waits: bool) -> None:
        """Issues a copy of `size` bytes; either end may be HOST."""
        self.host_ns += self.issue_ns
        ends = [self.streams[end] for end in (source, target) if end != HOST]
        start = max(self.host_ns, self._link_free_ns.get((source, target), 0), *(stream.free_ns for stream in ends))
        link = self.host_link if HOST in (source, target) else self.link
        end = start + link.duration_ns(size)
        self._link_free_ns[source, target] = end
        for stream in ends:
            stream.free_ns = end
        if host_waits:
            self.host_ns = end
        if self.on_transfer is not None:
            self.on_transfer(source, target, size, start, end)

    def advance_host(self, to_ns: int) -> None:
        """The host was busy with something of its own until `to_ns`."""
        self.host_ns = max(self.host_ns, to_ns)

    def synchronize(self, device: int | None = None) -> None:
        """The host waits for one device, or for all."""
        streams = self.streams if device is None else [self.streams[device]]
        self.host_ns = max(self.host_ns, *(stream.free_ns for stream in streams))

    @property
    def now_ns(self) -> int:
        """When all that was issued so far ends."""
        return max(self.host_ns, *(stream.free_ns for stream in self.streams))
