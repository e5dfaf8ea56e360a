"""Every fault in real processes: who is blamed, what is kept of the others, and that nothing is left behind."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab.events import Changed, Span, StepFinished
from lab.faults import KINDS, REGISTRY, FaultKind
from tests.lab.workers.cases import CAUSES, SURVIVED, UNHEARD, WHERE, experiment, names

PATIENCE = 60.0
WELL_BELOW_TIMEOUT = 12.0
"""Seconds in which a run ends, start included, that does not wait for its time-out of 20."""


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    """What the first run of a session waits for, the forkserver and the data, is no part of any time here."""
    with lab.start(experiment("cpu", steps=1)) as run:
        run.result(PATIENCE)


@pytest.fixture(autouse=True)
def nothing_left(no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, thread, descriptor, nor any folder of a run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.iterdir())


def losses(run: lab.Run) -> dict[tuple[int, int], float]:
    return {(event.step, event.rank): event.loss for event in run if isinstance(event, StepFinished)}


CASES = [
    *((kind, where, 2, 1) for where in ("cpu", "placed") for kind in CAUSES),
    *((kind, "vgpu", 2, 1) for kind in ("kill", "hang", "wrong_shape", "nan", "skip")),
    *((kind, "cpu", 2, 0) for kind in ("kill", "hang", "wrong_shape", "never_join", "nan", "skip")),
    *((kind, "placed", 2, 0) for kind in ("exit", "hang", "skip")),
    *((kind, "cpu", 4, 2) for kind in ("kill", "hang", "wrong_shape", "skip")),
    *((kind, "placed", 3, 0) for kind in ("raise", "skip")),
]


@pytest.mark.parametrize(("kind", "where", "world_size", "victim"), CASES)
def test_a_fault_is_blamed_on_its_rank(kind: FaultKind, where: str, world_size: int, victim: int) -> None:
    timeout_s = 2 if kind in UNHEARD else 20
    # By step 40 the rank has sent what it did in the first; what it has not sent when it dies is lost.
    broken = experiment(where, world_size, steps=80, faults=[f"{kind}:{victim}:40"], timeout_s=timeout_s)
    began = time.monotonic()
    with lab.start(broken) as run:
        assert run.wait(PATIENCE)
        assert time.monotonic() - began < WELL_BELOW_TIMEOUT
    failures = run.state.failures
    assert names(run.state.failure, kind, victim), failures
    assert run.state.status == "failed"
    # Every rank has its say, once, and only one is the root cause.
    assert sorted(failure.rank for failure in failures) == list(range(world_size))
    assert [failure.primary for failure in failures] == [True] + [False] * (world_size - 1)
    for failure in failures:
        dead = any(sign in failure.cause for sign in ("SIGKILL", "exit code 0"))
        assert dead or failure.traceback, failure
        assert kind == "never_join" or failure.last_spans, failure
    if kind in UNHEARD:
        assert "injector.py" in failures[0].traceback
    for other in failures[1:]:
        assert f"rank {victim} had failed" in other.cause or "SIGABRT" in other.cause or "do not call" in other.cause


@pytest.mark.parametrize("where", WHERE)
def test_after_a_fault_the_next_run_works(where: str) -> None:
    with lab.start(experiment(where, faults=["kill:0:1"])) as run:
        assert run.wait(PATIENCE)
    with lab.start(experiment(where, steps=2)) as run:
        assert run.result(PATIENCE).steps == 2


@pytest.mark.parametrize("kind", SURVIVED)
@pytest.mark.parametrize("where", WHERE)
def test_a_slow_down_changes_no_number(kind: FaultKind, where: str) -> None:
    with lab.start(experiment(where, steps=5)) as run:
        plain = losses(run)
    with lab.start(experiment(where, steps=5, faults=[f"{kind}:1:1"])) as run:
        assert losses(run) == plain
    assert not run.state.failures


@pytest.mark.parametrize(("fault", "reason"), [("straggle:0:2:4", "computation"), ("delay:0:2:30", "look at its link")])
def test_a_late_rank_is_named_while_the_others_spend_as_long_in_collectives(fault: str, reason: str) -> None:
    with lab.start(experiment("cpu", 3, steps=20, batch_size=96, faults=[fault])) as run:
        assert run.result(PATIENCE).state == "finished"
        late = run.state.straggler
    assert late is not None
    assert late.rank == 0
    assert reason in str(late)
    assert sorted(late.waits_ns) == [1, 2]


@pytest.mark.parametrize("where", ["vgpu", "placed"])
def test_on_virtual_gpus_a_slow_rank_is_slow_on_their_clock_by_the_factor(where: str) -> None:
    """Modelled time: an operation takes three times as long, and the figures repeat to the nanosecond."""

    def computing(faults: list[str]) -> tuple[list[int], lab.Run]:
        with lab.start(experiment(where, steps=8, faults=faults)) as run:
            spans = [event for event in run if isinstance(event, Span) and event.step == 7]
        kinds = ("forward", "backward", "optimizer")
        return [sum(s.duration_ns for s in spans if s.rank == rank and s.kind in kinds) for rank in range(2)], run

    usual, _ = computing([])
    slow, run = computing(["straggle:1:1:3"])
    assert slow[0] == pytest.approx(usual[0], rel=0.01)
    assert slow[1] == pytest.approx(3 * usual[1], rel=0.1)
    late = run.state.straggler
    assert late is not None
    assert (late.rank, list(late.waits_ns)) == (1, [0])


@pytest.mark.parametrize(
    ("fault", "longer_ns"),
    [
        # A ring of two ranks has two hops for each all-reduce: so many latencies, and the bytes once.
        pytest.param("delay:1:1:5", 2 * 5_000_000, id="delay"),
        pytest.param("throttle:1:1:10", None, id="throttle"),
    ],
)
def test_on_virtual_gpus_a_slow_link_slows_the_ring(fault: str, longer_ns: int | None) -> None:
    def collectives(faults: list[str]) -> list[Span]:
        with lab.start(experiment("vgpu", steps=3, faults=faults)) as run:
            spans = [event for event in run if isinstance(event, Span) and event.step == 2]
        return [span for span in spans if span.kind == "collective"]

    usual, slow = collectives([]), collectives([fault])
    assert {span.rank for span in slow} == {0, 1}
    for before, after in zip(usual, slow, strict=True):
        if longer_ns is not None:
            assert after.duration_ns - before.duration_ns == longer_ns
        else:
            assert after.duration_ns == pytest.approx(after.bytes / 10e6 * 1e9, rel=0.2)


def slowed(run: lab.Run, kind: FaultKind) -> bool:
    """Whether a step with the fault in it is to be seen: emulated collectives are called so."""
    last = run.state.timeline_step
    return kind == "straggle" or any("emulated" in span.name for span in run.state.spans.get(last or 0, ()))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "never_join"])
def test_a_fault_while_the_run_goes_on(kind: FaultKind) -> None:
    endless = experiment("cpu", epochs=1000, timeout_s=2 if kind in UNHEARD else 20)
    with lab.start(endless) as run:
        while run.state.step < 3:
            assert not run.wait(0.01)
        amount = {"straggle": ":0:20", "delay": ":0:40", "throttle": ":0:2"}.get(kind, "")
        run.inject(f"{kind}:1{amount}")
        if REGISTRY[kind].ends_run:
            assert run.wait(PATIENCE)
            assert names(run.state.failure, kind, 1), run.state.failures
        else:
            deadline = time.monotonic() + PATIENCE
            # A busy machine makes ranks late as well, before the fault does.
            while not (slowed(run, kind) and (late := run.state.straggler) and late.rank == 1):
                assert not run.wait(0.05)
                assert time.monotonic() < deadline
            run.stop()
            assert run.wait(PATIENCE)
            spans = [event for event in run if isinstance(event, Span) and event.kind == "collective"]
            emulated = {span.rank for span in spans if "emulated" in span.name}
            assert emulated == (set() if kind == "straggle" else {1})
            return
        [changed] = [event for event in run if isinstance(event, Changed)]
    assert changed.step > 3
    assert changed.settings == {"fault": f"{kind}:1:0"}


def test_a_rank_that_has_joined_cannot_be_kept_from_it() -> None:
    with lab.start(experiment("cpu", epochs=1000)) as run:
        with pytest.raises(lab.ExperimentError, match="never_join"):
            run.inject("never_join:1")
        with pytest.raises(lab.ExperimentError, match="ranks are 0 to 1"):
            run.inject("kill:2")


def test_a_failed_run_is_explained_when_it_is_run_again() -> None:
    """Without, gloo ends the process of the rank that gets too much; with it, both are told before anything travels."""
    with lab.start(experiment("cpu", steps=30, faults=["wrong_shape:1:12"])) as run:
        assert run.wait(PATIENCE)
    assert not run.explain
    assert not run.state.group.explain
    assert run.explain_cost == ""
    with run.again() as again:
        assert again.wait(PATIENCE)
    assert again.state.group.explain
    assert names(again.state.failure, "wrong_shape", 1)
    assert "Detected mismatch between collectives on ranks" in again.state.failures[1].cause
    now, before = again.state.step_seconds, run.state.step_seconds
    assert f"a step takes {now * 1e3:.1f} ms, {now / before:.1f} times the {before * 1e3:.1f} ms" in again.explain_cost


def test_a_run_that_went_well_is_not_explained() -> None:
    with lab.start(experiment("cpu", steps=1)) as run:
        run.result(PATIENCE)
    with run.again() as again:
        again.result(PATIENCE)
    assert not again.state.group.explain


def test_a_rank_that_hangs_on_its_way_to_a_pause_is_found() -> None:
    """Nobody waits in a collective: rank 0 is at the gate before forward, and rank 1 never comes there."""
    with lab.start(experiment("cpu", steps=1000, timeout_s=2)) as run:
        run.pause()
        deadline = time.monotonic() + PATIENCE
        while run.state.status != "paused" and time.monotonic() < deadline:
            time.sleep(0.01)
        run.inject("hang:1:0")
        while run.state.paused is not None and run.state.paused.phase != "forward" and time.monotonic() < deadline:
            run.step(phase=True)
            time.sleep(0.2)
        assert run.wait(PATIENCE)
    failure = run.state.failure
    assert failure is not None
    assert failure.rank == 1
    assert "so that the run can pause" in failure.cause
    assert "injector.py" in failure.traceback
