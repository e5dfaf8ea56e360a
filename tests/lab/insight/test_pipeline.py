"""The pipeline model against hand-drawn schedules."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lab.events import GraphEdge, GraphNode, PlacementGraph
from lab.insight.pipeline import Work, best_move, ideal_bubble, step_ns
from lab.vgpu.links import LinkModel


def work(microbatches: int, link: LinkModel | None = None, size: int = 0, **spent: float) -> Work:
    """A chain of layers; each takes as long forward as backward."""
    nodes = tuple(GraphNode(name, "layer", "") for name in spent)
    edges = tuple(GraphEdge(one, two, (1,), size, size, False) for one, two in pairwise(spent))
    return Work(spent, spent, PlacementGraph(nodes, edges, 64), microbatches, link)


@pytest.mark.parametrize(("stages", "parts"), [(2, 1), (2, 4), (4, 8), (3, 1)])
def test_equal_stages_wait_as_the_formula_says(stages: int, parts: int) -> None:
    spent = {f"l{index}": 120.0 for index in range(stages)}
    took = step_ns(work(parts, **spent), {name: name for name in spent})
    # Drawn: each part takes 120 / m on each stage, and the last one leaves after m + n - 1 such turns, both ways.
    assert took == pytest.approx(2 * 120 / parts * (parts + stages - 1))
    assert 1 - 2 * 120 / took == pytest.approx(ideal_bubble(stages, parts))


def test_the_slowest_stage_sets_the_pace() -> None:
    # Two parts of 10 and 50: the second part waits for the slow stage. 10 + 50 + 50, both ways.
    assert step_ns(work(2, a=20, b=100), {"a": "x", "b": "y"}) == pytest.approx(2 * (10 + 50 + 50))


def test_one_part_takes_the_sum_whatever_the_balance() -> None:
    assert step_ns(work(1, a=20, b=100), {"a": "x", "b": "y"}) == pytest.approx(240)
    assert step_ns(work(1, a=60, b=60), {"a": "x", "b": "y"}) == pytest.approx(240)


def test_a_copy_occupies_both_ends_and_pays_its_latency_for_every_part() -> None:
    link = LinkModel(bytes_per_ns=2.0, latency_ns=10)
    # Two parts of 100 bytes: 10 + 50 each. Drawn, x: 0-50 part 1, 50-110 copy, 110-160 part 2, 160-220 copy; y: 110-160
    # part 1, 220-270 part 2. Back the same way round, from 270 on: y computes, copies, computes, copies, and x has the
    # last turn of 50.
    took = step_ns(work(2, link, 200, a=100, b=100), {"a": "x", "b": "y"})
    assert took == pytest.approx(270 + 50 + 60 + 50 + 60 + 50)
    assert step_ns(work(2, link, 200, a=100, b=100), {"a": "x", "b": "x"}) == pytest.approx(2 * 200)


def test_a_device_does_things_in_the_order_in_which_they_come() -> None:
    # x has the first and the last layer: it does b's second part only when the first part is through, as CUDA would.
    # x: a1 0-10, c1 20-30, a2 30-40, c2 50-60, and y between; back the same.
    assert step_ns(work(2, a=20, b=20, c=20), {"a": "x", "b": "y", "c": "x"}) == pytest.approx(120)


def test_a_join_waits_for_both_of_its_sides() -> None:
    nodes = (*(GraphNode(name, "layer", "") for name in "abc"), GraphNode("add", "join", "x"))
    pairs = (("a", "b"), ("a", "c"), ("b", "add"), ("c", "add"))
    graph = PlacementGraph(nodes, tuple(GraphEdge(*pair, (1,), 0, 0, False) for pair in pairs), 64)
    spent = {"a": 10.0, "b": 30.0, "c": 20.0}
    both = Work(spent, {}, graph, 1, None)
    assert step_ns(both, {"a": "x", "b": "x", "c": "y"}) == pytest.approx(40)
    assert step_ns(both, dict.fromkeys("abc", "x")) == pytest.approx(60)


def test_the_best_move_evens_the_stages_out() -> None:
    layers = {"a": "x", "b": "x", "c": "y"}
    # Each way, (t0 + t1 + 7 * max) / 8: 80 and 20 now, 50 and 50 with b moved.
    found = best_move(work(8, a=50, b=30, c=20), layers, ("x", "y"), took_ns=2 * (100 + 7 * 80) / 8)
    assert found is not None
    assert found[:2] == ("b", "y")
    assert found[2] == pytest.approx(1 - (100 + 7 * 50) / (100 + 7 * 80))


def test_a_net_too_large_to_play_through_gets_no_advice() -> None:
    spent = {f"l{index}": 10.0 for index in range(100)}
    layers = {name: "x" if index < 90 else "y" for index, name in enumerate(spent)}
    large = work(512, **spent)
    assert best_move(large, layers, ("x", "y"), took_ns=step_ns(large, layers)) is None
    small = work(8, **spent)
    assert (
        best_move(small, layers, ("x", "y"), took_ns=step_ns(small, layers)) is None
    )  # one of a hundred is too little


def test_no_move_is_named_that_helps_little_or_where_the_model_is_wrong() -> None:
    layers = {"a": "x", "b": "y"}
    even = work(4, a=50, b=50)
    assert best_move(even, layers, ("x", "y"), took_ns=step_ns(even, layers)) is None
    uneven, split = work(8, a=40, b=40, c=20), {"a": "x", "b": "x", "c": "y"}
    assert best_move(uneven, split, ("x", "y"), took_ns=step_ns(uneven, split)) is not None
    assert best_move(uneven, split, ("x", "y"), took_ns=3 * step_ns(uneven, split)) is None
