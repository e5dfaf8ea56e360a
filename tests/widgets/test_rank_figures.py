"""Figures of a run with several ranks, from events in round times (`tests.lab.rank_events`)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.events import DeviceInfo, RunStarted
from lab.state import RunState
from tests.lab import rank_events as made
from tests.lab.test_scaling import run
from tests.widgets import events_factory as factory
from widgets import figures
from widgets.figures._rank_timeline import lanes_of


@pytest.fixture(scope="module")
def state() -> RunState:
    return made.folded(20, made.finished())


def bars(figure: figures.Spec) -> set[tuple[str, str, float, float]]:
    """(kind, "computes" or "sends" with the rank, start and end in µs) of every bar."""
    found = set()
    for trace in figure["data"]:
        for y, start, length in zip(trace["y"], trace["base"], trace["x"], strict=True):
            lane = f"{'computes' if y < round(y) else 'sends'} {round(y)}"
            found.add((trace["name"], lane, round(start), round(start + length)))
    return found


def test_computation_and_communication_have_a_lane_each_so_that_overlap_shows(state: RunState) -> None:
    drawn = bars(figures.spec(state, "timeline", step=19))
    # Rank 0 sends bucket 0 while it computes backward, and waits in it until rank 1 comes at 450.
    assert {
        ("backward", "computes 0", 250, 500),
        ("waiting", "sends 0", 350, 450),
        ("collective", "sends 0", 450, 550),
        ("waiting", "sends 0", 500, 600),
        ("collective", "sends 0", 600, 650),
        ("collective", "sends 1", 450, 550),
        ("collective", "sends 1", 600, 650),
    } <= drawn
    # From 500 to 650 it has nothing to compute; rank 1 has not from 600 on.
    assert {each for each in drawn if each[0] == "waiting" and each[1].startswith("computes")} == {
        ("waiting", "computes 0", 500, 650),
        ("waiting", "computes 1", 600, 650),
    }


def test_collectives_are_named_with_their_bytes_and_waits_with_the_rank(state: RunState) -> None:
    _, sending = lanes_of(state, 19, list(made.NAMES))
    assert {span.name for span in sending} == {"bucket 0 · 66.2 kB", "bucket 1 · 21.1 kB", "waits for rank 1"}
    figure = figures.timeline(state)
    texts = {text for trace in figure.data for text in trace.text or ()}
    assert {"bucket 0 · 66.2 kB", "waits for rank 1"} <= texts
    ticks = [text.partition("<")[0].strip() for text in figure.layout.yaxis.ticktext]
    assert [text for text in ticks if text] == list(made.NAMES)


def test_devices_of_one_rank_stay_together() -> None:
    state = RunState()
    begun = made.started()
    devices = tuple(DeviceInfo(f"vgpu:{i}", "Classroom GPU", 10**9, True, rank=i // 2) for i in range(4))
    names = {made.NAMES[0]: "vgpu:0", made.NAMES[1]: "vgpu:2"}
    for event in made.events(3):
        if isinstance(event, RunStarted):
            event = replace(begun, devices=devices, clock="virtual")
        elif hasattr(event, "device"):
            event = replace(event, device=names[event.device])  # type: ignore[call-arg]
        state.apply(event)
    figure = figures.timeline(state)
    ticks = [text.strip() for text in figure.layout.yaxis.ticktext if "<" not in text]
    assert ticks == ["rank 0 · vgpu:0", "rank 0 · vgpu:1", "rank 1 · vgpu:2", "rank 1 · vgpu:3"]
    borders = [shape.y0 for shape in figure.layout.shapes if shape.type == "line"]
    assert borders == [1.5]
    assert "simulated" in figure.layout.title.text


def test_each_rank_is_thin_and_the_mean_is_bold(state: RunState) -> None:
    lines = {trace.name: trace for trace in figures.loss(state).data if trace.mode == "lines"}
    assert set(lines) == {"rank 0", "rank 1", "mean of the ranks"}
    assert lines["mean of the ranks"].line.width > 2 * lines["rank 0"].line.width
    assert lines["rank 0"].line.dash != lines["rank 1"].line.dash
    # 2 - step / 100, with the ranks 0.1 below and above it.
    assert lines["mean of the ranks"].y[0] == pytest.approx(2.0, abs=0.02)
    assert lines["rank 1"].y[5] - lines["rank 0"].y[5] == pytest.approx(0.2)
    names = {row[1] for row in figures.table(state, "loss").rows}
    assert names == {"mean of the ranks", "rank 0", "rank 1"}


def test_the_breakdown_adds_up(state: RunState) -> None:
    figure = figures.breakdown(state)
    rows = [sum(trace.x[row] for trace in figure.data) for row in range(2)]
    assert rows == pytest.approx([1, 1])
    parts = {trace.name: [round(x * 700) for x in trace.x] for trace in figure.data}
    assert parts == {
        "data": [50, 50],
        "computes": [350, 500],
        "hidden communication": [150, 100],
        "exposed communication": [100, 50],
        "waits for a rank": [50, 0],
    }
    assert figures.table(state, "breakdown").rows[0][:4] == ("rank 0 · cpu", "7.1%", "50.0%", "21.4%")


def test_buckets_before_and_after_the_rebuild(state: RunState) -> None:
    figure = figures.buckets(state, step=19)
    drawn = [
        (trace.xaxis, trace.name, [text.strip("</b>") for text in trace.text], sum(trace.x)) for trace in figure.data
    ]
    assert drawn == [
        ("x", "bucket 0", ["conv1", "fc1"], pytest.approx(87.36)),
        ("x2", "bucket 0", ["fc1"], pytest.approx(66.24)),
        ("x2", "bucket 1", ["conv1"], pytest.approx(21.12)),
    ]
    notes = " ".join(note.text for note in figure.layout.annotations)
    assert "From step 1 on: in the order of gradients" in notes
    # Bucket 0 moves from 450 to 550; of the two ranks one waited 100 µs for it.
    assert "<b>66.2 kB</b> in 100 µs<br>after 50.0 µs of waiting" in notes
    rows = figures.table(state, "buckets", 19).rows
    assert rows[1] == ("1", "0", "66.2 kB", "100 µs", "50.0 µs", "fc1.bias, fc1.weight")
    # A layer has the same colour wherever it rides.
    colours = {
        (trace.xaxis, text): colour
        for trace in figure.data
        for text, colour in zip(trace.text, trace.marker.color, strict=True)
    }
    assert colours["x", "<b>fc1</b>"] == colours["x2", "<b>fc1</b>"] != colours["x2", "<b>conv1</b>"]


def test_sizes_of_parameters_are_the_widths_of_a_buckets_parts() -> None:
    state = made.folded(3)
    (bucket,) = made.FIRST.buckets
    sized = replace(made.FIRST, buckets=(replace(bucket, sizes=(1_000, 40, 66_000, 20_320)),))
    state.layouts = [sized]
    (trace,) = figures.spec(state, "buckets")["data"]
    assert trace["x"] == pytest.approx([1.04, 86.32])


def test_the_placement_graph_says_that_every_rank_has_a_copy(state: RunState) -> None:
    notes = [note.text for note in figures.placement_graph(state).layout.annotations]
    assert any("each of 2 ranks holds a copy of every layer" in note for note in notes)


def test_which_figures_apply(state: RunState) -> None:
    alone = factory.folded(factory.events(steps=3))
    assert figures.applicable(state) == (
        "timeline",
        "loss",
        "breakdown",
        "buckets",
        "placement_graph",
        "traffic",
        "memory",
    )
    assert figures.applicable(alone) == ("timeline", "loss", "busy", "placement_graph", "traffic", "memory")
    assert "buckets" in figures.applicable(RunState(), several_ranks=True)


@pytest.mark.parametrize("name", figures.FIGURES)
@pytest.mark.parametrize("steps", [None, 0, 1])
def test_nothing_breaks_early_in_a_run(name: str, steps: int | None) -> None:
    state = RunState() if steps is None else made.folded(steps)
    figure = figures.spec(state, name, "dark")
    assert figure["layout"]["height"]
    assert figures.table(state, name).columns


def test_scaling_beside_the_ideal() -> None:
    runs = [run(1, 0.008), run(2, 0.005)]
    ideal, measured = figures.scaling(runs).data
    assert (list(ideal.y), list(measured.y)) == ([1, 2], [1, pytest.approx(1.6)])
    assert measured.text == ("1.00× (100%)", "1.60× (80%)")
    assert figures.scaling_table(runs).rows[1] == ("2", "5.00 ms", "12,800", "1.60×", "80%")
    assert not figures.scaling([]).data
