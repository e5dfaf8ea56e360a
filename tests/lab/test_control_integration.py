"""Runs that are paused, stepped, changed and stopped while they train."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import BatchSampler, DistributedSampler

import lab
from lab import data, nets
from lab.events import Changed, Evaluated, Event, Paused, Resumed, RunFinished, Span, StepFinished

pytestmark = pytest.mark.usefixtures("no_leaks")

ENDLESS = 100_000
PATIENCE = 60.0
RUNS: dict[str, dict[str, Any]] = {
    "single": {},
    "model_parallel": {"strategy": "model_parallel", "devices": "vgpu:0,vgpu:1"},
    "data_parallel": {"strategy": "data_parallel", "devices": "vgpu:0,vgpu:1"},
    "ddp-2": {"strategy": "ddp", "world_size": 2},
    "ddp-4": {"strategy": "ddp", "world_size": 4},
    "ddp-placed": {"strategy": "ddp", "world_size": 2, "devices": "vgpu:0,vgpu:1,vgpu:2,vgpu:3", "placement": "even"},
}
EVERY_STRATEGY = pytest.mark.parametrize("fields", list(RUNS.values()), ids=list(RUNS))
DDP = pytest.mark.parametrize("fields", [RUNS["ddp-2"], RUNS["ddp-4"]], ids=["ddp-2", "ddp-4"])


def start(fields: dict[str, Any], steps: int = ENDLESS) -> lab.Run:
    return lab.start(lab.Experiment(**fields, steps=steps))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


def paused(run: lab.Run) -> Paused:
    """Where the run is paused, as soon as it is."""
    until(lambda: run.state.paused or run.done)
    where = run.state.paused
    assert where is not None, run.state
    return where


def moved(run: lab.Run, **how: bool) -> Paused:
    """Where it is paused after a step, or a phase."""
    before = run.state.paused
    run.step(**how)
    until(lambda: run.done or run.state.paused not in (None, before))
    return paused(run)


def gates(run: lab.Run) -> set[tuple[int, str]]:
    return {(position.step, position.phase) for position in run.positions()}


def rest(run: lab.Run) -> list[Event]:
    """All its events, when they are wanted after the end."""
    assert run.wait(PATIENCE)
    return list(run)


def plain_losses(steps: int, lr_at: dict[int, float]) -> list[float]:
    """Net on MNIST as a tutorial writes it, with a learning rate that changes before some steps."""
    dataset = data.load("mnist")
    torch.manual_seed(0)
    net = nets.build("net", data.REGISTRY["mnist"].spec)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    samples = DistributedSampler(range(60_000), num_replicas=1, rank=0, seed=0)
    losses = []
    for step, indices in zip(range(steps), BatchSampler(samples, 64, drop_last=False), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr_at.get(step, group["lr"])
        optimizer.zero_grad()
        loss = F.cross_entropy(net(dataset.train_inputs[indices]), dataset.train_targets[indices])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@EVERY_STRATEGY
def test_a_pause_holds_every_rank_at_the_same_gate_until_it_is_resumed(fields: dict[str, Any]) -> None:
    with start(fields) as run:
        until(lambda: run.state.step > 3)
        run.pause()
        where = paused(run)
        assert where.phase == "data"
        assert gates(run) == {(where.step, "data")}
        steps = run.state.step
        assert steps == where.step, "everything before the pause has been reported"
        time.sleep(0.3)
        assert (run.state.step, gates(run)) == (steps, {(where.step, "data")})
        run.resume()
        until(lambda: run.state.step > steps + 3)
        run.stop()
        events = rest(run)
    assert [event for event in events if isinstance(event, Paused | Resumed)] == [where, Resumed(where.step)]
    assert run.state.failure is None


@EVERY_STRATEGY
def test_one_step_and_one_phase_at_a_time(fields: dict[str, Any]) -> None:
    phases = ["data", "forward", "backward", "synchronise", "update"]
    if fields.get("strategy") in (None, "model_parallel"):
        phases.remove("synchronise")  # nothing to synchronise on one device, or between parts of one net
    with start(fields) as run:
        run.pause()
        first = paused(run).step
        assert (moved(run).step, moved(run).step) == (first + 1, first + 2)
        for step in (first + 2, first + 3):
            for phase in phases:
                assert gates(run) == {(step, phase)}
                moved(run, phase=True)
        assert moved(run, phase=True).phase == "forward"
        assert moved(run).phase == "data", "a step ends where the next begins"
        assert run.state.step == first + 5
        run.resume()
        until(lambda: run.state.step > first + 8)


@EVERY_STRATEGY
def test_a_new_learning_rate_takes_hold_before_one_step_in_all_ranks(fields: dict[str, Any]) -> None:
    with start(fields, steps=14) as run:
        run.pause()
        first = paused(run).step
        for _ in range(4):
            moved(run)
        run.change(lr=0.1)
        for _ in range(4):
            moved(run, phase=True)
        run.change(lr=0.02)
        run.resume()
        events = rest(run)
    changed = [event for event in events if isinstance(event, Changed)]
    assert changed == [Changed(first + 4, {"lr": 0.1}), Changed(first + 5, {"lr": 0.02})]
    losses = list(run.state.mean_loss.y)
    assert losses == pytest.approx(plain_losses(14, {first + 4: 0.1, first + 5: 0.02}), rel=1e-4)


@DDP
def test_a_new_learning_rate_in_full_run_reaches_all_ranks_before_the_same_step(fields: dict[str, Any]) -> None:
    with start(fields, steps=200) as run:
        until(lambda: run.state.step > 3)
        # A smaller one: under a larger, what rounding does in another order grows.
        run.change(lr=0.001)
        events = rest(run)
    [changed] = [event for event in events if isinstance(event, Changed)]
    assert 3 < changed.step < 190
    shown = changed.step + 8
    assert list(run.state.mean_loss.y)[:shown] == pytest.approx(plain_losses(shown, {changed.step: 0.001}), rel=1e-4)
    assert not [event for event in events if isinstance(event, Paused | Resumed)]
    # Ranks with different learning rates would differ, which is a failure.
    assert run.state.failure is None


@DDP
def test_a_paused_run_computes_nothing_and_leaves_no_gap_on_the_timeline(fields: dict[str, Any]) -> None:
    seconds = 1.5
    with start(fields) as run:
        until(lambda: run.state.step > 3)
        run.pause()
        paused(run)
        ranks = [psutil.Process(pid) for pid in run.pids]
        before = [sum(rank.cpu_times()[:2]) for rank in ranks]
        time.sleep(seconds)
        used = [sum(rank.cpu_times()[:2]) - start for rank, start in zip(ranks, before, strict=True)]
        assert max(used) <= 0.05 * seconds, used
        stood = run.state.step
        run.resume()
        until(lambda: run.state.step > stood + 3)
        run.stop()
        events = rest(run)
    longest = max((event.duration_ns for event in events if isinstance(event, Span)), default=0)
    assert 0 < longest < seconds / 2 * 1e9
    finished = [event for event in events if isinstance(event, StepFinished)]
    assert max(event.seconds for event in finished) < seconds / 2
    # The clocks of all ranks stood still for as long: nobody's all-reduce ends before another's has begun.
    for step in range(stood, stood + 3):
        reduces = collectives(events, step, step + 1)
        assert {event.rank for event in reduces} == set(range(fields["world_size"]))
        assert max(event.start_ns for event in reduces) < min(event.end_ns for event in reduces)


@pytest.mark.parametrize("fields", [RUNS["model_parallel"], RUNS["ddp-2"]], ids=["model_parallel", "ddp-2"])
def test_a_run_is_slowed_down_to_be_watched_and_its_steps_take_no_longer(fields: dict[str, Any]) -> None:
    pause_s = 0.4
    with start(fields) as run:
        run.change(pause_s=pause_s)
        until(lambda: run.state.step > 1)
        first, began = run.state.step, time.monotonic()
        until(lambda: run.state.step >= first + 4)
        assert time.monotonic() - began > 3 * pause_s
        run.change(pause_s=0)
        until(lambda: run.state.step > first + 40)
        run.stop()
        events = rest(run)
    finished = [event for event in events if isinstance(event, StepFinished) and 1 < event.step <= first + 4]
    assert max(event.seconds for event in finished) < pause_s


@EVERY_STRATEGY
def test_a_paused_run_stops_at_once(fields: dict[str, Any]) -> None:
    with start(fields) as run:
        run.pause()
        paused(run)
        moved(run, phase=True)
        began = time.monotonic()
        run.stop()
        assert run.wait(PATIENCE)
        assert time.monotonic() - began < 5.0  # half a second; the machine may be busy
        assert run.result().state == "stopped"
    assert run.state.paused is None


@DDP
def test_a_rank_that_is_killed_while_paused_is_reported(fields: dict[str, Any]) -> None:
    with start(fields) as run:
        until(lambda: run.state.step > 1)
        run.pause()
        paused(run)
        os.kill(run.pids[1], signal.SIGKILL)
        assert run.wait(PATIENCE)
    failure = run.state.failure
    assert failure is not None
    assert failure.rank == 1
    assert "killed" in failure.cause.lower() or "SIGKILL" in failure.cause
    assert run.state.status == "failed"


def test_a_run_is_paused_before_it_has_started() -> None:
    with start({}) as run:
        run.pause()
        assert paused(run).step == 0
        assert run.state.step == 0


def test_what_is_asked_of_a_run_twice_or_out_of_turn_does_no_harm() -> None:
    with start(RUNS["ddp-2"]) as run:
        run.resume()
        run.step()  # of a run that is not paused: it pauses
        where = paused(run)
        run.pause()
        run.step()
        run.step()
        until(lambda: run.state.paused and run.state.paused.step == where.step + 2)
        run.resume()
        run.resume()
        until(lambda: run.state.step > where.step + 5)
        run.pause()
        run.resume()
        steps = run.state.step
        until(lambda: run.state.step > steps + 5)
        assert run.state.paused is None


def test_a_pause_asked_for_in_the_last_step_lets_the_run_end() -> None:
    with start(RUNS["ddp-2"], steps=6) as run:
        run.pause()
        where = paused(run)
        for _ in range(where.step, 5):
            moved(run)
        moved(run, phase=True)  # into the last step
        run.resume()
        run.pause()
        assert run.wait(PATIENCE)
        assert run.result().steps == 6
    assert isinstance(rest(run)[-1], RunFinished)


def test_a_pause_asked_for_during_evaluation_comes_with_the_next_step() -> None:
    # Two batches an epoch, with an evaluation after each.
    experiment = lab.Experiment(strategy="ddp", world_size=2, net="mlp", data="shapes", batch_size=1024, epochs=50)
    with lab.start(experiment) as run:
        until(lambda: run.positions() and run.positions()[0].phase == "evaluation")
        run.pause()
        where = paused(run)
        assert gates(run) == {(where.step, "data")}
        evaluations = len(run.state.evaluations)
        assert evaluations >= 1
        run.resume()
        until(lambda: len(run.state.evaluations) > evaluations)
        assert all(isinstance(event, Evaluated) for event in run.state.evaluations)


def test_a_run_that_has_ended_cannot_be_controlled() -> None:
    with start({}, steps=1) as run:
        rest(run)
    for call in (run.pause, run.resume, run.step, lambda: run.change(lr=0.1)):
        with pytest.raises(lab.RunError, match="is over: it is finished"):
            call()
    run.stop()  # stopping what has ended is no error


def test_only_what_an_experiment_would_take_can_be_changed() -> None:
    with start({}) as run:
        with pytest.raises(lab.ExperimentError, match="lr"):
            run.change(lr=-1.0)
        for seconds in (-0.1, 11, float("nan")):
            with pytest.raises(lab.ExperimentError, match="give seconds from 0 to 10"):
                run.change(pause_s=seconds)
        with pytest.raises(lab.RunError, match="no link to change"):
            run.change(link="pcie4")
        run.change()
        with start(RUNS["ddp-2"]) as ranks, pytest.raises(lab.ExperimentError, match="did you mean 'pcie4"):
            ranks.change(link="pcie_4")


def collectives(events: list[Event], first: int, last: int) -> list[Span]:
    """Of the steps from `first` to `last`."""
    return [e for e in events if isinstance(e, Span) and e.kind == "collective" and first <= e.step < last]


def test_an_emulated_link_holds_up_every_bucket_and_says_so() -> None:
    slow = lab.Link(bandwidth_gb_per_s=0.001, latency_us=20_000)
    with start(RUNS["ddp-2"]) as run:
        run.pause()
        first = paused(run).step
        run.change(link=slow)
        for _ in range(3):
            moved(run)
        run.stop()
        events = rest(run)
    [changed] = [event for event in events if isinstance(event, Changed)]
    assert changed.settings == {"link": {"bandwidth_gb_per_s": 0.001, "latency_us": 20_000}}
    held = collectives(events, first, first + 3)
    assert held
    for span in held:
        assert "emulated" in span.name
        # 20 ms, and a microsecond for each byte.
        assert span.duration_ns >= 20e6 + span.bytes * 1e3
    assert all("emulated" not in span.name for span in collectives(events, 0, first))


@pytest.mark.parametrize("kind", ["model_parallel", "data_parallel", "ddp-placed"])
def test_a_simulated_link_carries_the_bytes_of_the_next_step_at_its_own_pace(kind: str) -> None:
    with start(RUNS[kind]) as run:
        run.pause()
        first = paused(run).step
        moved(run)
        run.change(link=lab.Link(bandwidth_gb_per_s=2.0, latency_us=500))
        moved(run)
        moved(run)
        run.stop()
        events = rest(run)
    transfers = [
        event
        for event in events
        if isinstance(event, Span) and event.kind == "transfer" and {event.device[0], event.peer[:1]} == {"v"}
    ]
    slow = [event for event in transfers if event.step in (first + 1, first + 2)]
    assert slow
    assert all(event.duration_ns == 500_000 + round(event.bytes / 2.0) for event in slow)
    assert all(event.duration_ns != 500_000 + round(event.bytes / 2.0) for event in transfers if event.step <= first)


def test_a_rank_is_slowed_down_while_it_trains() -> None:
    with start(RUNS["ddp-2"]) as run:
        run.pause()
        first = paused(run).step
        run.inject("straggle:1:0:30")
        run.inject("straggle:0:0:1")
        moved(run)
        moved(run)
        run.stop()
        events = rest(run)
    assert [event.step for event in events if isinstance(event, Changed)] == [first, first]
    began = {(e.rank, e.step): e.start_ns for e in reversed(collectives(events, first, first + 2))}
    for step in (first, first + 1):
        computing = [
            event.duration_ns
            for event in events
            if isinstance(event, Span) and (event.rank, event.step) == (1, step) and event.kind in ("forward",)
        ]
        assert began[1, step] - began[0, step] > 10 * sum(computing), "it comes late to the all-reduce"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums are taken in another order on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_run_that_failed_is_run_again_with_its_collectives_checked() -> None:
    experiment = lab.Experiment(strategy="ddp", world_size=2, steps=10, faults=["wrong_shape:1:3"])
    with lab.start(experiment) as run:
        assert run.wait(PATIENCE)
        with run.again() as explained:
            assert explained.wait(PATIENCE)
    assert explained.explain
    assert explained.state.group is not None
    assert explained.state.group.explain
    assert explained.state.step >= 1, "it trains until then"
    assert explained.state.failure is not None
    assert explained.state.failure.rank == 1
