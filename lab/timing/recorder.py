"""The Recorder: turns what a strategy marks into spans and finished steps.

It is made to cost little: a mark is one call to a timer, spans travel as plain tuples, and whatever needs reading is
read ten times a second, for all steps that are done by then.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lab.events import DeviceTotals, Event, MemorySampled, Span, SpanKind, StepFinished
from lab.timing.base import Interval, Mark, Timer
from lab.timing.overlap import COMPUTATION, hidden_ns, outside
from lab.timing.virtual import VirtualTimer

FLUSH_SECONDS = 0.1
TRIFLE_NS = 5_000
"""A turn that a transfer cuts off this soon was only opened; what it did is the hooks' own time."""

SHORTEST_WAIT_NS = 10_000
"""A shorter gap is the time that the host takes between two operations."""

SpanRow = tuple[str, int, int, SpanKind, str, int, int, int, int, int, str]
"""A Span's fields in order: what goes over the pipe, being much cheaper to make and to pickle."""


_Turn = tuple[SpanKind, str, str, int, Mark, int]
"""Kind, layer, device, microbatch, the beginning, and when that was by `time.perf_counter_ns`."""
_RawSpan = tuple[str, SpanKind, str, Interval, int, int, str]
"""Device, kind, name, interval, bytes, microbatch, peer. Kept short: it is made between a device's operations, where
every line of Python is slow, because what the operations computed has filled the caches."""


@dataclass(slots=True)
class _Step:
    """A step whose spans and loss may still be on their way on a device."""

    step: int
    spans: list[_RawSpan] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    loss: Tensor | None = None
    samples: int = 0


