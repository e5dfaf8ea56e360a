"""Findings about real runs, made so that one thing explains them."""

from __future__ import annotations

from typing import Any

import pytest

import lab
from lab import insight
from lab.insight.findings import Arithmetic, Bubble, Finding, Imbalance, LateRank, LinkLoad, Overview, TooShort
from lab.state import RunState

pytestmark = pytest.mark.usefixtures("no_leaks")

SPLIT = {
    "strategy": "model_parallel",
    "devices": ["vgpu:0", "vgpu:1"],
    "timing": "modelled",  # the same times on every machine
    "steps": 12,
}


def ran(**fields: Any) -> RunState:
    with lab.start(lab.Experiment(**fields)) as run:
        run.wait()
    return run.state


def look(**fields: Any) -> tuple[Finding, ...]:
    return insight.look(ran(**fields))


def causes(found: tuple[Finding, ...]) -> list[Finding]:
    return [each for each in found if each.place == "cause"]


def test_of_a_slow_link_the_link_is_said_first() -> None:
    placement = {"conv1": "vgpu:0", "*": "vgpu:1"}
    link = {"bandwidth_gb_per_s": 0.02, "latency_us": 500}
    first = causes(look(**SPLIT, placement=placement, link=link))[0]
    assert isinstance(first, LinkLoad)
    # 64 x 10 x 12 x 12 float32, forward and back, each way 0.5 ms and 368,640 bytes at 20 bytes per microsecond.
    assert first.bytes_per_step == 2 * 368_640
    assert first.seconds_per_step == pytest.approx(2 * (500e-6 + 368_640 / 0.02e9))
    assert first.move is not None
    assert first.move.empties


def test_of_layers_all_on_one_device_the_imbalance_is_said_first() -> None:
    placement = {"fc*": "vgpu:1", "*": "vgpu:0"}
    state = ran(**SPLIT, placement=placement, microbatches=4, batch_size=256)
    first = causes(insight.look(state))[0]
    assert isinstance(first, Imbalance)
    assert (first.busiest, first.least) == ("vgpu:0", "vgpu:1")
    assert 1.8 < first.ratio <= 2
    assert first.move is not None
    # What the model promises of the move, a run with it keeps.
    moved = ran(**SPLIT, placement={first.move.layer: "vgpu:1", **placement}, microbatches=4, batch_size=256)
    assert state.step_seconds
    assert moved.step_seconds
    assert 1 - moved.step_seconds / state.step_seconds == pytest.approx(first.move.gain, abs=0.04)


def test_of_the_naive_run_the_taking_turns_is_said_first() -> None:
    first = causes(look(**SPLIT, placement={"conv1": "vgpu:0", "*": "vgpu:1"}))[0]
    assert isinstance(first, Bubble)
    assert first.theory == 0.5


def test_on_fast_hardware_arithmetic_is_next_to_nothing() -> None:
    found = causes(look(strategy="single", devices=["vgpu:0"], hardware="h100", steps=8))[0]
    assert isinstance(found, Arithmetic)
    assert found.share < 0.05


def test_the_straggler_is_named() -> None:
    found = look(
        strategy="ddp",
        world_size=2,
        devices=["vgpu:0", "vgpu:1"],
        timing="modelled",
        steps=16,
        faults=["straggle:1:0:3"],
    )
    [late] = [each for each in found if isinstance(each, LateRank)]
    assert (late.rank, late.planned) == (1, True)
    assert late is causes(found)[0]
    assert late.computation is not None
    assert late.computation > 1.5


def test_one_step_is_too_few() -> None:
    found = look(**{**SPLIT, "steps": 1})
    assert isinstance(found[0], TooShort)
    assert not any(isinstance(each, Overview) for each in found)
    assert not causes(found)


def test_a_run_that_ran_out_of_memory_is_not_explained_by_its_speed() -> None:
    found = look(strategy="single", devices=["vgpu:0"], memory_mb=1, steps=5)
    assert not causes(found)
