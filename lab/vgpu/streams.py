"""Streams and events of `torch.vgpu`, as those of `torch.cuda`; the times are those of `lab.vgpu.clock`.

    side = torch.vgpu.Stream()
    with torch.vgpu.stream(side):
        batch = pinned.to("vgpu", non_blocking=True)     # beside what the default stream computes
    torch.vgpu.current_stream().wait_stream(side)

Results are always those of the order in which a program runs: a missing `wait_stream` shows on the timeline, not as
wrong numbers.

Private PyTorch names used here: `torch._C._autograd.DeviceType`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import torch

from lab.errors import DeviceError
from lab.vgpu import clock
from lab.vgpu.selection import DeviceLike, device, index_of, select
from lab.vgpu.tensor import machine

_DEVICE_TYPE = torch._C._autograd.DeviceType.PrivateUse1.value


class Stream(torch.Stream):
    """A queue of work on a virtual GPU. What goes into one stream runs in order; two streams wait for each other only
    where they are told to. Copies on one overlap with computing on another; two computations take turns.

    Args:
        device: the current one when None.
        priority: kept, and without effect: work is done in the order in which it is issued.
    """

    priority: int

    def __new__(cls, device: DeviceLike = None, priority: int = 0, **kwargs: Any) -> Stream:
        if "stream_id" in kwargs:
            index, number = machine().check(kwargs["device_index"]), kwargs["stream_id"]
        else:
            index = index_of(device)
            number = machine().clock.new_stream(index).number
        made: Stream = super().__new__(cls, stream_id=number, device_index=index, device_type=_DEVICE_TYPE)
        return made

    def __init__(self, device: DeviceLike = None, priority: int = 0, **kwargs: Any) -> None:
        self.priority = priority

    @staticmethod
    def priority_range() -> tuple[int, int]:
        """The least and the greatest priority: as everything is done in the order of issue, there is one."""
        return 0, 0

    def wait_event(self, event: torch.Event) -> None:
        """Work that is given to this stream from now on waits for the event."""
        event.wait(self)

    def wait_stream(self, stream: torch.Stream) -> None:
        """Work that is given to this stream from now on waits for all that the other has been given so far."""
        self.wait_event(stream.record_event())

    def record_event(self, event: Any = None) -> Any:
        """Records the event here, a new one if none is given, and returns it."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def query(self) -> bool:
        """Whether all that it has been given has ended."""
        return machine().clock.reached(simulated(self).free_ns)

    def synchronize(self) -> None:
        """The host waits for all that it has been given."""
        machine().clock.advance_host(simulated(self).free_ns)

    def __enter__(self) -> Stream:
        context = StreamContext(self)
        context.__enter__()
        _entered.contexts.append(context)
        return self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        _entered.contexts.pop().__exit__(kind, value, traceback)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and super().__eq__(other)

    def __hash__(self) -> int:
        return hash((self.stream_id, self.device))

    def __repr__(self) -> str:
        return f"<torch.vgpu.Stream device={self.device} number={self.stream_id}>"


class Event(torch.Event):
    """A mark in a stream: reached when all is done that the stream had been given before.

    Args:
        enable_timing: whether `elapsed_time` may be asked.
        blocking: without effect, the host waits as long either way.
        interprocess: not possible, every process has a clock of its own.
    """

    def __new__(
        cls, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False, external: bool = False
    ) -> Event:
        if interprocess:
            raise DeviceError(
                "an event of a virtual GPU cannot be shared between processes: each has a clock of its own. "
                "Leave out interprocess=True."
            )
        made: Event = super().__new__(cls, device="vgpu", enable_timing=enable_timing)
        return made

    def __init__(self, enable_timing: bool = False, **ignored: Any) -> None:
        self.enable_timing = enable_timing
        self._clock: clock.VirtualClock | None = None
        self._index = -1
        self._at_ns = 0

    @property
    def device(self) -> torch.device | None:  # type: ignore[override]
        """Where it was recorded first; None before."""
        return None if self._index < 0 else torch.device("vgpu", self._index)

    def record(self, stream: torch.Stream | None = None) -> None:
        """Marks this moment of the stream, of the current one if none is given.

        Raises:
            RuntimeError: when it has been recorded on another device.
        """
        stream = current_stream() if stream is None else stream
        if self._index not in (-1, stream.device_index):
            raise RuntimeError(
                f"Event device {self._index} does not match recording stream's device {stream.device_index}."
            )
        self._index, self._clock = stream.device_index, machine().clock
        self._at_ns = self._clock.end_of(simulated(stream))

    def wait(self, stream: torch.Stream | None = None) -> None:
        """Work that is given to the stream from now on, to the current one if none is given, waits for this event."""
        simulated(current_stream() if stream is None else stream).wait_until(self._pending_ns())

    def query(self) -> bool:
        """Whether it has been reached; True when it was never recorded."""
        return machine().clock.reached(self._pending_ns())

    def synchronize(self) -> None:
        """The host waits for it."""
        machine().clock.advance_host(self._pending_ns())

    def elapsed_time(self, end_event: Event) -> float:  # type: ignore[override]
        """Milliseconds on the virtual clock from this event to the other.

        Raises:
            ValueError: when one was made without `enable_timing=True`, or was not recorded.
            RuntimeError: when one has not been reached yet.
        """
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._clock is None or end_event._clock is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if self._clock is not end_event._clock:
            raise ValueError("Both events must be recorded on one clock: lab.vgpu.enable() was called between them.")
        if self._clock.host_ns < max(self._at_ns, end_event._at_ns):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return (end_event._at_ns - self._at_ns) / 1e6

    def _pending_ns(self) -> int:
        """When it is reached on the clock of today; 0 when it was recorded on an earlier one, or not at all."""
        return self._at_ns if self._clock is machine().clock else 0

    def __repr__(self) -> str:
        return "<torch.vgpu.Event uninitialized>" if self._clock is None else f"<torch.vgpu.Event at {self._at_ns} ns>"


class StreamContext:
    """Inside, this thread issues work on the stream, and the stream's device is the current one."""

    def __init__(self, stream: torch.Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        if self.stream is not None:
            index = self.stream.device_index
            self._device = device(index)
            self._device.__enter__()
            self._clock = machine().clock
            self._before = self._clock.current(index)
            set_stream(self.stream)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.stream is not None:
            self._clock.set_current(self._before)
            self._device.__exit__(kind, value, traceback)


class _Entered(threading.local):
    """The streams that a thread uses as contexts, inmost last."""

    def __init__(self) -> None:
        self.contexts: list[StreamContext] = []


_entered = _Entered()


def simulated(stream: torch.Stream) -> clock.Stream:
    """The queue on the clock behind a stream."""
    return machine().clock.stream(machine().check(stream.device_index), stream.stream_id)


def _facing(index: int, number: int) -> Stream:
    return Stream(stream_id=number, device_index=index)


def stream(stream: torch.Stream | None) -> StreamContext:
    """`with torch.vgpu.stream(s):` issues the work inside on that stream of its device; with None, nothing happens."""
    return StreamContext(stream)


def set_stream(stream: torch.Stream | None) -> None:
    """From now on, this thread issues work on that stream, and its device is the current one."""
    if stream is not None:
        select(machine().check(stream.device_index))
        machine().clock.set_current(simulated(stream))


def current_stream(device: DeviceLike = None) -> Stream:
    """The stream on which this thread issues work for the device."""
    index = index_of(device)
    return _facing(index, machine().clock.current(index).number)


def default_stream(device: DeviceLike = None) -> Stream:
    """The stream on which work is issued as long as none is chosen."""
    return _facing(index_of(device), 0)
