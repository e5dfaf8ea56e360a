"""Runs belong to tabs and end with them."""

from __future__ import annotations

import threading

import pytest

from lab.errors import ExperimentError, Problem
from lab.experiment import Experiment
from tests.widgets.fakes import FakeRun
from widgets.web.sessions import SILENT_SECONDS, Sessions

EXPERIMENT = Experiment()


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(FakeRun, clock)


def test_tabs_have_their_own_runs(sessions: Sessions) -> None:
    first, second = sessions.start("a", EXPERIMENT), sessions.start("b", EXPERIMENT)
    sessions.stop("a")
    assert (first.done, second.done) == (True, False)
    assert sessions.live() == [second]


def test_a_new_run_ends_the_earlier_one(sessions: Sessions) -> None:
    first = sessions.start("a", EXPERIMENT)
    second = sessions.start("a", EXPERIMENT)
    assert first.closed.wait(5)
    assert sessions.live() == [second]
    assert sessions.get("a").run is second


def test_leaving_frees_everything(sessions: Sessions) -> None:
    run = sessions.start("a", EXPERIMENT)
    sessions.free("a")
    assert run.closed.wait(5)
    assert len(sessions) == 0
    sessions.free("a")  # twice does no harm


def test_silent_tabs_are_swept(sessions: Sessions, clock: Clock) -> None:
    silent, alive = sessions.start("silent", EXPERIMENT), sessions.start("alive", EXPERIMENT)
    clock.seconds = SILENT_SECONDS - 1
    sessions.get("alive")
    assert sessions.sweep() == 0
    clock.seconds = SILENT_SECONDS + 1
    assert sessions.sweep() == 1
    assert silent.closed.wait(5)
    assert sessions.live() == [alive]


def test_a_tab_that_closes_while_its_run_starts_leaves_no_run() -> None:
    begun, go_on = threading.Event(), threading.Event()
    runs: list[FakeRun] = []

    def slow(experiment: Experiment) -> FakeRun:
        begun.set()
        assert go_on.wait(5)
        runs.append(FakeRun(experiment))
        return runs[0]

    sessions = Sessions(slow)
    starter = threading.Thread(target=sessions.start, args=("a", EXPERIMENT))
    starter.start()
    assert begun.wait(5)
    sessions.free("a")
    go_on.set()
    starter.join()
    assert runs[0].closed.wait(5)
    assert sessions.live() == []


def test_a_refused_start_leaves_the_tab_usable() -> None:
    def refuse(experiment: Experiment) -> FakeRun:
        raise ExperimentError([Problem("devices", "are not here")])

    sessions = Sessions(refuse)
    with pytest.raises(ExperimentError):
        sessions.start("a", EXPERIMENT)
    assert sessions.get("a").run is None
    sessions.stop("a")


def test_a_tab_says_what_it_has_drawn(sessions: Sessions) -> None:
    session, other = sessions.get("a"), sessions.get("b")
    session.sent = other.sent = 3
    sessions.drawn(session.token, 2)
    assert not session.wait_drawn(0)
    sessions.drawn(session.token, 3)
    assert session.wait_drawn(0)
    assert not other.wait_drawn(0)
    sessions.drawn("unknown", 9)


def test_close_ends_every_run_and_the_sweeper(sessions: Sessions) -> None:
    runs = [sessions.start(key, EXPERIMENT) for key in "abc"]
    sessions.watch_silence()
    sessions.close()
    assert all(run.closed.wait(5) for run in runs)
    assert "parallel-lab-sessions" not in [thread.name for thread in threading.enumerate()]
