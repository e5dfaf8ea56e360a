"""Hand-made events of a run: Net with conv1 on vgpu:0 and the rest on vgpu:1, in round times."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from lab.events import (
    DataSource,
    DeviceInfo,
    DeviceTotals,
    Evaluated,
    Event,
    GraphEdge,
    GraphNode,
    GraphTraced,
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
BATCH = 64
CROSSING = BATCH * 10 * 12 * 12 * 4
"""Bytes of conv1's output after pooling, float32."""
STEP_NS = 1_270 * US
PLACEMENT = {"conv1": "vgpu:0", "conv2": "vgpu:1", "fc1": "vgpu:1", "fc2": "vgpu:1"}
EXPERIMENT = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"})

# device, kind, name, start and end in microseconds since the step began
STEP: tuple[tuple[str, SpanKind, str, int, int], ...] = (
    ("vgpu:0", "forward", "conv1", 0, 200),
    ("vgpu:0", "transfer", "vgpu:0 → vgpu:1", 200, 240),
    ("vgpu:1", "wait", "vgpu:0", 0, 200),
    ("vgpu:1", "forward", "conv2", 240, 420),
    ("vgpu:1", "forward", "fc1", 420, 470),
    ("vgpu:1", "forward", "fc2", 470, 495),
    ("vgpu:1", "backward", "fc2", 495, 535),
    ("vgpu:1", "backward", "fc1", 535, 620),
    ("vgpu:1", "backward", "conv2", 620, 900),
    ("vgpu:0", "wait", "vgpu:1", 240, 900),
    ("vgpu:1", "transfer", "vgpu:1 → vgpu:0", 900, 940),
    ("vgpu:1", "optimizer", "SGD", 940, 1_020),
    ("vgpu:0", "backward", "conv1", 940, 1_180),
    ("vgpu:0", "optimizer", "SGD", 1_180, 1_270),
    ("vgpu:1", "wait", "vgpu:0", 1_020, 1_270),
)


def started(
    total_steps: int = 938, clock: str = "virtual", devices: tuple[str, ...] = ("vgpu:0", "vgpu:1")
) -> RunStarted:
    return RunStarted(
        run_id="run-1",
        experiment=EXPERIMENT.to_dict(),
        devices=tuple(DeviceInfo(name, "Classroom GPU (fictional)", 2 * 10**9, clock == "virtual") for name in devices),
        clock=clock,  # type: ignore[arg-type]
        data=DataSource("mnist", "MNIST", 60_000, 10_000, "bundled with the lab (LeCun, Cortes, Burges; CC BY-SA 3.0)"),
        net="Net: two convolutions, two linear layers",
        total_steps=total_steps,
        versions={"torch": "2.13.0"},
    )


def graph() -> PlacementGraph:
    def layer(name: str, module: str, parameters: int, flops: int, shape: tuple[int, ...]) -> GraphNode:
        size = 4 * math.prod(shape)
        return GraphNode(
            name, "layer", PLACEMENT[name], module, parameters, 4 * parameters, flops, 2 * flops, shape, size
        )

    nodes = (
        GraphNode("input", "input", "vgpu:0", output_shape=(BATCH, 1, 28, 28), output_bytes=BATCH * 784 * 4),
        layer("conv1", "Conv2d", 260, 18_432_000, (BATCH, 10, 24, 24)),
        layer("conv2", "Conv2d", 5_020, 40_960_000, (BATCH, 20, 8, 8)),
        layer("fc1", "Linear", 16_050, 2_048_000, (BATCH, 50)),
        layer("fc2", "Linear", 510, 64_000, (BATCH, 10)),
        GraphNode("loss", "loss", "vgpu:1"),
    )
    edges = (
        GraphEdge("input", "conv1", (BATCH, 1, 28, 28), BATCH * 784 * 4, 0, False),
        GraphEdge("conv1", "conv2", (BATCH, 10, 12, 12), CROSSING, CROSSING, True),
        GraphEdge("conv2", "fc1", (BATCH, 320), BATCH * 320 * 4, BATCH * 320 * 4, False),
        GraphEdge("fc1", "fc2", (BATCH, 50), BATCH * 50 * 4, BATCH * 50 * 4, False),
        GraphEdge("fc2", "loss", (BATCH, 10), BATCH * 10 * 4, BATCH * 10 * 4, False),
    )
    return PlacementGraph(nodes, edges, BATCH)


def spans(step: int, microbatches: int = 1) -> Iterator[Span]:
    """One step; more microbatches repeat the pattern at a smaller scale, which is enough to look at."""
    for part in range(microbatches):
        offset = step * STEP_NS + part * STEP_NS // microbatches
        for device, kind, name, start, end in STEP:
            yield Span(
                device=device,
                rank=0,
                step=step,
                kind=kind,
                name=name,
                start_ns=offset + start * US // microbatches,
                end_ns=offset + end * US // microbatches,
                bytes=CROSSING // microbatches if kind == "transfer" else 0,
                microbatch=part,
                peer={"vgpu:0": "vgpu:1", "vgpu:1": "vgpu:0"}[device] if kind == "transfer" else "",
            )


def step_events(step: int, microbatches: int = 1) -> Iterator[Event]:
    noise = random.Random(step).gauss(0, 0.06)
    yield from spans(step, microbatches)
    end = (step + 1) * STEP_NS
    for device, used in (("vgpu:0", 2_900_000), ("vgpu:1", 1_700_000)):
        swing = round(4e5 * math.sin(step / 3))
        yield MemorySampled(device, end, used + swing, used + 700_000, 2 * 10**9)
    yield StepFinished(step, 0, 0.22 + 2.08 * math.exp(-step / 90) + noise, BATCH, STEP_NS / 1e9, end)


def events(steps: int = 50, total_steps: int = 938, microbatches: int = 1, clock: str = "virtual") -> Iterator[Event]:
    """A run up to the end of `steps`, without its end."""
    yield started(total_steps, clock)
    yield Placed(PLACEMENT, "given", "Placed as given.")
    yield GraphTraced(graph())
    for step in range(steps):
        yield from step_events(step, microbatches)


def evaluated(step: int = 938) -> Evaluated:
    return Evaluated(step, 1, "test", 0.061, 0.9794, 10_000)


def failed() -> RankFailed:
    return RankFailed(
        0, "the worker was killed by signal 9", True, "Traceback (most recent call last):\n  ...", "Run it again."
    )


def finished(state: str = "finished", steps: int = 50) -> RunFinished:
    totals = {
        name: DeviceTotals(490 * US * steps, 40 * US * steps, 0, 740 * US * steps) for name in ("vgpu:0", "vgpu:1")
    }
    return RunFinished(state, steps, 4.2, totals)  # type: ignore[arg-type]


def folded(*parts: Iterator[Event]) -> RunState:
    state = RunState()
    for part in parts:
        state.apply_all(part)
    return state
