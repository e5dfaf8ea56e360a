"""Findings about hand-made runs in one process, with numbers that were worked out by hand."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from lab import insight
from lab.events import GraphEdge, GraphNode, GraphTraced, PlacementGraph, RunFinished
from lab.insight.findings import (
    PLACES,
    Arithmetic,
    BatchCopy,
    Bubble,
    Copying,
    Finding,
    HeaviestLayer,
    HostBound,
    Idle,
    Imbalance,
    LargestLayer,
    LinkLoad,
    Overview,
    TooShort,
)
from lab.state import RunState
from tests.lab.insight.runs import state
from tests.widgets import events_factory as factory


def of(found: tuple[Finding, ...], kind: type) -> Finding:
    [one] = [each for each in found if type(each) is kind]
    return one


def kinds(found: tuple[Finding, ...]) -> list[type]:
    return [type(each) for each in found]


class TestTheNaiveRun:
    """The step of `events_factory`: 1,270 µs, of which vgpu:0 computes for 530 and vgpu:1 for 740; two copies of 40 µs
    occupy both; vgpu:0 waits for 660 while vgpu:1 computes, vgpu:1 for 450 while vgpu:0 does."""

    found = insight.look(factory.folded(factory.events(steps=6)))

    def test_the_overview_comes_first(self) -> None:
        first = self.found[0]
        assert isinstance(first, Overview)
        assert first.computing == pytest.approx((530 + 740) / 2 / 1270)
        assert first.step_seconds == pytest.approx(1270e-6)
        assert first.samples_per_second == pytest.approx(64 / 1270e-6)
        assert (first.devices, first.basis) == (2, "simulated")

    def test_stages_that_take_turns_explain_most(self) -> None:
        bubble = self.found[1]
        assert isinstance(bubble, Bubble)
        assert bubble.theory == 0.5
        assert bubble.measured == bubble.weight == pytest.approx((660 + 450) / 2 / 1270)
        assert (bubble.stages, bubble.microbatches, bubble.more) == (2, 1, 2)
        assert bubble.more_theory == pytest.approx(1 / 3)

    def test_the_most_idle_device_and_what_it_waits_for(self) -> None:
        idle = of(self.found, Idle)
        assert isinstance(idle, Idle)
        assert (idle.device, idle.reason, idle.blocker) == ("vgpu:0", "device", "vgpu:1")
        assert idle.layer == "conv2"  # 180 + 280 of those 660 µs, against fc1's 135
        assert (idle.share, idle.part) == (pytest.approx(660 / 1270), pytest.approx(660 / 1270))

    def test_the_link(self) -> None:
        link = of(self.found, LinkLoad)
        assert isinstance(link, LinkLoad)
        assert link.ends == ("vgpu:0", "vgpu:1")
        assert link.weight == pytest.approx(80 / 1270)
        assert link.bytes_per_step == 2 * factory.CROSSING
        assert link.seconds_per_step == pytest.approx(80e-6)
        assert link.gb_per_s == pytest.approx(2 * factory.CROSSING / 80_000)
        assert link.bandwidth_gb_per_s == 1.0
        assert link.latency == pytest.approx(2 * 20 / 80)  # two transfers, 20 µs each on the classroom's link
        # The real link could not have been so fast: a model that is this far from the run recommends nothing.
        assert link.move is None

    def test_the_heaviest_layer(self) -> None:
        layer = of(self.found, HeaviestLayer)
        assert isinstance(layer, HeaviestLayer)
        assert (layer.layer, layer.seconds_per_step) == ("conv2", pytest.approx(460e-6))
        assert layer.share == pytest.approx(460 / (440 + 460 + 135 + 65))

    def test_findings_come_by_place_and_weight(self) -> None:
        places = [PLACES.index(each.place) for each in self.found]
        assert places == sorted(places)
        for one, next_one in pairwise([each for each in self.found if each.place == "cause"]):
            assert one.weight >= next_one.weight


def chain(microbatches: int, crossing: int = 0) -> GraphTraced:
    """a -> b -> c, with equal tensors between them."""
    names = ("a", "b", "c")
    nodes = (GraphNode("input", "input", ""), *(GraphNode(name, "layer", "") for name in names))
    edges = tuple(GraphEdge(one, two, (1,), crossing, crossing, True) for one, two in pairwise(names))
    return GraphTraced(PlacementGraph(nodes, edges, 64))


class TestAnUnevenPipeline:
    """Two parts through two stages: vgpu:0 computes a and b for 400 + 400, vgpu:1 computes c for 100, at the end."""

    rows = (
        ("vgpu:0", "forward", "a", 0, 200),
        ("vgpu:0", "forward", "b", 200, 400),
        ("vgpu:1", "forward", "c", 400, 450),
        ("vgpu:1", "backward", "c", 450, 500),
        ("vgpu:0", "backward", "b", 500, 700),
        ("vgpu:0", "backward", "a", 700, 900),
    )

    def look(self, **fields: object) -> tuple[Finding, ...]:
        layers = {"a": "vgpu:0", "b": "vgpu:0", "c": "vgpu:1"}
        free = {"bandwidth_gb_per_s": 1e6, "latency_us": 0.0}
        made = state(self.rows, 900, layers, graph=chain(2), link=free, **fields)  # type: ignore[arg-type]
        return insight.look(made)

    def test_with_microbatches_it_is_the_balance(self) -> None:
        # vgpu:1 waits for 800 of 900 µs, vgpu:0 for 100: the mean is 1/2, and more than twice the 1/5 of equal stages.
        cause = self.look(microbatches=4)[1]
        assert isinstance(cause, Imbalance)
        assert cause.weight == pytest.approx((800 + 100) / 2 / 900)
        assert (cause.busiest, cause.least) == ("vgpu:0", "vgpu:1")
        assert cause.ratio == pytest.approx(800 / 450)

    def test_the_move_that_helps_most(self) -> None:
        # Each way takes (t0 + t1 + 3 max) / 4, with t = 400, 50 now: 412.5; with b moved 200, 250: 300.
        cause = self.look(microbatches=4)[1]
        assert isinstance(cause, Imbalance)
        assert cause.move is not None
        assert (cause.move.layer, cause.move.source, cause.move.target) == ("b", "vgpu:0", "vgpu:1")
        assert cause.move.gain == pytest.approx(1 - 300 / 412.5)
        assert not cause.move.empties

    def test_without_microbatches_no_balance_would_help(self) -> None:
        cause = self.look(microbatches=1)[1]
        assert isinstance(cause, Bubble)
        assert cause.theory == 0.5

    def test_no_more_parts_than_divide_the_batch(self) -> None:
        cause = self.look(microbatches=1, batch_size=63)[1]
        assert isinstance(cause, Bubble)
        assert cause.more == 0


def test_a_slow_link_comes_first_and_the_way_out_is_named() -> None:
    rows = (
        ("vgpu:0", "forward", "a", 0, 50),
        ("vgpu:0", "transfer", "vgpu:0 → vgpu:1", 50, 450),
        ("vgpu:1", "forward", "b", 450, 500),
        ("vgpu:1", "backward", "b", 500, 550),
        ("vgpu:1", "transfer", "vgpu:1 → vgpu:0", 550, 950),
        ("vgpu:0", "backward", "a", 950, 1000),
    )
    sizes = {"vgpu:0 → vgpu:1": 30_000, "vgpu:1 → vgpu:0": 30_000}
    nodes = (GraphNode("a", "layer", "vgpu:0"), GraphNode("b", "layer", "vgpu:1"))
    graph = GraphTraced(PlacementGraph(nodes, (GraphEdge("a", "b", (1,), 30_000, 30_000, True),), 64))
    link = {"bandwidth_gb_per_s": 0.1, "latency_us": 100.0}
    found = insight.look(state(rows, 1000, sizes=sizes, graph=graph, link=link))
    cause = found[1]
    assert isinstance(cause, LinkLoad)
    assert cause.weight == pytest.approx(0.8)
    assert cause.gb_per_s == pytest.approx(60_000 / 800_000)
    assert cause.latency == pytest.approx(200 / 800)
    assert cause.move is not None  # everything on one device: 200 µs of work instead of 1,000 with the way
    assert cause.move.empties
    assert cause.move.gain == pytest.approx(0.8)
    assert Bubble not in kinds(found)  # the devices wait 10% for each other, against 50% in theory


def test_a_link_that_was_changed_in_the_run_is_not_held_against_its_old_figures() -> None:
    rows = (("vgpu:0", "forward", "a", 0, 50), ("vgpu:0", "transfer", "vgpu:0 → vgpu:1", 50, 100))
    link = {"bandwidth_gb_per_s": 0.1, "latency_us": 1000.0}
    found = of(insight.look(state(rows, 100, sizes={"vgpu:0 → vgpu:1": 10}, link=link)), LinkLoad)
    assert isinstance(found, LinkLoad)
    assert (found.bandwidth_gb_per_s, found.latency) == (None, None)


def test_copies_of_the_net() -> None:
    rows = (
        ("vgpu:0", "transfer", "replicate vgpu:0 → vgpu:1", 0, 200),
        ("vgpu:0", "forward", "a", 200, 600),
        ("vgpu:1", "forward", "a", 200, 600),
        ("vgpu:1", "transfer", "reduce vgpu:1 → vgpu:0", 600, 700),
    )
    sizes = {"replicate vgpu:0 → vgpu:1": 5_000, "reduce vgpu:1 → vgpu:0": 4_000}
    copied = state(rows, 1000, {"a": "vgpu:0"}, copies=("vgpu:1",), sizes=sizes, strategy="data_parallel")
    found = insight.look(copied)
    copying, host = of(found, Copying), of(found, HostBound)
    assert isinstance(copying, Copying)
    assert (copying.bytes_per_step, copying.copies, copying.purpose) == (9_000, 1, "replicate")
    assert copying.weight == pytest.approx(0.3)
    assert host.weight == pytest.approx(0.3)
    assert found.index(host) > 0


def test_a_batch_that_comes_from_the_host() -> None:
    rows = (
        ("cpu", "transfer", "cpu → vgpu:0", 0, 200),
        ("vgpu:0", "forward", "a", 200, 1000),
    )
    alone = state(rows, 1000, {"a": "vgpu:0"}, sizes={"cpu → vgpu:0": 700}, lanes=("vgpu:0",), strategy="single")
    found = insight.look(alone)
    copy = of(found, BatchCopy)
    assert isinstance(copy, BatchCopy)
    assert (copy.bytes_per_step, copy.weight) == (700, pytest.approx(0.2))
    assert not {Idle, Bubble, LinkLoad} & set(kinds(found))


def test_arithmetic_is_a_small_part_of_what_small_layers_take() -> None:
    rows = (("vgpu:0", "forward", "a", 0, 100),)
    made = state(rows, 100, {"a": "vgpu:0"}, lanes=("vgpu:0",), strategy="single", hardware="h100", flops=67_000_000)
    found = of(insight.look(made), Arithmetic)
    assert isinstance(found, Arithmetic)
    assert found.at_peak_seconds == pytest.approx(1e-6)  # 67 TFLOP/s in float32
    assert found.took_seconds == pytest.approx(100e-6)
    assert found.weight == pytest.approx(0.99)
    # Timed by this machine's CPU, the profile's peak says nothing.
    measured = state(rows, 100, {"a": "vgpu:0"}, lanes=("vgpu:0",), hardware="h100", timing="measured", flops=10**9)
    assert Arithmetic not in kinds(insight.look(measured))


def test_a_real_clock_is_measured() -> None:
    found = insight.look(factory.folded(factory.events(steps=6, clock="wall")))
    assert {each.basis for each in found if each.place == "cause"} == {"measured"}


class TestRunsOfWhichLittleIsKnown:
    def test_nothing_is_said_of_nothing(self) -> None:
        assert insight.look(RunState()) == ()
        assert insight.look(factory.folded(iter([factory.started()]))) == ()
        assert insight.look(factory.folded(factory.events(steps=0))) == ()

    @pytest.mark.parametrize("steps", [1, 2])
    def test_few_steps_are_said_to_be_few(self, steps: int) -> None:
        found = insight.look(factory.folded(factory.events(steps=steps)))
        assert found[0] == TooShort(basis="simulated", place="first", steps=steps)
        assert all(each.place in ("first", "aside") for each in found)

    @pytest.mark.parametrize("end", ["finished", "stopped", "failed"])
    def test_the_end_changes_nothing(self, end: str) -> None:
        before = insight.look(factory.folded(factory.events(steps=6)))
        assert insight.look(factory.folded(factory.events(steps=6), iter([factory.finished(end, 6)]))) == before

    def test_a_run_that_failed_before_its_first_step(self) -> None:
        ended = [factory.started(), factory.failed(), RunFinished("failed", 0, 0.1, {})]
        assert insight.look(factory.folded(iter(ended))) == ()

    def test_where_memory_ran_out_the_largest_layer_is_named(self) -> None:
        cause = "OutOfMemoryError: VGPU out of memory. Tried to allocate 1 MB."
        failed = dataclasses.replace(factory.failed(), cause=cause)
        found = insight.look(factory.folded(factory.events(steps=0), iter([failed])))
        largest = of(found, LargestLayer)
        assert isinstance(largest, LargestLayer)
        # Of conv1: 260 parameters, their gradients and momentum, and 64 x 10 x 24 x 24 outputs, in float32.
        assert (largest.layer, largest.bytes) == ("conv1", 4 * (3 * 260 + 64 * 10 * 24 * 24))
        assert len(found) == 1

    def test_of_equal_layers_none_is_the_heaviest(self) -> None:
        for second, named in ((97, False), (80, True)):
            rows = (("vgpu:0", "forward", "a", 0, 100), ("vgpu:1", "forward", "b", 100, 100 + second))
            assert (HeaviestLayer in kinds(insight.look(state(rows, 200)))) is named

    def test_a_device_without_work_waits_all_the_time(self) -> None:
        rows = (("vgpu:0", "forward", "a", 0, 100),)
        idle = of(insight.look(state(rows, 100, {"a": "vgpu:0"})), Idle)
        assert isinstance(idle, Idle)
        assert (idle.device, idle.share) == ("vgpu:1", pytest.approx(1.0))
