"""The virtual clock: a discrete-event simulation of a host that issues work to devices, as with CUDA streams.

These rules make the timeline:

- The host issues an operation and goes on at once; issuing costs it a little time.
- A device has streams: the default stream, number 0, and those that are made. Each runs its operations in the order of
  issue: one starts when it has been issued and the one before has ended. Streams wait for each other only at events.
- A device has one compute engine. Operations of two streams of one device take turns on it: together they are no
  faster than one after the other, in the order in which they are issued. Where an operation has to wait, for an event
  or a copy, the engine does meanwhile what was issued later on another stream and is ready.
- A device has two copy engines, one for each direction, so a copy on another stream overlaps with computing. A copy
  keeps busy the outgoing engine of its source, the incoming engine of its target and every channel of its route, and
  waits until all are free. It lasts latency + bytes / bandwidth of the link.
- A copy between two devices takes its place in the current streams of both, as `Tensor.to` does between two CUDA
  devices (PyTorch makes each device's stream wait for the other's around a copy).

The host waits only where it needs a result: `.item()`, a copy to the CPU, `synchronize()`. So the simulated devices
overlap as real ones do, although their operations are computed one after another on the CPU.

All times are integers in nanoseconds since the clock was reset.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Protocol

from lab.vgpu.links import HOST, Topology
from lab.vgpu.observer import Collective, Copy, Observer
from lab.vgpu.resources import Resource, book_together

STREAMS_PER_DEVICE = 32
"""How many streams a device has beside its default one. As in PyTorch, whoever asks for more shares them."""

QUERY_NS = 1000
"""What it costs the host at least to ask whether something has ended; so a loop that asks goes forward in time."""


class Stream:
    """A queue of one device: its operations run in order."""

    __slots__ = ("device", "first_ns", "free_ns", "last_ns", "number")

    def __init__(self, device: int, number: int) -> None:
        self.device = device
        self.number = number
        self.free_ns = 0
        """When the last operation that was issued ends."""
        self.first_ns: int | None = None
        """Of a default stream: when the device's first operation since the last `mark()` started, on any of its
        streams and copies apart; None while there was none."""
        self.last_ns = 0
        """Of a default stream: when the last operation of the device, copies apart, ends."""

    def mark(self) -> None:
        """From now on, `first_ns` is the start of the device's next operation."""
        self.first_ns = None

    def wait_until(self, at_ns: int) -> None:
        """What is issued from now on starts at `at_ns` at the earliest."""
        self.free_ns = max(self.free_ns, at_ns)


class _Current(threading.local):
    """The streams that a thread has chosen, by device."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}


class Follower(Protocol):
    """Changes a thread's current streams when that is due, as in backward."""

    def follow(self) -> None:
        """Called before a current stream is looked at."""

    def changed(self, stream: Stream) -> None:
        """Called when this thread has chosen a stream."""


