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

from collections.abc import Callable, Hashable

from lab.vgpu.links import HOST, Topology
from lab.vgpu.observer import Copy, Observer


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
        topology: the links between them and the host.
    """

    def __init__(self, devices: int, issue_ns: int, topology: Topology) -> None:
        self.issue_ns = issue_ns
        self.topology = topology
        self.host_ns = 0
        self.streams = [Stream() for _ in range(devices)]
        self.observers: list[Observer] = []
        """Those who are told of everything."""
        self.on_transfer: Callable[[Copy], None] | None = None
        """Told of transfers alone."""
        self._channel_free_ns: dict[Hashable, int] = {}

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
        issued = self.host_ns
        route = self.topology.route(source, target)
        channels = [self._channel_free_ns.get(channel, 0) for channel in route.channels]
        start = max(issued, *channels, *(stream.free_ns for stream in ends))
        end = start + route.link.duration_ns(size)
        self._channel_free_ns.update(dict.fromkeys(route.channels, end))
        for stream in ends:
            stream.free_ns = end
        if host_waits:
            self.host_ns = end
        if self.on_transfer is None and not self.observers:
            return
        copy = Copy(source, target, 0, 0, size, issued, start, end)
        if self.on_transfer is not None:
            self.on_transfer(copy)
        for observer in self.observers:
            observer.transfer(copy)

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
