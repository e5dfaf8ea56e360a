"""RunState: folds a run's events into what a view needs, in bounded memory however long the run is."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from lab.events import (
    Bucket,
    BucketsBuilt,
    Evaluated,
    Event,
    GraphTraced,
    GroupJoined,
    MemorySampled,
    MemoryTraced,
    Paused,
    Placed,
    PlacementGraph,
    RankFailed,
    Resumed,
    RunFinished,
    RunStarted,
    Span,
    SpanKind,
    StepFinished,
)
from lab.lateness import Straggler
from lab.lateness import find as find_straggler
from lab.sent import SentCounter
from lab.timing.meetings import communication, meetings, waited_for
from lab.timing.overlap import COMPUTATION, hidden_ns

Status = Literal["starting", "running", "paused", "finished", "stopped", "failed"]

SERIES_POINTS = 1_000
"""Most points of a curve: what a browser redraws in place ten times a second."""
KEPT_STEPS = 24
"""Steps whose spans are kept for the timeline."""
OPEN_STEPS = 256
"""Steps of a group that some ranks have reported and others not yet: reports come in batches, rank by rank."""
MAX_SPANS_PER_STEP = 4_000
RECENT_STEPS = 32
"""Over which a rank's pace is taken."""
LATENESS_STEPS = 12
"""Steps from which it is told who is late."""


class Series:
    """A curve of at most `limit` points: when it is full, neighbours are averaged and the stride doubles."""

    def __init__(self, limit: int = SERIES_POINTS) -> None:
        self.limit = limit
        self.stride = 1
        self.x: list[float] = []
        self.y: list[float] = []
        self._pending: list[tuple[float, float]] = []

    def add(self, x: float, y: float) -> None:
        self._pending.append((x, y))
        if len(self._pending) < self.stride:
            return
        self.x.append(self._pending[-1][0])
        self.y.append(sum(y for _, y in self._pending) / len(self._pending))
        self._pending.clear()
        if len(self.x) >= self.limit:
            self.x = self.x[1::2]
            self.y = [(a + b) / 2 for a, b in zip(self.y[::2], self.y[1::2], strict=False)]
            self.stride *= 2

    def __len__(self) -> int:
        return len(self.x)


@dataclass(slots=True)
class DeviceMemory:
    """A device's memory over time, in bytes; times in nanoseconds on the run's clock."""

    capacity: int = 0
    peak: int = 0
    allocated: Series = field(default_factory=Series)


@dataclass(slots=True)
class Traffic:
    """What went from one device to another over the whole run."""

    bytes: int = 0
    transfers: int = 0
    time_ns: int = 0


@dataclass(slots=True)
class RankProgress:
    """How far a rank has come, and how fast it is."""

    steps: int = 0
    """Finished."""
    loss: float = math.nan
    """Of its share of the batch in its last step."""
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    """Samples and seconds of the last steps."""

    @property
    def samples_per_second(self) -> float | None:
        """On the run's clock, over the last steps; None as long as no time has passed."""
        seconds = sum(seconds for _, seconds in self.recent)
        return sum(samples for samples, _ in self.recent) / seconds if seconds else None


@dataclass(slots=True)
class DeviceCommunication:
    """How a device's time in collectives was spent over the whole run, in nanoseconds; see `Communication`."""

    hidden_ns: int = 0
    exposed_ns: int = 0
    awaited_ns: int = 0