class VirtualClock:
    """The time of the host, of every device's streams and engines, and of every link.

    Args:
        devices: number of devices.
        issue_ns: what it costs the host to issue one operation.
        topology: the links between them and the host.
    """

    def __init__(self, devices: int, issue_ns: int, topology: Topology) -> None:
        self.issue_ns = issue_ns
        self.topology = topology
        self.host_ns = 0
        self.streams = [Stream(device, 0) for device in range(devices)]
        """The default streams."""
        self.observers: list[Observer] = []
        """Those who are told of everything."""
        self.on_transfer: Callable[[Copy], None] | None = None
        """Told of transfers alone."""
        self.follower: Follower | None = None
        self.on_collective: Callable[[Collective], None] | None = None
        """Told of collectives alone."""
        self._side_streams: list[list[Stream]] = [[] for _ in range(devices)]
        self._made = [0] * devices
        self._several = False
        """Whether there is any stream but the default ones. Without, a device's stream is all there is to know."""
        self._compute = [Resource() for _ in range(devices)]
        """Kept from the first side stream on."""
        self._outgoing = [Resource() for _ in range(devices)]
        self._incoming = [Resource() for _ in range(devices)]
        self._channels: defaultdict[Hashable, Resource] = defaultdict(Resource)
        self._current = _Current()
        self._lock = threading.Lock()

    # -- work -----------------------------------------------------------------------------------------------------

    def run(self, device: int, duration_ns: int) -> int:
        """Issues an operation on the device's current stream that keeps the device busy for `duration_ns`; returns
        when it starts.
        """
        self.host_ns = issued = self.host_ns + self.issue_ns
        if self._several:
            return self._run_on_stream(self.current(device), issued, duration_ns)
        stream = self.streams[device]
        start = stream.free_ns
        if issued > start:
            start = issued
        if stream.first_ns is None:
            stream.first_ns = start
        stream.free_ns = stream.last_ns = start + duration_ns
        return start

    def _run_on_stream(self, stream: Stream, issued: int, duration_ns: int) -> int:
        engine = self._compute[stream.device]
        with self._lock:
            start = engine.fit(max(stream.free_ns, issued), duration_ns)
            end = start + duration_ns
            engine.book(start, end, issued)
            stream.free_ns = end
            whole = self.streams[stream.device]
            if whole.first_ns is None:
                whole.first_ns, whole.last_ns = start, end
            else:
                whole.first_ns, whole.last_ns = min(whole.first_ns, start), max(whole.last_ns, end)
        return start

    def transfer(self, source: int, target: int, size: int, *, host_waits: bool) -> None:
        """Issues a copy of `size` bytes on the current streams of its ends; either end may be HOST."""
        self.host_ns = issued = self.host_ns + self.issue_ns
        route = self.topology.route(source, target)
        duration_ns = route.link.duration_ns(size)
        engines = [self._channels[channel] for channel in route.channels]
        streams: list[Stream] = []
        if source != HOST:
            engines.append(self._outgoing[source])
            streams.append(self.current(source))
        if target != HOST:
            engines.append(self._incoming[target])
            streams.append(self.current(target))
        with self._lock:
            ready = max(issued, *(stream.free_ns for stream in streams))
            start = book_together(engines, ready, duration_ns, issued)
            end = start + duration_ns
            for stream in streams:
                stream.free_ns = end
        if host_waits:
            self.advance_host(end)
        if self.on_transfer is None and not self.observers:
            return
        leaves, arrives = (0 if place == HOST else self.current(place).number for place in (source, target))
        copy = Copy(source, target, leaves, arrives, size, issued, start, end)
        if self.on_transfer is not None:
            self.on_transfer(copy)
        for observer in self.observers:
            observer.transfer(copy)

    def issue(self, device: int) -> int:
        """The host issues something that is no work of the device itself; returns when the device's current stream has
        come to it.
        """
        self.host_ns += self.issue_ns
        return self.end_of(self.current(device))

    def tell_collective(self, collective: Collective) -> None:
        """Tells those who watch of a collective."""
        if self.on_collective is not None:
            self.on_collective(collective)
        for observer in self.observers:
            observer.collective(collective)

    # -- streams --------------------------------------------------------------------------------------------------

    def new_stream(self, device: int) -> Stream:
        """A stream beside the default one; one that was given out before, once there are STREAMS_PER_DEVICE."""
        with self._lock:
            number = 1 + self._made[device] % STREAMS_PER_DEVICE
            self._made[device] += 1
        return self.stream(device, number)

    def stream(self, device: int, number: int) -> Stream:
        """A stream by its number; 0 is the default one."""
        if number == 0:
            return self.streams[device]
        with self._lock:
            if not self._several:
                for engine, default in zip(self._compute, self.streams, strict=True):
                    engine.free_ns = default.last_ns
                self._several = True
            made = self._side_streams[device]
            made.extend(Stream(device, new) for new in range(len(made) + 1, number + 1))
            return made[number - 1]

    def current(self, device: int) -> Stream:
        """The stream on which this thread issues work for the device."""
        if not self._several:
            return self.streams[device]
        if self.follower is not None:
            self.follower.follow()
        return self.chosen.get(device) or self.streams[device]

    def set_current(self, stream: Stream) -> None:
        """From now on, this thread issues work for the stream's device on this stream."""
        if self.follower is not None:
            self.follower.follow()
        self.chosen[stream.device] = stream
        if self.follower is not None:
            self.follower.changed(stream)

    @property
    def chosen(self) -> dict[int, Stream]:
        """The streams that this thread has chosen, by device."""
        return self._current.streams

    # -- the host -------------------------------------------------------------------------------------------------

    def advance_host(self, to_ns: int) -> None:
        """The host was busy with something of its own, or waited, until `to_ns`."""
        self.host_ns = max(self.host_ns, to_ns)

    def reached(self, at_ns: int) -> bool:
        """The host asks whether what ends at `at_ns` has ended. Asking in vain takes it a moment."""
        if self.host_ns >= at_ns:
            return True
        self.host_ns += max(self.issue_ns, QUERY_NS)
        return False

    def end_of(self, stream: Stream) -> int:
        """When the stream will have done what it has been given so far; what an event that is recorded now stands
        for.
        """
        return max(stream.free_ns, self.host_ns)

    def synchronize(self, device: int | None = None) -> None:
        """The host waits for all streams of one device, or of all."""
        self.host_ns = self.now_ns if device is None else max(self.host_ns, self._end_of_device(device))

    def _end_of_device(self, device: int) -> int:
        return max(self.streams[device].free_ns, *(stream.free_ns for stream in self._side_streams[device]), 0)

    @property
    def now_ns(self) -> int:
        """When all that was issued so far ends."""
        return max(self.host_ns, *map(self._end_of_device, range(len(self.streams))))
