"""What happened in a run: the one language between the engine and everything that shows it.

Every time is in nanoseconds on the clock named in `RunStarted`, counted from the start of training; every size is in
bytes. Events are plain values: they pickle, compare, and turn into JSON with `to_json`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

Clock: TypeAlias = Literal["wall", "cuda", "virtual"]
SpanKind: TypeAlias = Literal["data", "forward", "backward", "transfer", "collective", "optimizer", "other", "wait"]
SPAN_KINDS: tuple[SpanKind, ...] = get_args(SpanKind)
"""`other` comes in profiles alone: in a run everything is for something."""
Purpose: TypeAlias = Literal["parameters", "gradients", "optimizer state", "activations", "other"]
PURPOSES: tuple[Purpose, ...] = ("parameters", "gradients", "optimizer state", "activations", "other")
"""What memory is used for, in the order in which charts stack it; `lab.vgpu.purposes` tells how it is known."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device that takes part in a run."""

    name: str
    """As in the vocabulary: `cpu`, `cuda:0`, `vgpu:0`."""
    title: str
    """What it is: the processor's or the hardware profile's name."""
    memory_bytes: int
    """Its capacity."""
    simulated: bool
    """True when its times come from the virtual clock."""
    rank: int = 0
    """Of which rank it is a device. A device that several ranks share is named once for each: `rank 1 · cpu`."""


@dataclass(frozen=True, slots=True)
class DataSource:
    """Which data a run really used."""

    name: str
    title: str
    train_samples: int
    test_samples: int
    origin: str
    """Where it comes from, with its licence: bundled files, or generated from a seed."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    run_id: str
    experiment: dict[str, Any]
    """The Experiment as plain JSON values, with everything automatic resolved except the placement."""
    devices: tuple[DeviceInfo, ...]
    clock: Clock
    data: DataSource
    net: str
    """The net's title, with the class name when it is the user's own."""
    total_steps: int
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class GroupJoined:
    """The ranks have met."""

    world_size: int
    backend: str
    """What carries their collectives: gloo, nccl, or gloo with times simulated."""
    threads_per_rank: int
    """Threads with which each rank computes on the CPU."""
    parameters: tuple[str, ...]
    """Names of what is trained, in the order of `ParametersSummed.sums`."""
    explain: bool = False
    """True when collectives are checked against each other before they run, which costs time."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Gradients that travel together."""

    index: int
    """In the order in which they are sent."""
    parameters: tuple[str, ...]
    bytes: int
    sizes: tuple[int, ...] = ()
    """Bytes of each parameter's gradient."""


@dataclass(frozen=True, slots=True)
class BucketsBuilt:
    """Which gradients ride in which bucket, from this step on."""

    step: int
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class ParametersSummed:
    """A checksum of each parameter after a step; ranks that train together have the same."""

    step: int
    rank: int
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Paused:
    """A rank waits at a gate: before this phase of this step."""

    rank: int
    step: int
    phase: Literal["data", "forward", "backward", "synchronise", "update"]


