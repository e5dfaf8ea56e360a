"""The presets run, and what the page says to watch in them is really there. Their times are modelled, so they are the
same on every machine."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import lab
from lab import breakdown
from lab.events import RankFailed
from lab.state import RunState
from widgets import board
from widgets.web import alert, presets

pytestmark = pytest.mark.usefixtures("no_leaks")


@functools.cache
def ran(name: str, steps: int = 6, **changes: Any) -> RunState:
    """A preset's run, shorter than it is, and with changes."""
    experiment = presets.all_presets()[name].experiment.replace(steps=steps, **changes)
    with lab.start(experiment) as run:
        assert run.wait(120)
    return run.state


def step_s(state: RunState) -> float:
    assert state.step_seconds is not None
    return state.step_seconds


def share(state: RunState, kind: str) -> float:
    """Of the time of all devices."""
    shares = [state.shares(device).get(kind, 0.0) for device in state.device_names]  # type: ignore[call-overload]
    return sum(shares) / len(shares)


def failure(state: RunState) -> RankFailed:
    assert state.failure is not None
    return state.failure


def test_naive_model_parallelism_leaves_one_device_waiting_and_is_no_faster_than_one() -> None:
    assert share(ran("naive"), "wait") > 0.35
    assert step_s(ran("naive")) > step_s(ran("one_device"))


def test_microbatches_overlap_and_shorten_the_step() -> None:
    assert step_s(ran("microbatches")) < 0.92 * step_s(ran("naive"))
    assert share(ran("microbatches"), "wait") < share(ran("naive"), "wait")


def test_a_pipeline_of_four_stages_is_filled_by_microbatches() -> None:
    filled, unfilled = ran("pipeline", steps=3), ran("pipeline", steps=3, microbatches=1)
    assert step_s(filled) < 0.5 * step_s(unfilled)
    assert 0.1 < share(filled, "wait") < 0.4 < share(unfilled, "wait")


def test_a_slow_link_makes_the_transfers_and_the_step_longer() -> None:
    assert share(ran("slow_link"), "transfer") > 3 * share(ran("naive"), "transfer")
    assert step_s(ran("slow_link")) > 1.3 * step_s(ran("naive"))


def test_fast_gpus_wait_most_of_the_time_for_a_small_net() -> None:
    assert share(ran("fast_gpu"), "wait") > 0.5
    assert step_s(ran("fast_gpu")) < 0.1 * step_s(ran("naive"))


def test_data_parallel_gives_the_first_device_more_to_do() -> None:
    state = ran("six_steps")
    busy = [1 - state.shares(device).get("wait", 0.0) for device in state.device_names]
    assert busy[0] == max(busy)
    assert busy[0] > max(busy[1:])


def test_ddp_shares_the_work_and_no_rank_is_late() -> None:
    state = ran("ddp")
    assert step_s(state) < 0.5 * step_s(ran("one_device"))
    assert breakdown.latest(state) is None


def exposed(state: RunState) -> float:
    """Of rank 0's time, spent on communication that nothing hides."""
    spent = breakdown.of_rank(state, 0)
    assert spent is not None
    return spent.exposed


def test_small_buckets_hide_communication_and_one_large_does_not() -> None:
    small, large = ran("overlap"), ran("one_bucket")
    assert len(small.buckets) > 4
    assert len(large.buckets) == 1
    assert exposed(small) < 0.5 * exposed(large)
    assert step_s(small) < step_s(large)


def test_the_board_warns_before_the_run_ends_out_of_memory_and_even_helps() -> None:
    experiment = presets.all_presets()["out_of_memory"].experiment
    shown = board.state(experiment)
    needed = sum(layer["memory_bytes"] for layer in shown["layers"])
    assert needed > shown["devices"][0]["capacity_bytes"] == 35_000_000
    state = ran("out_of_memory")
    assert state.status == "failed"
    assert alert.lesson(failure(state), several=False) == "memory"
    assert ran("out_of_memory", steps=3, placement="even").status == "finished"


def test_the_straggler_is_the_rank_that_is_named() -> None:
    late = breakdown.latest(ran("straggler", steps=30))
    assert late is not None
    assert (late.rank, late.alone) == (2, True)


def test_the_rank_that_is_killed_is_named_first_and_the_other_is_secondary() -> None:
    state = ran("killed", steps=60)
    assert (failure(state).rank, failure(state).primary) == (1, True)
    assert alert.lesson(failure(state), several=True) == "killed"
    assert [(other.rank, other.primary) for other in state.failures[1:]] == [(0, False)]
    assert failure(state).last_spans
