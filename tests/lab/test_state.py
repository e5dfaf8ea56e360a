"""RunState: exact totals, bounded memory."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest

from lab.events import (
    DataSource,
    DeviceInfo,
    Evaluated,
    GraphEdge,
    GraphTraced,
    MemorySampled,
    Placed,
    PlacementGraph,
    RankFailed,
    RunFinished,
    RunStarted,
    Span,
    StepFinished,
)
from lab.state import KEPT_STEPS, MAX_SPANS_PER_STEP, SERIES_POINTS, RunState, Series


def step(number: int, loss: float = 1.0, rank: int = 0) -> StepFinished:
    return StepFinished(number, rank, loss, samples=64, seconds=0.002, end_ns=(number + 1) * 2_000_000)


def span(number: int, kind: str = "forward", start: int = 0, end: int = 10, **more: object) -> Span:
    return Span("vgpu:0", 0, number, kind, "conv1", start, end, **more)  # type: ignore[arg-type]


def started(*devices: str) -> RunStarted:
    infos = tuple(DeviceInfo(name, "Classroom GPU (fictional)", 2 * 10**9, simulated=True) for name in devices)
    return RunStarted("r1", {}, infos, "virtual", DataSource("mnist", "MNIST", 600, 100, "bundled"), "Net", 2, {})


class TestSeries:
    def test_below_the_limit_it_keeps_every_point(self) -> None:
        series = Series(limit=10)
        for x in range(9):
            series.add(x, x * x)
        assert (series.x, series.y) == (list(range(9)), [x * x for x in range(9)])

    def test_at_the_limit_neighbours_are_averaged(self) -> None:
        series = Series(limit=4)
        for x, y in enumerate([1, 3, 10, 20]):
            series.add(x, y)
        assert (series.x, series.y, series.stride) == ([1, 3], [2.0, 15.0], 2)
        series.add(4, 5)
        assert len(series) == 2
        series.add(5, 7)
        assert (series.x, series.y) == ([1, 3, 5], [2.0, 15.0, 6.0])

    def test_the_mean_of_a_whole_number_of_strides_is_kept(self) -> None:
        series = Series(limit=64)
        values = [math.sin(x) for x in range(64 * 32)]
        for x, y in enumerate(values):
            series.add(x, y)
        assert sum(series.y) / len(series) == pytest.approx(sum(values) / len(values), abs=1e-12)
        assert len(series) < 64
        assert series.x == sorted(series.x)


class TestTotals:
    def test_by_hand(self) -> None:
        state = RunState()
        state.apply_all(
            [
                span(0, "forward", 0, 30),
                span(0, "transfer", 30, 40, bytes=500, peer="vgpu:1"),
                span(0, "wait", 40, 90),
                span(0, "backward", 90, 150),
                step(0, loss=2.0),
                span(1, "forward", 150, 170),
                span(1, "transfer", 170, 175, bytes=250, peer="vgpu:1"),
                step(1, loss=1.0),
            ]
        )
        assert dict(state.totals["vgpu:0"]) == {"forward": 50, "transfer": 15, "wait": 50, "backward": 60}
        assert dict(state.layers["conv1"]) == {"forward": 50, "backward": 60}
        traffic = state.traffic["vgpu:0", "vgpu:1"]
        assert (traffic.bytes, traffic.transfers, traffic.time_ns) == (750, 2, 15)
        # Of the 4 ms that two steps took; what no span accounts for is waiting.
        assert state.shares("vgpu:0") == {
            "forward": 50 / 4_000_000,
            "transfer": 15 / 4_000_000,
            "backward": 60 / 4_000_000,
            "wait": 3_999_875 / 4_000_000,
        }
        assert dict(state.totals["vgpu:1"]) == {"transfer": 15}  # a copy occupies both its ends
        assert state.shares("vgpu:2") == {}
        assert (state.step, state.samples, state.last_loss, state.elapsed_ns) == (2, 128, 1.0, 4_000_000)
        assert state.step_seconds == 0.002

    def test_a_device_without_work_waits_all_the_time(self) -> None:
        state = RunState()
        state.apply(started("vgpu:0", "vgpu:1"))
        state.apply(span(0, "forward", 0, 500_000))
        assert state.shares("vgpu:0") == state.shares("vgpu:1") == {}
        state.apply(step(0))
        assert state.shares("vgpu:0") == {"forward": 0.25, "wait": 0.75}
        assert state.shares("vgpu:1") == {"wait": 1.0}

    def test_work_that_overlaps_is_never_more_than_all_the_time(self) -> None:
        state = RunState()
        state.apply_all([span(0, "forward", 0, 3_000_000), span(0, "transfer", 1_000_000, 2_000_000), step(0)])
        assert state.shares("vgpu:0") == {"forward": 0.75, "transfer": 0.25}

    def test_totals_count_spans_that_are_no_longer_kept(self) -> None:
        state = RunState()
        steps = KEPT_STEPS * 3
        for number in range(steps):
            state.apply(span(number))
            state.apply(step(number))
        assert state.totals["vgpu:0"]["forward"] == 10 * steps
        assert list(state.spans) == list(range(steps - KEPT_STEPS, steps))

    def test_memory(self) -> None:
        state = RunState()
        for time, allocated, peak in [(0, 5, 5), (1, 9, 9), (2, 3, 9)]:
            state.apply(MemorySampled("vgpu:0", time, allocated, peak, capacity=100))
        memory = state.memory["vgpu:0"]
        assert (memory.capacity, memory.peak, memory.allocated.y) == (100, 9, [5, 9, 3])

    def test_losses_of_each_rank(self) -> None:
        state = RunState()
        state.apply_all([step(0, 1.0, rank=0), step(0, 3.0, rank=1), step(1, 0.5, rank=0)])
        assert (state.loss[0].y, state.loss[1].y, state.step) == ([1.0, 0.5], [3.0], 2)


class TestTimeline:
    def test_a_late_span_pushes_out_nothing_newer(self) -> None:
        state = RunState()
        for number in range(100, 100 + KEPT_STEPS):
            state.apply(span(number))
        state.apply(span(3))
        assert list(state.spans) == list(range(100, 100 + KEPT_STEPS))

    def test_steps_may_arrive_out_of_order(self) -> None:
        state = RunState()
        for number in [1, 0, *range(2, KEPT_STEPS + 1)]:
            state.apply(span(number))
        assert sorted(state.spans) == list(range(1, KEPT_STEPS + 1))

    def test_the_timeline_shows_a_finished_step(self) -> None:
        state = RunState()
        assert state.timeline_step is None
        state.apply_all([span(0), span(1)])
        assert state.timeline_step is None
        state.apply(step(0))
        assert state.timeline_step == 0


class TestStatus:
    def test_the_root_cause_comes_first_whatever_the_order(self) -> None:
        state = RunState()
        state.apply_all([RankFailed(1, "connection reset", False), RankFailed(0, "out of memory", True)])
        assert state.failure is not None
        assert state.failure.cause == "out of memory"

    @pytest.mark.parametrize("ending", ["finished", "stopped", "failed"])
    def test_ending(self, ending: str) -> None:
        state = RunState()
        assert state.status == "starting"
        state.apply(RunFinished(ending, 3, 1.0, {}))  # type: ignore[arg-type]
        assert state.status == ending

    def test_copies_exchange_what_the_last_complete_step_shows(self) -> None:
        state = RunState()
        state.apply_all([started("vgpu:0", "vgpu:1"), Placed({"l": "vgpu:0"}, "given", "", copies=("vgpu:1",))])
        assert state.crossing_bytes is None
        out = span(0, "transfer", bytes=100, peer="vgpu:1")
        batch = replace(out, device="cpu", bytes=7)  # from the host, which is no device of the run
        back = replace(out, device="vgpu:1", peer="vgpu:0", bytes=60)
        state.apply_all([out, batch, back, step(0), replace(out, step=1, bytes=1)])
        assert state.crossing_bytes == 160

    def test_what_crosses_is_a_forecast_until_a_step_has_ended(self) -> None:
        state = RunState()
        edges = (GraphEdge("a", "b", (5,), 20, 20, True), GraphEdge("b", "c", (5,), 7, 7, False))
        state.apply_all([started("vgpu:0", "vgpu:1"), Placed({"a": "vgpu:0", "b": "vgpu:1"}, "given", "")])
        assert (state.crossing_bytes, state.crossing_is_forecast) == (None, False)
        state.apply(GraphTraced(PlacementGraph((), edges, 1)))
        assert (state.crossing_bytes, state.crossing_is_forecast) == (40, True)
        out = span(0, "transfer", bytes=100, peer="vgpu:1")
        state.apply_all([out, replace(out, device="cpu", bytes=9), replace(out, device="vgpu:1", peer="vgpu:0")])
        assert state.crossing_is_forecast
        state.apply(step(0))
        assert (state.crossing_bytes, state.crossing_is_forecast) == (200, False)
        assert state.forecast_bytes == 40
        state.apply_all([replace(out, step=1, bytes=3), step(1), step(2)])
        assert (state.crossing_bytes, state.crossing_is_forecast) == (0, False)

    def test_spans_that_are_not_kept_are_counted_as_moved(self) -> None:
        state = RunState()
        state.apply_all([started("vgpu:0", "vgpu:1"), Placed({"a": "vgpu:0"}, "given", "")])
        out = span(0, "transfer", bytes=2, peer="vgpu:1")
        state.apply_all([out] * (MAX_SPANS_PER_STEP + 500))
        state.apply(step(0))
        assert state.crossing_bytes == 2 * (MAX_SPANS_PER_STEP + 500)

    def test_placed_and_evaluated(self) -> None:
        state = RunState()
        placed, evaluated = Placed({"conv1": "cpu"}, "given", "as written"), Evaluated(5, 0, "test", 0.1, 0.97, 100)
        state.apply_all([placed, evaluated])
        assert state.placed == placed
        assert list(state.evaluations) == [evaluated]


def footprint(state: RunState) -> int:
    """How many values it holds."""
    curves = [*state.loss.values(), *(memory.allocated for memory in state.memory.values())]
    return (
        sum(len(curve.x) + len(curve.y) + len(curve._pending) for curve in curves)
        + sum(len(spans) for spans in state.spans.values())
        + len(state.evaluations)
        + len(state._step_seconds)
        + len(state.totals)
        + len(state.traffic)
    )


def test_a_million_steps_do_not_grow_it() -> None:
    state = RunState()
    for number in range(1_000_000):
        state.apply(step(number, loss=float(number)))
        if number % 4 == 0:
            state.apply(span(number, peer="vgpu:1"))
            state.apply(MemorySampled("vgpu:0", number, number, number, 10**9))
            state.apply(Evaluated(number, 0, "test", 0.0, 0.0, 1))
    assert state.step == 1_000_000
    assert state.totals["vgpu:0"]["forward"] == 250_000 * 10
    curve = state.loss[0]
    assert len(curve) <= SERIES_POINTS
    assert len(curve._pending) <= curve.stride
    # Points stand for stride steps each; their mean is that of the steps that they stand for.
    covered = len(curve) * curve.stride
    assert sum(curve.y) / len(curve) == pytest.approx((covered - 1) / 2)
    assert footprint(state) < 10_000
    assert sys.getsizeof(state.spans) < 10_000


def test_a_step_with_very_many_spans_is_cut() -> None:
    state = RunState()
    for _ in range(MAX_SPANS_PER_STEP + 100):
        state.apply(span(0))
    assert len(state.spans[0]) == MAX_SPANS_PER_STEP
    assert state.totals["vgpu:0"]["forward"] == 10 * (MAX_SPANS_PER_STEP + 100)
