"""Patterns to devices, and automatic cuts against a search over all of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import placement
from lab.errors import PlacementError
from lab.placement import LayerCost

NET = ["conv1", "conv2", "fc1", "fc2"]
BLOCKS = ["blocks.0", "blocks.1", "blocks.10", "head"]


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("conv1", "conv1", True),
        ("conv1", "conv10", False),
        ("conv*", "conv10", True),
        ("conv?", "conv1", True),
        ("conv[12]", "conv2", True),
        ("*", "blocks.0", True),
        ("blocks", "blocks.0", True),
        ("blocks", "blocks2.0", False),
        ("blocks.1", "blocks.10", False),
        ("blocks.*", "blocks.10", True),
        ("Conv1", "conv1", False),
        ("blocks.0", "blocks", False),
    ],
)
def test_match(pattern: str, path: str, expected: bool):
    assert placement.match(pattern, path) is expected


def test_the_first_match_wins():
    assert placement.resolve({"conv1": "vgpu:0", "*": "vgpu:1"}, NET) == dict(
        zip(NET, ["vgpu:0", "vgpu:1", "vgpu:1", "vgpu:1"], strict=True)
    )
    assert set(placement.resolve({"*": "vgpu:1", "conv1": "vgpu:0"}, NET).values()) == {"vgpu:1"}
    assert placement.resolve({"head": "cpu", "blocks": "vgpu:0"}, BLOCKS) == {
        "blocks.0": "vgpu:0",
        "blocks.1": "vgpu:0",
        "blocks.10": "vgpu:0",
        "head": "cpu",
    }
    assert list(placement.resolve({"fc*": "cpu"}, NET)) == ["fc1", "fc2"]


def test_a_layer_may_have_signs_of_a_pattern_in_its_name():
    assert placement.match("a[0]", "a[0]")
    assert placement.shortest({"a[0]": "x", "b": "y", "c": "y"}) == {"a[0]": "x", "*": "y"}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["conv1", "*"], {}),
        (["*", "conv1"], {"conv1": "*"}),
        (["conv*", "conv1", "*", "fc"], {"conv1": "conv*"}),  # fc names no layer, which is another fault
        (["conv1", "conv2", "conv?", "*"], {"conv?": "conv1"}),
        (["conv1", "conv?", "*"], {}),
        (["*", "conv1", "fc1"], {"conv1": "*", "fc1": "*"}),
    ],
)
def test_patterns_that_never_apply(patterns: list[str], expected: dict[str, str]):
    assert placement.without_effect(dict.fromkeys(patterns, "cpu"), NET) == expected


def test_tied_layers_stay_together_with_what_runs_between():
    counts = {"encode": 100, "middle": 10, "decode": 0, "head": 60}
    tied = [["encode", "decode"]]
    assert placement.even(counts, ["a", "b"], tied) == {"encode": "a", "middle": "a", "decode": "a", "head": "b"}
    # The first layer alone on b would be no contiguous cut, and does not pay.
    assert placement.even({"x": 50, **counts}, ["a", "b"], tied)["x"] == "a"


def test_a_tied_last_layer_goes_to_the_first_so_that_no_device_is_empty():
    counts = {"wte": 30, "wpe": 2, "h0": 16, "h1": 16, "h2": 16, "ln": 1, "head": 0}
    placed = placement.even(counts, ["a", "b"], [["wte", "head"]])
    assert placed["wte"] == placed["head"] == "a"
    assert [placed[name] for name in ("h0", "h1", "h2", "ln")] == ["a", "b", "b", "b"]
    assert list(placed) == list(counts)


def test_tied_layers_and_what_is_between_may_not_fit_one_device():
    costs = [LayerCost("x", 1, 5, 0), LayerCost("y", 1, 8, 0), LayerCost("z", 1, 5, 0)]
    placed = placement.balance(costs, {"a": 10, "b": 10}, [["x", "z"]])
    assert placed == {"x": "a", "y": "b", "z": "a"}
    with pytest.raises(PlacementError):
        placement.balance(costs, {"a": 9, "b": 9}, [["x", "z"]])


def test_problems_name_patterns_and_layers():
    assert placement.problems({"conv1": "cpu", "*": "cpu"}, NET) == []
    unknown, missing = placement.problems({"conv3": "cpu", "conv1": "cpu", "fc1": "cpu"}, NET)
    assert "'conv3' matches no layer (did you mean 'conv" in unknown.message
    assert "conv1, conv2, fc1 and fc2" in unknown.message
    assert "gives no device to conv2 and fc2" in missing.message
    assert {unknown.field, missing.field} == {"placement"}


def test_even_by_parameters():
    parameters = {"conv1": 260, "conv2": 5_020, "fc1": 16_050, "fc2": 510}
    # The larger side: 21,580 after conv1; 16,560 after conv2; 21,330 after fc1.
    assert placement.even(parameters, ["a", "b"]) == {"conv1": "a", "conv2": "a", "fc1": "b", "fc2": "b"}
    assert set(placement.even(parameters, ["a"]).values()) == {"a"}
    equal = dict.fromkeys(["l0", "l1", "l2", "l3", "l4", "l5"], 7)
    assert list(placement.even(equal, ["a", "b", "c"]).values()) == ["a", "a", "b", "b", "c", "c"]


def test_more_devices_than_layers():
    placed = placement.even({"x": 3, "y": 3}, ["a", "b", "c"])
    assert set(placed) == {"x", "y"}
    assert placed["x"] != placed["y"]


def test_of_equal_cuts_the_one_that_moves_less_wins():
    costs = [LayerCost("x", 5, 0, 900), LayerCost("none", 0, 0, 10), LayerCost("y", 5, 0, 50)]
    assert placement.balance(costs, {"a": None, "b": None}) == {"x": "a", "none": "a", "y": "b"}


def test_a_slower_beginning_may_move_less():
    # (l0 l1)(l2)(l3) moves l1's byte, (l0)(l1 l2)(l3) moves nothing; the slowest stage takes 4 either way.
    costs = [LayerCost("l0", 1, 0, 0), LayerCost("l1", 1, 0, 1), LayerCost("l2", 3, 0, 0), LayerCost("l3", 4, 0, 0)]
    placed = placement.balance(costs, {"a": None, "b": None, "c": None})
    assert placed["l1"] == placed["l2"] != placed["l3"]


def test_memory_moves_a_cut():
    costs = [LayerCost("x", 5, 60, 1), LayerCost("y", 5, 60, 1), LayerCost("z", 10, 10, 1)]
    assert placement.balance(costs, {"a": None, "b": None}) == {"x": "a", "y": "a", "z": "b"}
    assert placement.balance(costs, {"a": 100, "b": 100}) == {"x": "a", "y": "b", "z": "b"}


def test_what_fits_nowhere_is_refused_with_the_numbers():
    costs = [LayerCost("small", 1, 1_000_000, 1), LayerCost("large", 1, 9_000_000, 1)]
    with pytest.raises(PlacementError) as caught:
        placement.balance(costs, {"a": 5_000_000, "b": 5_000_000})
    text = str(caught.value)
    assert "needs about 10.0 MB" in text
    assert "'large' 9.0 MB" in text
    assert "2 devices hold 10.0 MB" in text


COSTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6).map(
    lambda rows: [LayerCost(f"l{number}", *row) for number, row in enumerate(rows)]
)
CAPACITIES = st.lists(st.none() | st.integers(0, 25), min_size=1, max_size=4)


def best_by_search(costs: list[LayerCost], capacities: list[int | None]) -> tuple[int, int] | None:
    """(slowest stage, bytes crossing) of the best of all contiguous cuts, empty stages included; None if none fits."""
    found = []
    for stages in itertools.combinations_with_replacement(range(len(capacities)), len(costs)):
        times, memory = [0] * len(capacities), [0] * len(capacities)
        for stage, cost in zip(stages, costs, strict=True):
            times[stage] += cost.time_ns
            memory[stage] += cost.memory_bytes
        if all(limit is None or used <= limit for used, limit in zip(memory, capacities, strict=True)):
            found.append((max(times), crossing(costs, stages)))
    return min(found, default=None)


def crossing(costs: list[LayerCost], stages: tuple[int, ...]) -> int:
    return sum(cost.output_bytes for cost, here, there in zip(costs, stages, stages[1:], strict=False) if here != there)


@given(costs=COSTS, capacities=CAPACITIES)
def test_balance_finds_what_a_search_finds(costs: list[LayerCost], capacities: list[int | None]):
    devices = {f"d{number}": capacity for number, capacity in enumerate(capacities)}
    expected = best_by_search(costs, capacities)
    if expected is None:
        with pytest.raises(PlacementError):
            placement.balance(costs, devices)
        return
    placed = placement.balance(costs, devices)
    assert list(placed) == [cost.path for cost in costs]
    stages = tuple(int(placed[cost.path][1:]) for cost in costs)
    assert list(stages) == sorted(stages)
    times, memory = [0] * len(capacities), [0] * len(capacities)
    for stage, cost in zip(stages, costs, strict=True):
        times[stage] += cost.time_ns
        memory[stage] += cost.memory_bytes
    assert all(limit is None or used <= limit for used, limit in zip(memory, capacities, strict=True))
    assert max(times) == expected[0]
    assert crossing(costs, stages) == expected[1]


def test_shortest_patterns_mean_the_same() -> None:
    placed = {"conv1": "vgpu:0", "conv2": "vgpu:1", "fc1": "vgpu:1", "fc2": "vgpu:1"}
    short = placement.shortest(placed)
    assert short == {"conv1": "vgpu:0", "*": "vgpu:1"}
    assert placement.resolve(short, list(placed)) == placed
    assert placement.shortest({"a": "cpu"}) == {"*": "cpu"}
