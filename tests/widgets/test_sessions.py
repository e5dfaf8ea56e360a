"""Runs belong to tabs and end with them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from lab.errors import ExperimentError, Problem
from lab.experiment import Experiment
from tests.widgets.fakes import FakeRun
from widgets.web.frame import Painter
from widgets.web.leases import Budget, Leases
from widgets.web.limits import Limits
from widgets.web.sessions import SILENT_SECONDS, SWEEP_SECONDS, Sessions

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
    sessions.alive(sessions.get("alive").token)
    assert sessions.sweep() == 0
    clock.seconds = SILENT_SECONDS + 1
    assert sessions.sweep() == 1
    assert silent.closed.wait(5)
    assert sessions.live() == [alive]


def test_only_a_sign_of_life_keeps_a_tab(sessions: Sessions, clock: Clock) -> None:
    """Neither a look at it nor a request of it."""
    sessions.claim("a", "ada")
    for _ in range(int(SILENT_SECONDS) + 2):
        clock.seconds += 1
        sessions.get("a")
        sessions.claim("a", "ada")
        sessions.slow_down("a", 0.0)
    assert sessions.sweep() == 1


def test_a_tab_that_is_gone_does_not_come_back_by_itself(sessions: Sessions) -> None:
    """Events of it may be on their way when it is closed."""
    sessions.claim("a", "ada")
    sessions.free("a")
    run = sessions.start("a", EXPERIMENT)
    assert run.closed.wait(5)
    assert (len(sessions), sessions.live()) == (0, [])
    assert sessions.claim("a", "ada")
    assert not sessions.start("a", EXPERIMENT).done


def test_a_browser_has_so_many_tabs_and_no_more(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widgets.web.sessions.MOST_TABS_OF_OWNER", 2)
    monkeypatch.setattr("widgets.web.sessions.MOST_TABS_OF_ADDRESS", 4)
    taken = [sessions.claim(f"a{number}", "ada/1", "192.0.2.1") for number in range(4)]
    assert taken == [True, True, False, False]
    assert sessions.full_for("ada/1", "192.0.2.1") == 2
    # Other browsers at the same address, as far as the address has room.
    taken = [sessions.claim(f"b{number}", f"bob/{number}", "192.0.2.1") for number in range(4)]
    assert taken == [True, True, False, False]
    # The same name with one new cookie after the other, from elsewhere.
    taken = [sessions.claim(f"c{number}", f"ada/{number + 2}", f"192.0.2.{number + 2}") for number in range(4)]
    assert taken == [True, True, False, False]
    assert sessions.claim("d", "eve/1", "198.51.100.1")
    assert sessions.claim("a0", "ada/1", "192.0.2.1")  # what one has, one keeps
    sessions.free("a1")
    assert sessions.claim("a9", "ada/1", "192.0.2.1")


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
    sessions.drawn(session.token, 10**9)
    assert session.drawn == 3  # no more than was sent: later frames would leave out what the tab lacks


def test_close_ends_every_run_and_the_sweeper(sessions: Sessions) -> None:
    runs = [sessions.start(key, EXPERIMENT) for key in "abc"]
    sessions.watch_silence()
    sessions.close()
    assert all(run.closed.wait(5) for run in runs)
    assert "parallel-lab-sessions" not in [thread.name for thread in threading.enumerate()]


def test_a_run_ends_when_its_time_is_up(clock: Clock) -> None:
    sessions = Sessions(FakeRun, clock, limits=Limits(seconds=0.05), leases=Leases(Budget(1, 4)))
    run = sessions.start("a", EXPERIMENT)
    assert run.wait(5)
    assert sessions.get("a").time_is_up
    until(lambda: sessions.leases.count() == (0, 0))
    frame = json.loads(Painter("a", EXPERIMENT, run.state).paint(sessions.get("a")))
    assert frame["status"]["text"].startswith("The run was stopped after")


def test_a_lease_ends_with_its_run_and_the_next_in_line_gets_it() -> None:
    sessions = Sessions(FakeRun, leases=Leases(Budget(1, 4)))
    run = sessions.start("a", EXPERIMENT)
    lease = sessions.ask("b", EXPERIMENT)
    assert lease is not None
    assert not lease.granted
    assert sessions.ask("c", EXPERIMENT, in_line=False) is None
    run.stop()
    assert lease.wait(5)
    sessions.start("b", EXPERIMENT, lease)
    sessions.free("b")
    until(lambda: sessions.leases.count() == (0, 0))


def test_a_tab_that_closes_leaves_the_line() -> None:
    sessions = Sessions(FakeRun, leases=Leases(Budget(1, 4)))
    sessions.start("a", EXPERIMENT)
    sessions.ask("b", EXPERIMENT)
    waiting = sessions.ask("c", EXPERIMENT)
    assert waiting is not None
    assert sessions.leases.place(waiting) == 2
    sessions.free("b")
    assert sessions.leases.place(waiting) == 1
    sessions.stop("c")
    assert sessions.leases.count() == (1, 0)


def test_a_failed_start_gives_its_lease_back() -> None:
    def broken(experiment: Experiment) -> FakeRun:
        raise OSError("no process can be started")

    sessions = Sessions(broken, leases=Leases(Budget(1, 4)))
    with pytest.raises(OSError, match="no process"):
        sessions.start("a", EXPERIMENT)
    assert sessions.leases.count() == (0, 0)


def test_what_this_server_cannot_hold_is_refused() -> None:
    sessions = Sessions(FakeRun, leases=Leases(Budget(1, 2, 10**9)))
    with pytest.raises(ExperimentError, match=r"needs about 11\.\d GB of memory, and this server has 1\.0 GB"):
        sessions.ask("a", Experiment(net="resnet18", batch_size=4096))
    with pytest.raises(ExperimentError, match="3 worker processes are more than this server has room for, 2"):
        sessions.ask("a", Experiment(strategy="ddp", world_size=3, batch_size=63))
    assert sessions.leases.count() == (0, 0)


def test_a_tab_belongs_to_the_browser_that_was_first(monkeypatch: pytest.MonkeyPatch, sessions: Sessions) -> None:
    assert sessions.claim("a", "ada")
    assert sessions.claim("a", "ada")
    assert not sessions.claim("a", "grace")
    token = sessions.get("a").token
    assert sessions.owns(token, "ada")
    assert not sessions.owns(token, "grace")
    monkeypatch.setattr("widgets.web.sessions.MOST_TABS", 1)
    assert sessions.full
    assert not sessions.claim("b", "grace")
    assert len(sessions) == 1


def test_a_tab_that_says_it_is_there_stays(sessions: Sessions, clock: Clock) -> None:
    sessions.start("a", EXPERIMENT)
    token = sessions.get("a").token
    for _ in range(10):
        clock.seconds += 10
        sessions.alive(token)
        assert sessions.sweep() == 0
    # Silence, and the sweep's pace, end it within a minute.
    assert SILENT_SECONDS + SWEEP_SECONDS <= 60
    clock.seconds += SILENT_SECONDS + 1
    assert sessions.sweep() == 1


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
