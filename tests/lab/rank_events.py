"""Hand-made events of a run with two ranks, in round times: rank 1 is slower, so that rank 0 waits for it.

Of each step of 700 µs, in microseconds:

    rank 0   data 0-50   forward 50-250   backward 250-500   bucket 0 350-550   bucket 1 500-650   optimizer 650-700
    rank 1   data 0-50   forward 50-350   backward 350-600   bucket 0 450-550   bucket 1 600-650   optimizer 650-700

Both buckets begin to move when rank 1 comes, at 450 and at 600. So 150 of rank 0's communication are hidden, 100 are
exposed and for 50 it only waits; of rank 1's 100 are hidden and 50 exposed.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.events import (
    Bucket,
    BucketsBuilt,
    DataSource,
    DeviceInfo,
    DeviceTotals,
    Event,
    GraphEdge,
    GraphNode,
    GraphTraced,
    GroupJoined,
    MemorySampled,
    Placed,
    PlacementGraph,
    RankFailed,
    RunFinished,
    RunStarted,
    Span,
    SpanKind,
    StepFinished,
)
from lab.experiment import Experiment
from lab.state import RunState

US = 1_000
STEP_NS = 700 * US
EXPERIMENT = Experiment(strategy="ddp", world_size=2, batch_size=64, bucket_cap_mb=0.05)
NAMES = ("rank 0 · cpu", "rank 1 · cpu")
FIRST = BucketsBuilt(0, (Bucket(0, ("conv1.weight", "conv1.bias", "fc1.weight", "fc1.bias"), 87_360),))
REBUILT = BucketsBuilt(
    1, (Bucket(0, ("fc1.bias", "fc1.weight"), 66_240), Bucket(1, ("conv1.bias", "conv1.weight"), 21_120))
)

STEP: tuple[tuple[int, SpanKind, str, int, int], ...] = (
    (0, "data", "batch", 0, 50),
    (0, "forward", "conv1", 50, 250),
    (0, "backward", "conv1", 250, 500),
    (0, "collective", "bucket 0", 350, 550),
    (0, "collective", "bucket 1", 500, 650),
    (0, "optimizer", "optimizer", 650, 700),
    (1, "data", "batch", 0, 50),
    (1, "forward", "conv1", 50, 350),
    (1, "backward", "conv1", 350, 600),
    (1, "collective", "bucket 0", 450, 550),
    (1, "collective", "bucket 1", 600, 650),
    (1, "optimizer", "optimizer", 650, 700),
)
BYTES = {"bucket 0": 66_240, "bucket 1": 21_120}


def started(steps: int = 50) -> RunStarted:
    devices = tuple(DeviceInfo(name, "AMD EPYC", 16 * 10**9, False, rank) for rank, name in enumerate(NAMES))
    source = DataSource("mnist", "MNIST", 60_000, 10_000, "bundled with the lab")
    return RunStarted("run-2", EXPERIMENT.to_dict(), devices, "wall", source, "Net", steps, {"torch": "2.13.0"})


def graph() -> PlacementGraph:
    nodes = (
        GraphNode("input", "input", "cpu", output_shape=(32, 784)),
        GraphNode("conv1", "layer", "cpu", "Conv2d", 260, 1040, 18_000, 36_000, (32, 10, 24, 24), 737_280),
        GraphNode("fc1", "layer", "cpu", "Linear", 16_050, 64_200, 2_000, 4_000, (32, 50), 6_400),
    )
    edges = (
        GraphEdge("input", "conv1", (32, 784), 100_352, 0, False),
        GraphEdge("conv1", "fc1", (32, 320), 40_960, 40_960, False),
    )
    return PlacementGraph(nodes, edges, 32)


def step_events(step: int) -> Iterator[Event]:
    offset = step * STEP_NS
    for rank, kind, name, start, end in STEP:
        size = BYTES[name] if kind == "collective" else 0
        yield Span(NAMES[rank], rank, step, kind, name, offset + start * US, offset + end * US, bytes=size)
    for rank in range(2):
        yield MemorySampled(NAMES[rank], offset + STEP_NS, 300_000_000, 310_000_000, 16 * 10**9)
        yield StepFinished(step, rank, 2.0 - step / 100 + (rank - 0.5) / 5, 32, STEP_NS / 1e9, offset + STEP_NS)


def events(steps: int = 20) -> Iterator[Event]:
    """A run up to the end of `steps`, without its end."""
    yield started()
    yield GroupJoined(2, "gloo", 1, ("conv1.weight", "conv1.bias", "fc1.weight", "fc1.bias"))
    yield Placed({"conv1": "cpu", "fc1": "cpu"}, "given", "Each of the 2 ranks holds the whole net.")
    yield GraphTraced(graph())
    yield FIRST
    for step in range(steps):
        if step == REBUILT.step:
            yield REBUILT
        yield from step_events(step)


HUNG = """Thread 0x00007f (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Current thread 0x00007b (most recent call first):
  File "/home/me/lab/workers/injector.py", line 140 in _hang
  File "/home/me/.venv/lib/python3.11/site-packages/torch/autograd/graph.py", line 979 in _engine_run_backward
  File "/home/me/lab/workers/entry.py", line 49 in main
  File "/usr/lib/python3.11/multiprocessing/process.py", line 108 in run
"""


def failures() -> tuple[RankFailed, RankFailed]:
    """Rank 1 hung, and rank 0 was stopped because of it."""
    return (
        RankFailed(1, "rank 1 has been in data of step 5 for 4 s", True, HUNG, "Its stack shows where it is."),
        RankFailed(0, "rank 0 was stopped in all_reduce 8, because rank 1 had failed", False, HUNG),
    )


def finished(state: str = "finished", steps: int = 20) -> RunFinished:
    totals = {
        NAMES[0]: DeviceTotals(550 * US * steps, 0, 350 * US * steps, 0, 150 * US * steps),
        NAMES[1]: DeviceTotals(650 * US * steps, 0, 150 * US * steps, 0, 100 * US * steps),
    }
    return RunFinished(state, steps, 1.5, totals)  # type: ignore[arg-type]


def folded(steps: int = 20, *more: Event) -> RunState:
    state = RunState()
    state.apply_all(events(steps))
    state.apply_all(more)
    return state