@dataclass(frozen=True, slots=True)
class Resumed:
    """The ranks go on."""

    step: int
    """In which step, from where they waited."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Something was changed while the run went on."""

    step: int
    """The first step with it."""
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Placed:
    """Which layer lives where, once patterns and automatic placement are resolved."""

    layers: dict[str, str]
    """Layer path -> device, in the order in which the net runs them."""
    method: Literal["given", "even", "auto"]
    reason: str
    """One sentence: what was balanced, and what is expected of it."""
    expected_ns: dict[str, int] = field(default_factory=dict)
    """Device -> time per step that automatic placement expects of it; empty for other methods."""
    copies: tuple[str, ...] = ()
    """Other devices that hold a copy of every layer."""


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A layer (or an operation that joins several layers' outputs) in the placement graph."""

    name: str
    kind: Literal["input", "layer", "join", "loss"]
    device: str
    module: str = ""
    """The class, for a layer; the operator, for a join."""
    parameters: int = 0
    parameter_bytes: int = 0
    forward_flops: int = 0
    """Multiplications and additions of one step's forward, counted by torch's FLOP formulas."""
    backward_flops: int = 0
    output_shape: tuple[int, ...] = ()
    output_bytes: int = 0
    calls: int = 1
    """How often one forward runs it: more than once for a shared layer."""


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """A tensor that goes from one node to another."""

    source: str
    target: str
    shape: tuple[int, ...]
    forward_bytes: int
    backward_bytes: int
    """The gradient's size; 0 when none flows back."""
    crosses: bool
    """True when source and target live on different devices, so that the bytes travel over a link."""


@dataclass(frozen=True, slots=True)
class PlacementGraph:
    """One training step as a graph: what lives where, and what travels. Sizes are for one whole batch."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    batch_size: int

    @property
    def crossing_bytes(self) -> int:
        """Bytes that cross between devices in one step, both ways."""
        return sum(edge.forward_bytes + edge.backward_bytes for edge in self.edges if edge.crosses)


@dataclass(frozen=True, slots=True)
class GraphTraced:
    graph: PlacementGraph


@dataclass(frozen=True, slots=True)
class StepFinished:
    step: int
    rank: int
    loss: float
    samples: int
    seconds: float
    """Duration of the step on the run's clock."""
    end_ns: int
    """When it ended on the run's clock."""
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Something that a device did from `start_ns` to `end_ns`."""

    device: str
    rank: int
    step: int
    kind: SpanKind
    name: str
    """The layer's path; for a transfer `vgpu:0 → vgpu:1`; for a wait, the device that is waited for."""
    start_ns: int
    end_ns: int
    bytes: int = 0
    flops: int = 0
    microbatch: int = 0
    peer: str = ""
    """The other device of a transfer."""

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class MemorySampled:
    device: str
    time_ns: int
    allocated: int
    peak: int
    capacity: int


@dataclass(frozen=True, slots=True)
class MemoryTraced:
    """What a virtual GPU's memory was used for in the course of one step; reported for one step of about a second."""

    device: str
    step: int
    times_ns: tuple[int, ...]
    """By the host: memory is taken when an operation is issued, as on CUDA."""
    sizes: dict[Purpose, tuple[int, ...]]
    """Every purpose -> bytes from each of those times to the next. What was held most is among them, to the byte."""
    capacity: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    step: int
    epoch: int
    split: Literal["test"]
    loss: float
    accuracy: float
    samples: int


@dataclass(frozen=True, slots=True)
class RankFailed:
    rank: int
    cause: str
    """One sentence: what happened."""
    primary: bool
    """True for the root cause; False for what other ranks saw because of it."""
    traceback: str = ""
    advice: str = ""
    """What to do about it, when the lab knows."""
    last_spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceTotals:
    """What one device did over the whole run, in nanoseconds on the run's clock."""

    busy_ns: int
    """Forward, backward, optimizer, data."""
    transfer_ns: int
    collective_ns: int
    idle_ns: int
    hidden_ns: int = 0
    """Of `collective_ns`, what went on beside computation."""


@dataclass(frozen=True, slots=True)
class RunFinished:
    state: Literal["finished", "stopped", "failed"]
    steps: int
    wall_seconds: float
    """From the first training step to the last event, on the wall clock, evaluation included."""
    totals: dict[str, DeviceTotals]
    dropped_spans: int = 0
    """Spans left unreported because the reader was slower than the run; totals still count them."""


Event: TypeAlias = (
    RunStarted
    | GroupJoined
    | Placed
    | GraphTraced
    | BucketsBuilt
    | StepFinished
    | ParametersSummed
    | Span
    | MemorySampled
    | MemoryTraced
    | Evaluated
    | Paused
    | Resumed
    | Changed
    | RankFailed
    | RunFinished
)


def to_json(event: Event) -> str:
    """One line of JSON: the event's fields, and its type under `event`. NaN and infinities become strings."""
    return json.dumps({"event": type(event).__name__, **_plain(dataclasses.asdict(event))}, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
