"""The picture of where the memory went: exact, legible without colour, small."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from lab.events import PURPOSES, MemorySampled, MemoryTraced, Purpose
from lab.state import RunState
from tests.widgets import events_factory as factory
from widgets import figures
from widgets.figures import _purposes

MB = 1_000_000


def trace(device: str, step: int, capacity: int, *points: tuple[int, dict[Purpose, int]]) -> MemoryTraced:
    sizes = {purpose: tuple(held.get(purpose, 0) for _, held in points) for purpose in PURPOSES}
    return MemoryTraced(device, step, tuple(at_ns for at_ns, _ in points), sizes, capacity)


FIRST = trace(
    "vgpu:0",
    7,
    100 * MB,
    (10, {"parameters": 2 * MB}),
    (30, {"parameters": 2 * MB, "activations": 3 * MB}),
    (30, {"parameters": 2 * MB, "activations": 3 * MB, "other": 5 * MB}),
    (50, {"parameters": 2 * MB, "gradients": 2 * MB}),
)
SECOND = trace("vgpu:1", 7, 100 * MB, (10, {}), (20, {"optimizer state": 4 * MB}))


def run(*traces: MemoryTraced) -> RunState:
    state = RunState()
    state.apply(factory.started(devices=tuple(trace.device for trace in traces)))
    for each in traces:
        state.apply(each)
        state.apply(MemorySampled(each.device, 60, 4 * MB, 11 * MB, each.capacity))
    return state


def area(figure: go.Figure, device: str, purpose: str) -> go.Scatter:
    (found,) = [trace for trace in figure.data if trace.stackgroup == device and trace.name == purpose]
    return found


def test_the_areas_are_the_bytes_in_the_order_of_the_hosts_operations() -> None:
    figure = figures.memory(run(FIRST, SECOND))
    # The times of both devices are 10, 20, 30 and 50. Two points at 30 share the room up to 50.
    assert list(area(figure, "vgpu:0", "activations").x) == [0, 2, 2.5, 3, 4]
    assert list(area(figure, "vgpu:0", "activations").y) == [0, 3, 3, 0, 0]
    assert list(area(figure, "vgpu:0", "other").y) == [0, 0, 5, 0, 0]
    assert list(area(figure, "vgpu:1", "optimizer state").x) == [0, 1, 4]
    assert list(area(figure, "vgpu:1", "optimizer state").y) == [0, 4, 4]
    assert area(figure, "vgpu:0", "other").yaxis != area(figure, "vgpu:1", "other").yaxis
    assert figure.layout.title.text == "Memory · by purpose, step 7"


def test_the_peak_is_marked_with_what_it_is_made_of() -> None:
    figure = figures.memory(run(FIRST, SECOND))
    first, second = (trace for trace in figure.data if trace.name == "peak")
    assert (list(first.x), list(first.y)) == ([2.5], [10])
    assert (list(second.x), list(second.y)) == ([1], [4])
    assert "2.0 MB parameters<br>3.0 MB activations<br>5.0 MB other" in first.hovertemplate
    assert [note.text for note in figure.layout.annotations] == [
        "<b>vgpu:0</b> · peak 10.0 MB of 100.0 MB: 50% other, 30% activations, 20% parameters",
        "<b>vgpu:1</b> · peak 4.0 MB of 100.0 MB: 100% optimizer state",
    ]


@pytest.mark.parametrize(("capacity", "drawn"), [(100 * MB, False), (20 * MB, True), (10 * MB, True)])
def test_the_capacity_is_drawn_where_it_is_near(capacity: int, drawn: bool) -> None:
    figure = figures.memory(run(MemoryTraced("vgpu:0", 7, FIRST.times_ns, FIRST.sizes, capacity)))
    lines = [trace for trace in figure.data if trace.name == "capacity"]
    assert [list(line.y) for line in lines] == ([[capacity / MB] * 2] if drawn else [])


def test_the_latest_trace_counts_and_the_table_tells_it_in_bytes() -> None:
    state = run(FIRST)
    state.apply(trace("vgpu:0", 9, 100 * MB, (70, {"parameters": 512})))
    state.apply(MemorySampled("cpu", 60, 5 * MB, 6 * MB, 10**9))
    table = figures.table(state, "memory")
    assert table.columns == ("device", "in use", "peak", "capacity", "step", "peak of the step", *PURPOSES)
    assert table.rows == [
        ("vgpu:0", "4.0 MB", "11.0 MB", "100.0 MB", "9", "512 B", "512 B", "0 B", "0 B", "0 B", "0 B"),
        ("cpu (resident memory of the whole process)", "5.0 MB", "6.0 MB", "1.0 GB", *[""] * 7),
    ]


def test_of_many_devices_the_fullest_are_drawn() -> None:
    traces = [trace(f"vgpu:{i}", 1, 0, (0, {"other": 100 * (i % 7)})) for i in range(64)]
    figure = figures.memory(run(*traces))
    shown = {trace.stackgroup for trace in figure.data if trace.stackgroup}
    assert shown == {"vgpu:6", "vgpu:13", "vgpu:20", "vgpu:27"}
    assert figure.layout.title.text.endswith("the 4 fullest devices")
    assert len(figures.table(run(*traces), "memory").rows) == 64


def test_nothing_held_is_no_fault() -> None:
    figure = figures.memory(run(trace("vgpu:0", 0, 100, (0, {}))))
    assert figure.layout.annotations[0].text == "<b>vgpu:0</b> · peak 0 B of 100 B"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_purposes_are_told_apart_without_colour(theme: str) -> None:
    figure = figures.memory(run(FIRST), theme)
    fills = [area(figure, "vgpu:0", purpose).fillpattern for purpose in PURPOSES]
    assert len({fill.shape for fill in fills}) == len(PURPOSES) == len({fill.bgcolor for fill in fills})


def test_the_figure_is_small() -> None:
    from lab.timing.step_memory import MAX_POINTS

    points = tuple((at, {"other": at}) for at in range(MAX_POINTS // 4))
    figure = figures.memory(run(*(trace(f"vgpu:{i}", 1, 50, *points) for i in range(_purposes.MAX_ROWS))))
    assert sum(len(each.x) for each in figure.data) < 2_000