class Recorder:
    """Records one rank.

    Args:
        timer: reads the run's clock.
        devices: on which this rank computes.
        emit: takes finished events (spans as rows) in batches; called from the training thread.
        microbatches: over which a layer's FLOPs in one step are shared out.
        lanes: device -> the name under which it is reported, for a device that several ranks share.
    """

    def __init__(
        self,
        timer: Timer,
        devices: Sequence[str],
        emit: Callable[[list[Event | SpanRow]], None],
        rank: int = 0,
        microbatches: int = 1,
        lanes: Mapping[str, str] | None = None,
    ) -> None:
        self.timer = timer
        self.devices = tuple(devices)
        self.rank = rank
        self.microbatch = 0
        self.placement: dict[str, str] = {}
        self.flops: dict[tuple[str, str], int] = {}
        self.last_rows: deque[SpanRow] = deque(maxlen=64)
        self.steps_done = 0
        self._emit = emit
        self._microbatches = microbatches
        self._lanes = dict(lanes or {})
        self._hidden: dict[str, int] = defaultdict(int)
        self._active = True
        self._turn: _Turn | None = None
        self._purpose = ""
        self._collective = ""
        self._step = _Step(0)
        self._pending: deque[_Step] = deque()
        self._end_ns = 0
        self._flushed = time.monotonic()
        self._kinds: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._virtual = isinstance(timer, VirtualTimer)
        self._memory = timer.step_memory if isinstance(timer, VirtualTimer) else None
        if isinstance(timer, VirtualTimer):
            timer.on_transfer(self._on_virtual_transfer)
            timer.on_collective(self._on_virtual_collective)

    # -- marks that strategies make --------------------------------------------------------------------------------

    def forward_turn(self, layer: str, call: int) -> None:
        if self._active:
            self._begin_turn("forward", layer, self.placement[layer])

    def backward_turn(self, layer: str, call: int) -> None:
        if self._active:
            self._begin_turn("backward", layer, self.placement[layer])

    def on(self, device: str) -> Lane:
        """Takes the turns of layers on this device, whatever the placement says: those of a copy of the net."""
        return Lane(self, device)

    def end_turn(self) -> None:
        """The layers have had their turns: what follows is not theirs."""
        turn = self._turn
        if turn is not None:
            self._turn = None
            kind, layer, device, microbatch, mark, _ = turn
            interval = self.timer.end(mark)
            if interval is not None:
                self._step.spans.append((device, kind, layer, interval, 0, microbatch, ""))

    def _begin_turn(self, kind: SpanKind, layer: str, device: str) -> None:
        turn = self._turn
        if turn is not None:
            if turn[1] == layer and turn[0] == kind and turn[2] == device and turn[3] == self.microbatch:
                return
            self.end_turn()
        self._turn = (kind, layer, device, self.microbatch, self.timer.begin(device), time.perf_counter_ns())

    def span(self, kind: SpanKind, devices: Sequence[str], name: str) -> _SpanOfDevices:
        """Something that these devices do inside, each from when it begins to when it ends."""
        return _SpanOfDevices(self, kind, devices, name)

    @contextmanager
    def transfer(self, source: str, target: str, size: int, purpose: str = "") -> Iterator[None]:
        """A copy from one device to another is issued inside. A layer whose turn it is goes on afterwards.

        Args:
            size: bytes.
            purpose: what the copy is for, such as `scatter`; its span's name begins with it.
        """
        self._purpose = purpose
        if self._virtual or not self._active:
            yield  # the virtual clock reports its transfers itself, to the nanosecond
            self._purpose = ""
            return
        turn = self._turn
        if turn is not None:
            if time.perf_counter_ns() - turn[5] < TRIFLE_NS:
                self._turn = None
            else:
                self.end_turn()
        lane = source if source in self.devices else target
        mark = self.timer.begin(lane)
        yield
        interval = self.timer.end(mark)
        if interval is not None:
            self._add_transfer(source, target, size, interval)
        self._purpose = ""
        if turn is not None:
            self._turn = (*turn[:4], self.timer.begin(turn[2]), time.perf_counter_ns())

    def _on_virtual_transfer(self, source: str, target: str, size: int, interval: Interval) -> None:
        if not self._active:
            return
        turn = self._turn
        if turn is not None and turn[2] in (source, target):
            # The copy stands between two parts of this turn.
            self.end_turn()
            self._turn = (*turn[:4], self.timer.begin(turn[2]), turn[5])
        self._add_transfer(source, target, size, interval)

    def _add_transfer(self, source: str, target: str, size: int, interval: Interval) -> None:
        name = f"{self._purpose} {source} → {target}" if self._purpose else f"{source} → {target}"
        self._step.spans.append((source, "transfer", name, interval, size, self.microbatch, target))

    def report(self, events: Sequence[Event]) -> None:
        """Adds events of the strategy's own to the step."""
        self._step.events.extend(events)

    def collective(self, device: str, name: str) -> Callable[[int], None]:
        """A collective is about to be issued, and goes on beside what the device does. Call what this returns when it
        is done, with the bytes that it carried, from any thread."""
        if self._virtual:
            self._collective = name  # the virtual clock reports it, under the name of the operator
            return self._collective_issued
        if not self._active:
            return lambda size: None
        step, mark = self._step, self.timer.begin(device)

        def done(size: int) -> None:
            interval = self.timer.end(mark)
            if interval is not None:
                step.spans.append((device, "collective", name, interval, size, 0, ""))

        return done

    def _collective_issued(self, size: int) -> None:
        self._collective = ""

    def _on_virtual_collective(
        self, device: str, name: str, size: int, ready_ns: int, interval: Interval, last_rank: int
    ) -> None:
        if not self._active:
            return
        self._step.spans.append((device, "collective", self._collective or name, interval, size, 0, ""))
        if interval[0] - ready_ns >= SHORTEST_WAIT_NS:
            self._step.spans.append((device, "wait", f"rank {last_rank}", (ready_ns, interval[0]), 0, 0, ""))

    # -- steps -----------------------------------------------------------------------------------------------------

    def finish_step(self, loss: Tensor, samples: int) -> None:
        """The step has been issued; its events follow when its devices are done."""
        self.end_turn()
        step = self._step
        step.loss, step.samples = self.timer.keep(loss), samples
        self._pending.append(step)
        self._step = _Step(step.step + 1)
        if self._memory is not None:
            self._memory.step_ended(step.step)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self, *, wait: bool = False) -> None:
        """Reads and emits every step that is done; with `wait`, all that were issued."""
        batch: list[Event | SpanRow] = []
        while self._pending and (wait or all(self.timer.ready(span[3]) for span in self._pending[0].spans)):
            self._read(self._pending.popleft(), batch)
        now = self._end_ns
        batch.extend(
            MemorySampled(self._lanes.get(device, device), now, *self.timer.memory(device)) for device in self.devices
        )
        if self._memory is not None:
            batch.extend(self._memory.report())
            if wait:
                self._memory.drop()
        self._flushed = time.monotonic()
        self._emit(batch)

    def _read(self, step: _Step, batch: list[Event | SpanRow]) -> None:
        end, lanes = self._end_ns, self._lanes
        rows: list[SpanRow] = []
        for device, kind, name, interval, size, microbatch, peer in step.spans:
            if lanes:
                device, peer = lanes.get(device, device), lanes.get(peer, peer)
            start_ns, end_ns = self.timer.read(interval)
            flops = self.flops.get((kind, name), 0) // self._microbatches
            end = max(end, end_ns)
            row = (device, self.rank, step.step, kind, name, start_ns, end_ns, size, flops, microbatch, peer)
            rows.append(row)
            self._kinds[device][kind] += end_ns - start_ns
            if peer:
                self._kinds[peer][kind] += end_ns - start_ns
        for device, hidden in hidden_ns(rows).items():
            self._hidden[device] += hidden
        rows = _waits_cut(rows)
        batch += rows
        batch += step.events
        self.last_rows.extend(rows)
        loss = self.timer.value(step.loss) if step.loss is not None else float("nan")
        seconds, self._end_ns = (end - self._end_ns) / 1e9, end
        self.steps_done = step.step + 1
        batch.append(StepFinished(step.step, self.rank, loss, step.samples, seconds, end))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is recorded inside, and the clock stands still."""
        self.flush(wait=True)
        self._active = False
        try:
            with self.timer.paused():
                yield
        finally:
            self._active = True
        if self._memory is not None and not self._step.step:
            self._memory.step_begins()

    def totals(self) -> dict[str, DeviceTotals]:
        """What each device did so far; a device that takes part in a transfer, at either end, is occupied by it."""
        names = [self._lanes.get(device, device) for device in self.devices]
        return {name: total(self._kinds[name], self._hidden[name], self._end_ns) for name in names}


class Lane:
    """The turns of layers on one device; see `Recorder.on`."""

    __slots__ = ("_device", "_recorder")

    def __init__(self, recorder: Recorder, device: str) -> None:
        self._recorder, self._device = recorder, device

    def forward_turn(self, layer: str, call: int) -> None:
        if self._recorder._active:
            self._recorder._begin_turn("forward", layer, self._device)

    def backward_turn(self, layer: str, call: int) -> None:
        if self._recorder._active:
            self._recorder._begin_turn("backward", layer, self._device)


class _SpanOfDevices:
    """The context of `Recorder.span`; a class of its own costs half of what a generator does."""

    __slots__ = ("_devices", "_kind", "_marks", "_name", "_recorder")

    def __init__(self, recorder: Recorder, kind: SpanKind, devices: Sequence[str], name: str) -> None:
        self._recorder, self._kind, self._devices, self._name = recorder, kind, devices, name

    def __enter__(self) -> None:
        recorder = self._recorder
        recorder.end_turn()
        self._marks = [(device, recorder.timer.begin(device)) for device in self._devices]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            return
        recorder = self._recorder
        for device, mark in self._marks:
            interval = recorder.timer.end(mark)
            if interval is not None:
                recorder._step.spans.append((device, self._kind, self._name, interval, 0, recorder.microbatch, ""))


def total(kinds: Mapping[Any, int], hidden: int, end_ns: int) -> DeviceTotals:
    """What a device did until `end_ns`, from the nanoseconds of each kind of span."""
    transfer, collective = kinds.get("transfer", 0), kinds.get("collective", 0)
    busy = sum(ns for kind, ns in kinds.items() if kind not in ("transfer", "collective", "wait"))
    return DeviceTotals(
        busy, transfer, collective, max(0, end_ns - busy - transfer - collective + hidden), hidden_ns=hidden
    )


def _waits_cut(rows: list[SpanRow]) -> list[SpanRow]:
    """The rows of a step, with its waits for other ranks cut down to when their device had nothing else to do."""
    waits = [row for row in rows if row[3] == "wait"]
    if not waits:
        return rows
    work = [row for row in rows if row[3] in (*COMPUTATION, "transfer")]
    kept = [row for row in rows if row[3] != "wait"]
    for wait in waits:
        occupied = [(row[5], row[6]) for row in work if wait[0] in (row[0], row[10])]
        parts = outside((wait[5], wait[6]), occupied)
        kept += [(*wait[:5], start, end, *wait[7:]) for start, end in parts if end - start >= SHORTEST_WAIT_NS]
    return kept


def as_event(row: Event | SpanRow) -> Event:
    """The Span that a row stands for; other events as they are."""
    return Span(*row) if isinstance(row, tuple) else row


class WaitFinder:
    """Finds the gaps between a device's spans: the time for which it waited, and for whom.

    A gap belongs to the step of the span that ends it. Feed it the spans of one step after another.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = tuple(devices)
        self._last_end: dict[str, int] = dict.fromkeys(self._devices, 0)

    def waits(self, spans: Sequence[Span]) -> list[Span]:
        """The waits of one step's spans."""
        lanes: dict[str, list[Span]] = {device: [] for device in self._devices}
        for span in spans:
            for device in {span.device, span.peer}:
                if device in lanes:
                    lanes[device].append(span)
        found = []
        for device, own in lanes.items():
            last = self._last_end[device]
            for span in sorted(own, key=lambda span: span.start_ns):
                if span.start_ns - last >= SHORTEST_WAIT_NS:
                    blocker = _busiest(spans, device, last, span.start_ns)
                    found.append(Span(device, span.rank, span.step, "wait", blocker, last, span.start_ns))
                last = max(last, span.end_ns)
            self._last_end[device] = last
        return found


def _busiest(spans: Sequence[Span], waiting: str, start: int, end: int) -> str:
    """The other device that did most between start and end; the host when none did anything."""
    overlap: dict[str, int] = defaultdict(int)
    for span in spans:
        if span.device != waiting and span.peer != waiting:
            overlap[span.device] += max(0, min(end, span.end_ns) - max(start, span.start_ns))
    name, most = max(overlap.items(), key=lambda item: item[1], default=("", 0))
    return name if most else "host"