class RunState:
    """What a view needs to know of a run.

    Feed it events with `apply`; read its attributes from the same thread, or take `Run.state` under `Run.lock`.
    """

    def __init__(self) -> None:
        self.status: Status = "starting"
        self.started: RunStarted | None = None
        self.placed: Placed | None = None
        self.graph: PlacementGraph | None = None
        self.finished: RunFinished | None = None
        self.failures: list[RankFailed] = []
        self.group: GroupJoined | None = None
        """The ranks; None for a run in one process."""
        self.buckets: tuple[Bucket, ...] = ()
        """Which gradients ride together, as laid out last."""
        self.layouts: list[BucketsBuilt] = []
        """How the buckets were laid out first, and last."""
        self.ranks: dict[int, RankProgress] = defaultdict(RankProgress)
        self.communication: dict[str, DeviceCommunication] = defaultdict(DeviceCommunication)
        """Device -> how its collectives went in the steps that all ranks have finished."""
        self.waited_for: dict[int, int] = defaultdict(int)
        """Rank -> nanoseconds for which all others together had nothing to do but wait for it in collectives."""
        self.paused: Paused | None = None
        """Where the ranks wait, while they are paused."""
        self.step = 0
        """Steps that all ranks have finished so far."""
        self.samples = 0
        self.loss: dict[int, Series] = defaultdict(Series)
        """Rank -> its loss over steps, of its share of the batch."""
        self.mean_loss = Series()
        """The loss of the global batch over steps: the mean of the ranks'."""
        self.last_loss: float | None = None
        self.evaluations: deque[Evaluated] = deque(maxlen=1_000)
        self.spans: dict[int, list[Span]] = {}
        """Step -> its spans, for the last steps."""
        self.totals: dict[str, dict[SpanKind, int]] = defaultdict(lambda: defaultdict(int))
        """Device -> kind of span -> nanoseconds, over the whole run; a transfer counts for both its ends."""
        self.layers: dict[str, dict[SpanKind, int]] = defaultdict(lambda: defaultdict(int))
        """Layer -> forward and backward nanoseconds, over the whole run."""
        self.traffic: dict[tuple[str, str], Traffic] = defaultdict(Traffic)
        """(source, target) -> what went between them."""
        self.memory: dict[str, DeviceMemory] = defaultdict(DeviceMemory)
        self.memory_traces: dict[str, MemoryTraced] = {}
        """Virtual GPU -> what its memory was used for in the last step that was traced."""
        self.hidden: dict[str, int] = defaultdict(int)
        """Device -> nanoseconds of collectives that went on beside its computation, over the whole run."""
        self.crossed_bytes: int | None = None
        """What the last step that has ended moved between the devices of a run in one process."""
        self.sent_bytes: dict[str, int] = {}
        """Device -> bytes that it sent to other devices of the run in the last step that all ranks have finished; empty
        before the first. Copies are counted as they were made. What a rank brings to a collective is counted as the
        collective sends it on: of S bytes in an all-reduce of n ranks, each sends 2 (n-1)/n S, as on a ring
        (Patarasuk and Yuan, 2009; see `lab.vgpu.rings.sent_bytes` for the others)."""
        self.host_bytes: int | None = None
        """What the host sent to the devices in that step, in bytes: the samples and targets of the batch; 0 where the
        host's CPU computes itself, None before the first step has ended."""
        self.elapsed_ns = 0
        """End of the last step, on the run's clock."""
        self._step_seconds: deque[float] = deque(maxlen=64)
        self._sent = SentCounter()
        self._losses: dict[int, list[float]] = {}
        self._open: dict[int, list[Span]] = {}
        """Step -> what the ranks that have finished it computed and sent in it."""
        self._devices: set[str] = set()
        self._straggler: Straggler | None = None
        self._looked_at = -1

    def apply_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        match event:
            case Span():
                self._add_span(event)
            case StepFinished():
                self._add_step(event)
            case MemorySampled():
                memory = self.memory[event.device]
                memory.capacity, memory.peak = event.capacity, max(memory.peak, event.peak)
                memory.allocated.add(event.time_ns, event.allocated)
            case MemoryTraced():
                self.memory_traces[event.device] = event
            case Evaluated():
                self.evaluations.append(event)
            case RunStarted():
                self.started, self.status = event, "running"
                self._devices = set(self.device_names)
            case GroupJoined():
                self.group = event
            case BucketsBuilt():
                self.buckets = event.buckets
                self.layouts = [*self.layouts[:1], event]
            case Paused():
                self.paused, self.status = event, "paused"
            case Resumed():
                self.paused, self.status = None, "running"
            case Placed():
                self.placed = event
            case GraphTraced():
                self.graph = event.graph
            case RankFailed():
                # The root cause comes first, whatever the order of arrival.
                self.failures.append(event)
                self.failures.sort(key=lambda failure: not failure.primary)
            case RunFinished():
                self.finished, self.status, self.paused = event, event.state, None

    def _add_span(self, span: Span) -> None:
        self.totals[span.device][span.kind] += span.duration_ns
        if span.kind in ("forward", "backward"):
            self.layers[span.name][span.kind] += span.duration_ns
        if span.kind == "wait" and self.group and (late := span.name.removeprefix("rank ")).isdecimal():
            self.waited_for[int(late)] += span.duration_ns
            self.communication[span.device].awaited_ns += span.duration_ns
        if span.kind == "transfer" and span.peer:
            traffic = self.traffic[span.device, span.peer]
            traffic.bytes += span.bytes
            traffic.transfers += 1
            traffic.time_ns += span.duration_ns
            self.totals[span.peer][span.kind] += span.duration_ns  # a copy occupies both its ends
        if span.step >= self.step:
            self._sent.add(span, self._devices, self.world_size)
        kept = self.spans.get(span.step)
        if kept is None:
            kept = self.spans[span.step] = []
            self._make_room()
        if len(kept) < MAX_SPANS_PER_STEP:
            kept.append(span)

    def _make_room(self) -> None:
        """Drops the oldest steps; those that some ranks have not finished yet are kept for a while, to be whole."""
        complete = sorted(step for step in self.spans if step < self.step)
        for step in complete[:-KEPT_STEPS]:
            del self.spans[step]
        if len(self.spans) > KEPT_STEPS + (OPEN_STEPS if self.group else 0):
            del self.spans[min(self.spans)]  # a straggler's own step, if the others are newer

    def _add_step(self, event: StepFinished) -> None:
        self.samples += event.samples
        rank = self.ranks[event.rank]
        rank.steps, rank.loss = event.step + 1, event.loss
        rank.recent.append((event.samples, event.seconds))
        self.elapsed_ns = max(self.elapsed_ns, event.end_ns)
        self.loss[event.rank].add(event.step, event.loss)
        self._step_seconds.append(event.seconds)
        own = [span for span in self.spans.get(event.step, ()) if span.rank == event.rank]
        if self.group:
            self._open.setdefault(event.step, []).extend(
                span for span in own if span.kind == "collective" or span.kind in COMPUTATION
            )
        else:
            rows = [(span.device, 0, 0, span.kind, "", span.start_ns, span.end_ns) for span in own]
            for device, ns in hidden_ns(rows).items():
                self.hidden[device] += ns
        losses = self._losses.setdefault(event.step, [])
        losses.append(event.loss)
        if len(losses) == self.world_size:
            del self._losses[event.step]
            self.step = max(self.step, event.step + 1)
            sent = self._sent.ended(event.step, self.device_names)
            self.sent_bytes, self.host_bytes = sent.by_device, sent.from_host
            self.crossed_bytes = None if self.group else self.sent_total
            self.last_loss = sum(losses) / len(losses)
            self.mean_loss.add(event.step, self.last_loss)
            self._add_meetings(self._open.pop(event.step, []))

    def _add_meetings(self, spans: list[Span]) -> None:
        """All ranks have finished a step: who waited for whom in its collectives."""
        met = meetings(spans)
        for device, went in communication(spans, met).items():
            total = self.communication[device]
            total.hidden_ns += went.hidden_ns
            self.hidden[device] += went.hidden_ns
            total.exposed_ns += went.exposed_ns
            total.awaited_ns += went.awaited_ns
        for rank, ns in waited_for(spans, met).items():
            self.waited_for[rank] += ns

    # -- what views ask ------------------------------------------------------------------------------------------

    @property
    def world_size(self) -> int:
        return self.group.world_size if self.group else 1

    @property
    def pace(self) -> float | None:
        """Samples per second on the run's clock, of all ranks together, over the last steps."""
        paces = [rank.samples_per_second for rank in self.ranks.values()]
        return sum(pace for pace in paces if pace is not None) if any(paces) else None

    @property
    def step_seconds(self) -> float | None:
        """Median duration of the last steps on the run's clock."""
        return statistics.median(self._step_seconds) if self._step_seconds else None

    @property
    def timeline_step(self) -> int | None:
        """The last step all of whose spans are here."""
        complete = sorted((step for step in self.spans if step < self.step), reverse=True)
        for step in complete:
            if len({span.rank for span in self.spans[step]}) >= self.world_size:
                return step
        return complete[0] if complete else None

    @property
    def straggler(self) -> Straggler | None:
        """The rank for which the others wait, in the last steps; None when nobody is late for long."""
        if self._looked_at != self.step:
            self._looked_at = self.step
            steps = [spans for step, spans in sorted(self.spans.items()) if step < self.step][-LATENESS_STEPS:]
            self._straggler = find_straggler(steps, self.world_size) if self.world_size > 1 else None
        return self._straggler

    @property
    def device_names(self) -> tuple[str, ...]:
        return tuple(device.name for device in self.started.devices) if self.started else ()

    @property
    def crossing_bytes(self) -> int | None:
        """Bytes that cross between devices in one step, both ways: what the last step that has ended has moved, and
        before the first what the graph forecasts. Between ranks, the gradients that each brings to the all-reduces of a
        step. None as long as it is not known."""
        if self.group:
            step = self.timeline_step
            spans = [] if step is None else [span for span in self.spans[step] if span.kind == "collective"]
            return sum(span.bytes for span in spans if span.rank == spans[0].rank) if spans else None
        return self.crossed_bytes if self.crossed_bytes is not None else self.forecast_bytes

    @property
    def sent_total(self) -> int | None:
        """Bytes that all devices together sent to each other in the last step that all ranks have finished: the sum of
        `sent_bytes`; None before the first."""
        return sum(self.sent_bytes.values()) if self.host_bytes is not None else None

    @property
    def forecast_bytes(self) -> int | None:
        """What the graph says will cross between devices in a step; None where it says nothing of it: copies of the net
        exchange what no layer sends."""
        if self.graph is None or self.group or self.placed is None or self.placed.copies:
            return None
        return self.graph.crossing_bytes

    @property
    def crossing_is_forecast(self) -> bool:
        """Whether `crossing_bytes` was not measured, but is what the graph says will cross."""
        return not self.group and self.crossed_bytes is None and self.forecast_bytes is not None

    def shares(self, device: str) -> dict[SpanKind, float]:
        """Kind of span -> its share of the time that the run has taken so far; the shares add up to 1.

        What no span accounts for is waiting, so that a device of the run without any work waits all the time. Empty
        before the first step has ended, and for what is neither a device of the run nor has spans.
        """
        totals = self.totals.get(device, {})
        if not self.elapsed_ns or not (totals or device in self.device_names):
            return {}
        work: dict[SpanKind, int] = {kind: ns for kind, ns in totals.items() if kind != "wait"}
        if "collective" in work:
            # What went on beside computation took no time of the device's own.
            work["collective"] = max(0, work["collective"] - self.hidden.get(device, 0))
        occupied = sum(work.values())
        whole = max(self.elapsed_ns, occupied)
        shares: dict[SpanKind, float] = {kind: ns / whole for kind, ns in work.items()}
        if occupied < whole:
            shares["wait"] = (whole - occupied) / whole
        return shares

    @property
    def failure(self) -> RankFailed | None:
        """The root cause, if the run failed."""
        return self.failures[0] if self.failures else None
