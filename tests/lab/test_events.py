"""Events are plain values: frozen, comparable, picklable, and one line of JSON each."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from typing import get_args

import pytest

from lab import events
from lab.events import (
    Bucket,
    BucketsBuilt,
    Changed,
    DataSource,
    DeviceInfo,
    DeviceTotals,
    Evaluated,
    Event,
    GraphEdge,
    GraphNode,
    GraphTraced,
    GroupJoined,
    MemorySampled,
    MemoryTraced,
    ParametersSummed,
    Paused,
    Placed,
    PlacementGraph,
    RankFailed,
    Resumed,
    RunFinished,
    RunStarted,
    Span,
    StepFinished,
    to_json,
)

# Net with conv1 on one device and the rest on another, batch 64: conv1's output is pooled to 12 × 12 before it crosses.
CROSSING = 64 * 10 * 12 * 12 * 4
GRAPH = PlacementGraph(
    nodes=(GraphNode("conv1", "layer", "vgpu:0"), GraphNode("conv2", "layer", "vgpu:1")),
    edges=(
        GraphEdge("input", "conv1", (64, 1, 28, 28), 200_704, 0, crosses=False),
        GraphEdge("conv1", "conv2", (64, 10, 12, 12), CROSSING, CROSSING, crosses=True),
    ),
    batch_size=64,
)
ONE_OF_EACH: list[Event] = [
    RunStarted(
        "r1",
        {"net": "net"},
        (DeviceInfo("vgpu:0", "Classroom", 2, True),),
        "virtual",
        DataSource("mnist", "MNIST", 6, 1, "bundled"),
        "Net",
        10,
        {"torch": "2"},
    ),
    Placed({"conv1": "vgpu:0"}, "given", "as written"),
    GraphTraced(GRAPH),
    StepFinished(0, 0, math.nan, 64, 0.001, 1_000_000),
    Span("vgpu:0", 0, 0, "transfer", "vgpu:0 → vgpu:1", 5, 12, bytes=3, peer="vgpu:1"),
    MemorySampled("vgpu:0", 1, 2, 3, 4),
    Evaluated(10, 1, "test", math.inf, 0.5, 100),
    RankFailed(0, "it broke", True, "Traceback", "mend it"),
    RunFinished("finished", 10, 1.5, {"vgpu:0": DeviceTotals(1, 2, 3, 4)}),
    MemoryTraced("vgpu:0", 3, (5, 6), {"parameters": (7, 8)}, 9),
    GroupJoined(2, "gloo", 1, ("fc.weight",)),
    BucketsBuilt(1, (Bucket(0, ("fc.weight",), 40),)),
    ParametersSummed(3, 1, (123,)),
    Paused(0, 4, "data"),
    Resumed(4),
    Changed(5, {"lr": 0.1}),
]


def test_one_of_each_is_here() -> None:
    assert {type(event) for event in ONE_OF_EACH} == set(get_args(Event))


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
class TestEveryEvent:
    def test_it_is_one_line_of_strict_json_with_every_field(self, event: Event) -> None:
        def no_constants(name: str) -> None:
            raise AssertionError(f"{name} is not JSON")

        line = to_json(event)
        read = json.loads(line, parse_constant=no_constants)
        assert "\n" not in line
        assert read.pop("event") == type(event).__name__
        assert read.keys() == {field.name for field in dataclasses.fields(event)}

    def test_it_pickles_and_cannot_be_changed(self, event: Event) -> None:
        assert dataclasses.astuple(pickle.loads(pickle.dumps(event)))[1:] == dataclasses.astuple(event)[1:] or (
            "nan" in repr(event)
        )
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, dataclasses.fields(event)[0].name, 0)


def test_numbers_that_json_lacks_become_text() -> None:
    assert json.loads(to_json(ONE_OF_EACH[3]))["loss"] == "nan"
    assert json.loads(to_json(ONE_OF_EACH[6]))["loss"] == "inf"


def test_nested_values_keep_their_shape() -> None:
    edge = json.loads(to_json(GraphTraced(GRAPH)))["graph"]["edges"][1]
    assert edge == {
        "source": "conv1",
        "target": "conv2",
        "shape": [64, 10, 12, 12],
        "forward_bytes": 368_640,
        "backward_bytes": 368_640,
        "crosses": True,
    }


def test_crossing_bytes_counts_both_ways_of_crossing_edges_only() -> None:
    assert GRAPH.crossing_bytes == 2 * 368_640


def test_duration() -> None:
    assert Span("cpu", 0, 0, "forward", "fc1", 5, 12).duration_ns == 7


def test_kinds_of_spans_are_listed_once() -> None:
    assert get_args(events.SpanKind) == events.SPAN_KINDS
