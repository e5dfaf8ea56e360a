"""The timeline: the step's spans, on the lanes of the devices that they occupy, from the step's own zero."""

from __future__ import annotations

import pytest

from lab.events import SPAN_KINDS, Span, StepFinished
from lab.state import RunState
from tests.widgets import events_factory as factory
from widgets import figures
from widgets.figures import _theme as theming
from widgets.figures._bars import MAX_BARS, merged

MS = 1_000_000


@pytest.fixture(scope="module")
def state() -> RunState:
    return factory.folded(factory.events(steps=50))


@pytest.mark.parametrize("step", [None, 30])
def test_timeline_bars_are_the_spans(state: RunState, step: int | None) -> None:
    figure = figures.timeline(state, step=step)
    wanted = sorted(
        (kind, lane, start / 1_000, (end - start) / 1_000)
        for device, kind, _, start, end in factory.STEP
        # A transfer occupies the lanes of both its ends.
        for lane in ((0, 1) if kind == "transfer" else (("vgpu:0", "vgpu:1").index(device),))
    )
    kinds = {theming.kind_style(kind, "light").label: kind for kind in SPAN_KINDS}
    drawn = sorted(
        (kinds[bars.name], lane, round(base, 9), round(width, 9))
        for bars in figure.data
        if bars.type == "bar"
        for lane, base, width in zip(bars.y, bars.base, bars.x, strict=True)
    )
    assert drawn == wanted
    assert figure.layout.xaxis.autorangeoptions.include == (0, factory.STEP_NS / MS)
    assert f"step {49 if step is None else step}" in figure.layout.title.text
    assert [name.strip() for name in figure.layout.yaxis.ticktext] == ["vgpu:0", "vgpu:1"]


def test_timeline_arrows_lead_from_lane_to_lane(state: RunState) -> None:
    figure = figures.timeline(state)
    (curve,) = [trace for trace in figure.data if trace.name == "transfers"]
    first = [(x, y) for x, y in zip(curve.x, curve.y, strict=True)][: curve.x.index(None)]
    assert first[0][0] == pytest.approx(0.200)
    assert first[-1][0] == pytest.approx(0.240)
    assert 0 < first[0][1] < 0.5 < first[-1][1] < 1
    tips = {trace.marker.symbol for trace in figure.data if trace.name == "arrives"}
    assert tips == {"triangle-down", "triangle-up"}


def test_a_device_that_is_done_early_waits_for_the_others() -> None:
    state = RunState()
    state.apply(factory.started())
    state.apply(Span("vgpu:0", 0, 0, "forward", "conv1", 100, 400))
    state.apply(Span("vgpu:1", 0, 0, "wait", "vgpu:0", 20, 400))
    state.apply(Span("vgpu:1", 0, 0, "forward", "conv2", 400, 900))
    state.apply(StepFinished(0, 0, 1.0, 64, 1e-6, 900))
    (waits,) = [trace for trace in figures.timeline(state).data if trace.name == "waiting"]
    # In nanoseconds from the first work, at 100: the wait from before is cut, the last 500 of vgpu:0 are waiting too.
    assert sorted(zip(waits.y, waits.base, waits.x, strict=True)) == [(0, 300, 500), (1, 0, 300)]


def test_the_host_has_no_lane(state: RunState) -> None:
    extra = factory.folded(factory.events(steps=3))
    extra.apply(Span("cpu", 0, 3, "data", "batch", 0, 5))
    assert [name.strip() for name in figures.timeline(extra).layout.yaxis.ticktext] == ["vgpu:0", "vgpu:1"]


def test_merging_keeps_the_times_and_goes_below_the_limit() -> None:
    spans = [
        Span(f"vgpu:{d}", 0, 0, kind, f"layer{i}", start := i * 200 + 100 * (kind == "backward"), start + 95)
        for d in range(2)
        for i in range(2_000)
        for kind in ("forward", "backward")
    ]
    assert merged(spans[:100], MAX_BARS) == sorted(spans[:100], key=lambda span: (span.device, span.start_ns))
    runs = [Span("vgpu:0", 0, 0, "forward", f"layer{i}", i * 100, i * 100 + 99) for i in range(3_000)]
    few = merged(runs, MAX_BARS)
    assert len(few) <= MAX_BARS
    assert (few[0].start_ns, few[-1].end_ns) == (0, 299_999)


def test_the_timelines_table_has_the_charts_zero() -> None:
    state = factory.folded(factory.events(steps=3))
    state.apply(Span("cpu", 0, 2, "data", "batch", 2 * factory.STEP_NS - 500_000, 2 * factory.STEP_NS - 400_000))
    rows = figures.table(state, "timeline").rows
    assert rows[0] == ("cpu", "data", "batch", "earlier", "100 µs", "")
    assert ("vgpu:0", "transfer", "vgpu:0 → vgpu:1", "200 µs", "40.0 µs", "368.6 kB") in rows
    assert len(rows) == 1 + len(factory.STEP)


def test_a_step_begins_with_the_copy_of_its_batch() -> None:
    state = RunState()
    state.apply_all(
        [
            factory.started(),
            Span("cpu", 0, 0, "data", "batch", 0, 50),
            Span("cpu", 0, 0, "transfer", "cpu → vgpu:0", 100, 160, bytes=200_704, peer="vgpu:0"),
            Span("vgpu:1", 0, 0, "wait", "vgpu:0", 20, 400),
            Span("vgpu:0", 0, 0, "forward", "conv1", 160, 400),
            Span("vgpu:1", 0, 0, "forward", "conv2", 400, 900),
            StepFinished(0, 0, 1.0, 64, 9e-7, 900),
        ]
    )
    figure = figures.timeline(state)
    bars = {
        (trace.name, lane): (base, base + width)
        for trace in figure.data
        for lane, base, width in zip(trace.y, trace.base, trace.x, strict=True)
    }
    assert bars == {
        ("transfer", 0): (0, 60),
        ("forward", 0): (60, 300),
        ("waiting", 0): (300, 800),
        ("waiting", 1): (0, 300),
        ("forward", 1): (300, 800),
    }
    assert figure.layout.xaxis.autorangeoptions.include == (0, 800)
    starts = [(row[0], row[1], row[3]) for row in figures.table(state, "timeline").rows]
    assert starts[:4] == [
        ("cpu", "data", "earlier"),
        ("cpu", "transfer", "0 ns"),
        ("vgpu:1", "waiting", "0 ns"),
        ("vgpu:0", "forward", "60.0 ns"),
    ]


def test_a_device_that_receives_last_waits_from_then_on() -> None:
    state = RunState()
    state.apply_all(
        [
            factory.started(),
            Span("vgpu:1", 0, 0, "forward", "conv1", 0, 100),
            Span("vgpu:0", 0, 0, "forward", "conv2", 0, 100),
            Span("vgpu:0", 0, 0, "transfer", "vgpu:0 → vgpu:1", 100, 300, bytes=1, peer="vgpu:1"),
            Span("vgpu:0", 0, 0, "backward", "conv2", 300, 500),
            StepFinished(0, 0, 1.0, 64, 5e-7, 500),
        ]
    )
    (waits,) = [trace for trace in figures.timeline(state).data if trace.name == "waiting"]
    assert list(zip(waits.y, waits.base, waits.x, strict=True)) == [(1, 300, 200)]
