"""The figures say what the events say, are legible, and do not rest on colour alone."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from lab.events import (
    SPAN_KINDS,
    GraphEdge,
    GraphNode,
    GraphTraced,
    MemorySampled,
    Placed,
    PlacementGraph,
    Span,
    StepFinished,
)
from lab.state import RunState
from tests.widgets import events_factory as factory
from widgets import figures, languages
from widgets.figures import _theme as theming
from widgets.figures._graph import edge_label
from widgets.figures._layout import layout
from widgets.figures._loss import smoothed

THEMES = ("light", "dark")


def draw(name: str, state: RunState, theme: str = "light") -> go.Figure:
    return getattr(figures, name)(state, theme)


def points(figure: go.Figure) -> int:
    return sum(len(trace.x) for trace in figure.data)


@pytest.fixture(scope="module")
def state() -> RunState:
    state = factory.folded(factory.events(steps=50))
    state.apply(factory.evaluated(50))
    return state


def test_loss_shows_each_batch_and_the_test_accuracy(state: RunState) -> None:
    figure = figures.loss(state)
    batches, line, tests = figure.data
    assert list(batches.x) == list(range(50))
    assert list(batches.y) == state.loss[0].y
    assert (batches.mode, line.mode, tests.marker.symbol) == ("markers", "lines", "diamond")
    assert "97.9%" in figure.layout.title.text
    assert list(tests.customdata) == ["97.94%"]


def test_smoothing_keeps_a_straight_line_and_skips_nan() -> None:
    line = [float(i) for i in range(200)]
    assert smoothed(line)[50:150] == pytest.approx(line[50:150])
    broken = [1.0] * 60
    broken[30] = float("nan")
    assert smoothed(broken) == pytest.approx([1.0] * 60)


def test_a_huge_loss_leaves_the_later_ones_alone() -> None:
    assert smoothed([2.3, 1e26, 5.0, 900.0, 900.0, 900.0]) == [2.3, 1e26, 5.0, 900.0, 900.0, 900.0]
    # Twelve points average one neighbour on each side.
    diverging = smoothed([1.0, 1e300, *[3.0] * 7, 6.0, 6.0, 9.0])
    assert diverging[3:] == pytest.approx([3, 3, 3, 3, 3, 4, 5, 7, 7.5])
    assert smoothed([1.5e308] * 12) == pytest.approx([1.5e308] * 12)


def test_a_loss_that_is_nan_is_a_gap() -> None:
    state = factory.folded(factory.events(steps=5))
    state.apply(StepFinished(5, 0, float("nan"), 64, 0.001, 0))
    assert figures.loss(state).data[0].y[-1] is None
    assert figures.smoothed_loss(state) != figures.smoothed_loss(state)


def test_busy_shares_add_up_to_the_spans(state: RunState) -> None:
    figure = figures.busy(state)
    shares = {(trace.name, lane): share for trace in figure.data for lane, share in zip(trace.y, trace.x, strict=True)}
    assert shares["forward", 0] == pytest.approx(200 / 1_270)
    assert shares["backward", 1] == pytest.approx(405 / 1_270)
    assert shares["waiting", 0] == pytest.approx(660 / 1_270)
    assert sum(share for (_, lane), share in shares.items() if lane == 0) == pytest.approx(1)
    assert figures.idle_share(state) == pytest.approx((660 + 450) / 2 / 1_270)
    assert (figure.layout.xaxis.tickvals[-1], figure.layout.xaxis.tickformat) == (1, ".0%")


def test_a_device_without_work_is_shown_waiting() -> None:
    state = RunState()
    state.apply(factory.started())
    state.apply(Span("vgpu:0", 0, 0, "forward", "conv1", 0, 600))
    state.apply(StepFinished(0, 0, 1.0, 64, 8e-7, 800))
    bars = {trace.name: list(trace.x) for trace in figures.busy(state).data}
    assert bars == {"forward": [0.75, 0.0], "waiting": [0.25, 1.0]}
    assert figures.idle_share(state) == 0.625
    assert figures.table(state, "busy").rows[1] == ("vgpu:1", *["0.0%"] * 6, "100.0%")


def test_memory_shows_use_peak_and_capacity(state: RunState) -> None:
    figure = figures.memory(state)
    used = {trace.name.split(":")[1][0]: trace for trace in figure.data if "of 2.0 GB" in trace.name}
    assert used["0"].y[0] == pytest.approx(state.memory["vgpu:0"].allocated.y[0] / 1e6)
    assert f"peak {state.memory['vgpu:0'].peak / 1e6:.1f} MB" in used["0"].name
    assert used["0"].line.dash != used["1"].line.dash


def test_memory_of_the_cpu_is_that_of_the_process() -> None:
    state = RunState()
    state.apply(factory.started(clock="wall", devices=("cpu",)))
    state.apply(MemorySampled("cpu", 0, 600_000_000, 700_000_000, 64 * 10**9))
    said = "cpu (resident memory of the whole process)"
    assert figures.memory(state).data[0].name == f"{said}: peak 700.0 MB of 64.0 GB"
    assert figures.table(state, "memory").rows == [(said, "600.0 MB", "700.0 MB", "64.0 GB")]


def test_the_crossing_edge_carries_its_bytes(state: RunState) -> None:
    crossing = 64 * 10 * 12 * 12 * 4
    figure = figures.placement_graph(state)
    labels = [note.text for note in figure.layout.annotations if "kB" in note.text]
    assert labels == ["<b>368.6 kB ⇄</b>"]
    assert crossing == 368_640
    thick = [
        trace
        for trace in figure.data
        if trace.type == "scatter" and trace.mode == "lines" and trace.name == "crosses between devices"
    ]
    thin = [
        trace
        for trace in figure.data
        if trace.type == "scatter" and trace.mode == "lines" and trace.name == "stays on its device"
    ]
    assert thick[0].line.width > 2 * thin[0].line.width
    assert thick[0].x.count(None) == 1
    assert thin[0].x.count(None) == 4
    assert figures.table(state, "placement_graph").rows[1][-1] == "conv2: 368,640 B forward, 368,640 B back"


def test_the_placement_graph_says_which_bytes_are_a_forecast() -> None:
    def title(steps: int) -> str:
        return str(figures.placement_graph(factory.folded(factory.events(steps))).layout.title.text)

    assert "forecast" in title(0)
    assert "measured" not in title(0)
    assert "forecast, 737.3 kB per step; measured, 737.3 kB" in title(2)


def test_a_device_with_a_copy_of_the_net_has_a_lane_that_says_so(state: RunState) -> None:
    alone = PlacementGraph(
        tuple(replace(node, device="vgpu:0") for node in factory.graph().nodes),
        tuple(replace(edge, crosses=False) for edge in factory.graph().edges),
        64,
    )
    state.apply(GraphTraced(alone))
    state.apply(Placed(dict.fromkeys(factory.PLACEMENT, "vgpu:0"), "given", "", copies=("vgpu:1",)))
    figure = draw("placement_graph", state)
    names = [note.text for note in figure.layout.annotations]
    assert names == ["<b>vgpu:0</b>", "<b>vgpu:1</b>   a copy of every layer"]
    first, second = figure.layout.shapes
    assert first.y1 <= second.y0 < second.y1 <= figure.layout.yaxis.range[0]


def test_transfers_say_what_they_are_for(state: RunState) -> None:
    begin = 60 * factory.STEP_NS
    names = ["replicate vgpu:0 → vgpu:1", "vgpu:0 → vgpu:1", "cpu → vgpu:0"]
    for index, name in enumerate(names):
        start = begin + index * 1_000
        state.apply(Span("vgpu:0", 0, 60, "transfer", name, start, start + 1_000, 8, peer="vgpu:1"))
    state.apply(StepFinished(60, 0, 1.0, 64, 3e-6, begin + 3_000))
    labels = {label for trace in draw("timeline", state).data if trace.name == "transfer" for label in trace.text}
    assert labels == {"replicate", ""}


def test_edge_labels_say_what_goes_each_way() -> None:
    assert edge_label(1_000, 1_000) == "1.0 kB ⇄"
    assert edge_label(1_000, 0) == "1.0 kB →"
    assert edge_label(2_000, 1_000) == "2.0 kB → · ← 1.0 kB"


def deep_graph(blocks: int = 40, devices: int = 3) -> PlacementGraph:
    """A chain of residual blocks: two convolutions, and a join with what came in."""
    nodes, edges, before = [GraphNode("input", "input", "vgpu:0")], [], "input"
    for block in range(blocks):
        device = f"vgpu:{block * devices // blocks}"
        names = [f"layer{block // 10}.{block % 10}.{part}" for part in ("conv1", "conv2")]
        join = f"add_{block}"
        nodes += [GraphNode(name, "layer", device) for name in names] + [GraphNode(join, "join", device)]
        for source, target in ((before, names[0]), (names[0], names[1]), (names[1], join), (before, join)):
            crosses = source == before and bool(block) and device != f"vgpu:{(block - 1) * devices // blocks}"
            edges.append(GraphEdge(source, target, (1,), 100, 100, crosses))
        before = join
    return PlacementGraph(tuple(nodes), tuple(edges), 1)


def test_large_graphs_are_folded_without_losing_layers_or_bytes() -> None:
    graph = deep_graph()
    plan = layout(graph)
    assert len(plan.boxes) <= 16
    assert sorted(node.name for box in plan.boxes for node in box.nodes) == sorted(node.name for node in graph.nodes)
    assert sum(line.forward_bytes for line in plan.lines if line.crosses) == sum(
        edge.forward_bytes for edge in graph.edges if edge.crosses
    )
    assert all(plan.boxes[line.source].column < plan.boxes[line.target].column for line in plan.lines)
    assert all(len({node.device for node in box.nodes}) == 1 for box in plan.boxes)


def test_boxes_of_one_lane_do_not_overlap() -> None:
    for graph in (factory.graph(), deep_graph(5), deep_graph()):
        plan = layout(graph)
        places = [(box.device, box.column, box.row) for box in plan.boxes]
        assert len(set(places)) == len(places)


# -- every figure ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "theme"), list(itertools.product(figures.FIGURES, THEMES)))
def test_an_empty_state_says_so(name: str, theme: str) -> None:
    figure = draw(name, RunState(), theme)
    assert [note.text for note in figure.layout.annotations] == ["No run yet"]
    assert not figure.data
    assert figures.table(RunState(), name).rows == []


@pytest.mark.parametrize(("name", "theme"), list(itertools.product(figures.applicable(RunState()), THEMES)))
def test_figures_are_small_and_have_tables(name: str, theme: str) -> None:
    state = factory.folded(factory.events(steps=1_200, microbatches=16))
    state.apply(GraphTraced(deep_graph(devices=2)))
    assert points(draw(name, state, theme)) < 2_000
    table = figures.table(state, name)
    assert table.rows
    assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize("name", ["timeline", "busy", "memory"])
def test_the_clock_is_named(name: str) -> None:
    simulated, real = (factory.folded(factory.events(steps=3, clock=clock)) for clock in ("virtual", "wall"))
    assert "simulated" in draw(name, simulated).layout.title.text
    assert draw(name, real).layout.title.text.endswith(" · wall clock")
    assert "simulated" not in str(draw(name, real).to_dict())


@pytest.mark.parametrize("theme", THEMES)
def test_kinds_are_told_apart_without_colour(theme: str) -> None:
    hatches = [theming.marker(kind, theme)["pattern"]["shape"] for kind in SPAN_KINDS]
    assert len(set(hatches)) == len(hatches)


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_legible(theme: str) -> None:
    palette = theming.PALETTES[theme]
    pairs = [(palette.ink, palette.card), (palette.soft, palette.card), (palette.crossing, palette.card)]
    pairs += [(color, palette.card) for color in palette.devices]
    pairs += [(style.ink, style.color) for style in (theming.kind_style(kind, theme) for kind in SPAN_KINDS)]
    assert {pair: round(contrast(*pair), 2) for pair in pairs if contrast(*pair) < 4.5} == {}


def contrast(first: str, second: str) -> float:
    """WCAG 2.2's contrast ratio."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_light_and_dark_differ(state: RunState) -> None:
    for name in figures.FIGURES:
        assert draw(name, state, "light") != draw(name, state, "dark")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (figures.duration(1_270_000), "1.27 ms"),
        (figures.duration(134e6), "134 ms"),
        (figures.duration(0), "0 ns"),
        (figures.human_bytes(737_280), "737.3 kB"),
        (figures.human_bytes(512), "512 B"),
        (figures.clock_time(200), "3 min 20 s"),
        (figures.clock_time(1_190), "20 min"),
        (figures.clock_time(7_500), "2 h 5 min"),
    ],
)
def test_numbers_read_well(text: str, wanted: str) -> None:
    assert text == wanted


def test_figures_and_tables_speak_the_language_of_now() -> None:
    state = factory.folded(factory.events(steps=5))
    with languages.speaking("zh"):
        assert figures.loss(state).layout.xaxis.title.text == "步"
        assert {trace.name for trace in figures.timeline(state).data} >= {"前向", "反向"}
        assert "模拟时钟" in figures.timeline(state).layout.title.text
        assert all(re.search("[\u4e00-\u9fff]", name) for name in figures.table(state, "timeline").columns)
    assert {trace.name for trace in figures.timeline(state).data} >= {"forward", "backward"}
