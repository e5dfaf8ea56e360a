"""Which browser tab has which run. A run ends with its tab: on unload, or when the tab has been silent for too long.

A closed tab lets go of its connections, which the server sees at once. A tab whose computer or network is gone does
not: a worker in each tab says every ten seconds that it is there, since browsers slow a page's own timers down to one
a minute while the tab is hidden, and a worker's not. Nothing else is a sign of life: who only sends requests, and never
says that it has drawn what came back, is no tab that somebody looks at.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from lab.errors import ExperimentError, Problem, RunError
from lab.experiment import Experiment
from widgets.figures import human_bytes
from widgets.web import text
from widgets.web.leases import Budget, Lease, Leases, Need
from widgets.web.limits import PERSONAL, Limits
from widgets.web.session import Run, Session

SILENT_SECONDS = 45.0
"""Silence after which a tab counts as gone: with the sweep's pace, less than a minute in all."""
SWEEP_SECONDS = 5.0
MOST_TABS = 1000
"""Open tabs that are known at the same time."""
MOST_TABS_OF_OWNER = 24
"""Of one browser."""
MOST_TABS_OF_ADDRESS = 300
"""Of one address, behind which a whole class may sit; and of one name, which a class may share."""
REMEMBERED = 10_000
"""Tabs that are gone, so that what they asked for before does not bring them back."""

log = logging.getLogger(__name__)


class Sessions:
    """The tabs that are open, by Gradio's session hash. Safe to use from several threads.

    Args:
        start: starts a run, as `lab.start` does.
        now: a monotonic clock in seconds.
        limits: what a run may ask for.
        leases: who may run now.
    """

    def __init__(
        self,
        start: Callable[[Experiment], Run],
        now: Callable[[], float] = time.monotonic,
        limits: Limits = PERSONAL,
        leases: Leases | None = None,
    ) -> None:
        self._start = start
        self._now = now
        self.limits = limits
        self.leases = leases or Leases(Budget(MOST_TABS, MOST_TABS))
        self._sessions: dict[str, Session] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._sweeper: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def full(self) -> bool:
        """Whether no further tab is taken."""
        return len(self._sessions) >= MOST_TABS

    def get(self, key: str) -> Session:
        """The tab's session, made on first use. Of a tab that is gone, one that nobody finds: what it still asks for
        ends at once."""
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                session = Session(key, last_seen=self._now())
                if key not in self._gone:
                    self._sessions[key] = session
            return session

    def claim(self, key: str, owner: str, address: str = "") -> bool:
        """Whether the tab is that browser's; a tab that nobody has is, from now on, unless there is no place left."""
        with self._lock:
            session = self._sessions.get(key)
            if session is None and not self._full_for(owner, address):
                self._gone.pop(key, None)
                session = self._sessions[key] = Session(key, owner, address, last_seen=self._now())
            if session is None or session.owner not in ("", owner):
                return False
            session.owner = owner
            return True

    def full_for(self, owner: str, address: str = "") -> int | None:
        """How many tabs there are where that browser finds no place for another: in all, of its address, or of its
        own; None where it finds one."""
        with self._lock:
            return self._full_for(owner, address)

    def _full_for(self, owner: str, address: str) -> int | None:
        tabs = list(self._sessions.values())
        login = login_of(owner)
        counts = (
            (MOST_TABS, len(tabs)),
            (MOST_TABS_OF_OWNER, sum(each.owner == owner for each in tabs)),
            (MOST_TABS_OF_ADDRESS, sum(each.address == address for each in tabs) if address else 0),
            (MOST_TABS_OF_ADDRESS, sum(login_of(each.owner) == login for each in tabs) if login else 0),
        )
        return next((most for most, count in counts if count >= most), None)

    def known(self, key: str) -> bool:
        """Whether there is such a tab, of whomever."""
        with self._lock:
            return key in self._sessions

    def has(self, key: str, owner: str) -> bool:
        """Whether there is such a tab, and it is that browser's."""
        with self._lock:
            session = self._sessions.get(key)
            return session is not None and session.owner == owner

    def owns(self, token: str, owner: str) -> bool:
        """Whether the tab with that token is that browser's."""
        session = self._with_token(token)
        return session is not None and session.owner == owner

    def find(self, token: str) -> Session | None:
        """The tab with that token."""
        return self._with_token(token)

    def live(self) -> list[Run]:
        """The runs that go on."""
        with self._lock:
            return [session.run for session in self._sessions.values() if session.run and not session.run.done]

    def ask(self, key: str, experiment: Experiment, in_line: bool = True) -> Lease | None:
        """Asks to run an Experiment in place of what the tab runs or waits for, which ends.

        Args:
            in_line: takes a place in line when it cannot run now; otherwise, the answer is None.

        Raises:
            ExperimentError: when it asks for more than this server allows.
        """
        session = self.get(key)
        with session.lock:
            self._let_go(session)
            self._refuse_too_much(experiment)
            need = Need.of(experiment)
            enter = self.leases.enter if in_line else self.leases.try_enter
            lease = enter(need, session.owner)
            with self._lock:
                alive = self._sessions.get(key) is session and not self._closed.is_set()
                session.lease = lease
        if lease is not None and not alive:
            self.leases.release(lease)
        return lease

    def start(self, key: str, experiment: Experiment, lease: Lease | None = None) -> Run:
        """Starts a run in place of the tab's earlier one.

        Args:
            lease: that was granted for it; None asks for one, and waits.

        Raises:
            ExperimentError: when it cannot run, or may not; the earlier run is stopped nevertheless, as asked.
        """
        session = self.get(key)
        if lease is None:
            lease = self.ask(key, experiment)
            while lease is not None and session.lease is lease and not lease.wait(1.0):
                pass
        with session.lock:
            self._refuse_too_much(experiment)
            _end(session.run)
            session.run, session.step, session.stopping, session.time_is_up = None, None, False, False
            try:
                run = self._start(experiment)
            except BaseException:
                session.lease = None
                if lease is not None:
                    self.leases.release(lease)
                raise
            with self._lock:
                # The tab may have been closed, or have asked for something else, while its worker started.
                alive = self._sessions.get(key) is session and session.lease is lease and not self._closed.is_set()
                session.run = run
        threading.Thread(target=self._keep, args=(session, run, lease), name="parallel-lab-keep", daemon=True).start()
        if not alive:
            _end(run)
        return run

    def start_beside(self, experiment: Experiment) -> Run:
        """Starts a run that no tab shows; who asks for it has a lease for it, and closes it.

        Raises:
            ExperimentError: when it cannot run, or may not.
        """
        self._refuse_too_much(experiment)
        return self._start(experiment)

    def _keep(self, session: Session, run: Run, lease: Lease | None) -> None:
        """Stops a run when its time is up, and gives its lease back when its processes are gone."""
        try:
            if session.pause_s:
                with contextlib.suppress(RunError):  # it has ended before it began
                    run.change(pause_s=session.pause_s)
            if not run.wait(self.limits.seconds):
                session.time_is_up = session.run is run
                run.stop()
                run.wait(None)
        finally:
            if lease is not None:
                self.leases.release(lease)

    def _refuse_too_much(self, experiment: Experiment) -> None:
        problems = self.limits.problems(experiment)
        need = Need.of(experiment)
        budget = self.leases.budget
        if not problems and need.ranks > budget.ranks:
            most = text.NO_ROOM_FOR_RANKS.format(ranks=need.ranks, most=budget.ranks)
            problems.append(Problem("world_size", most))
        if not problems and need.memory_bytes > budget.memory_bytes:
            sizes = {"need": human_bytes(need.memory_bytes), "have": human_bytes(int(budget.memory_bytes))}
            problems.append(Problem("run", text.TOO_LARGE.format(**sizes)))
        if problems:
            raise ExperimentError(problems)

    def _let_go(self, session: Session) -> None:
        """Ends what the tab runs, or takes it out of the line. A run's own lease goes back when its processes are
        gone."""
        waiting, session.lease = session.lease, None
        _end(session.run)
        if waiting is not None:
            waiting.leaving = True
            if session.run is None or not waiting.granted:
                self.leases.release(waiting)
        session.run = None

    def _with_token(self, token: str) -> Session | None:
        with self._lock:
            return next((each for each in self._sessions.values() if each.token == token), None)

    def alive(self, token: str) -> None:
        """The tab with that token is there."""
        session = self._with_token(token)
        if session is not None:
            session.last_seen = self._now()

    def drawn(self, token: str, number: int) -> None:
        """The tab with that token has drawn that frame."""
        session = self._with_token(token)
        if session is not None:
            session.last_seen = self._now()
            with session.news:
                session.drawn = max(session.drawn, min(number, session.sent))
                session.news.notify_all()

    def stop(self, key: str) -> None:
        """Asks the tab's run to stop, or leaves the line, and returns at once."""
        session = self.get(key)
        if session.run is None and session.lease is not None:
            waiting, session.lease = session.lease, None
            self.leases.release(waiting)
        if session.run is not None and not session.run.done:
            session.stopping = True
            session.run.stop()

    def pause(self, key: str) -> None:
        """Has the tab's run wait at its next step; or go on, if it waits."""
        self._control(key, lambda run: run.resume() if run.held else run.pause())

    def step(self, key: str) -> None:
        """Lets the tab's run go on by one step; one that does not wait is paused."""
        self._control(key, lambda run: run.step())

    def slow_down(self, key: str, pause_s: float) -> None:
        """Has the tab's runs, this one and those to come, stand still between two steps."""
        session = self.get(key)
        session.pause_s = pause_s
        self._control(key, lambda run: run.change(pause_s=pause_s))

    def inject(self, key: str, fault: str) -> None:
        """Lets something go wrong in the tab's run, now.

        Raises:
            ExperimentError: when there is no such run, or it may not.
        """
        run = self.get(key).run
        if not self.limits.faults:
            raise ExperimentError([Problem("faults", text.NO_FAULTS)])
        if run is None or run.state.status not in ("running", "paused"):
            raise ExperimentError([Problem("faults", text.NO_RUN_TO_BREAK)])
        with contextlib.suppress(RunError):  # it has just ended
            run.inject(fault)

    def _control(self, key: str, act: Callable[[Run], None]) -> None:
        run = self.get(key).run
        if run is None or run.state.status not in ("running", "paused"):
            return
        with contextlib.suppress(RunError):  # it has just ended
            act(run)

    def free(self, key: str) -> None:
        """Forgets a tab and ends its run."""
        with self._lock:
            session = self._sessions.pop(key, None)
            self._gone[key] = None
            while len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)
        if session is not None:
            self._let_go(session)

    def sweep(self) -> int:
        """Frees the tabs that have been silent for too long; returns how many."""
        limit = self._now() - SILENT_SECONDS
        with self._lock:
            silent = [key for key, session in self._sessions.items() if session.last_seen < limit]
        for key in silent:
            self.free(key)
        return len(silent)

    def watch_silence(self) -> None:
        """Sweeps now and then, until `close`."""

        def sweep_until_closed() -> None:
            while not self._closed.wait(SWEEP_SECONDS):
                self.sweep()

        self._sweeper = threading.Thread(target=sweep_until_closed, name="parallel-lab-sessions", daemon=True)
        self._sweeper.start()

    def close(self) -> None:
        """Ends every run."""
        self._closed.set()
        for key in list(self._sessions):
            self.free(key)
        if self._sweeper is not None:
            self._sweeper.join()


def login_of(owner: str) -> str:
    """The name that a browser's owner came in with; empty where everybody may come in."""
    login, slash, _ = owner.rpartition("/")
    return login if slash else ""


def _end(run: Run | None) -> None:
    """Stops a run and lets go of it without making the caller wait for its worker."""
    if run is None:
        return
    run.stop()
    threading.Thread(target=_close, args=(run,), name="parallel-lab-close", daemon=True).start()


def _close(run: Run) -> None:
    try:
        run.close()
    except Exception:  # a run that cannot be closed must not take the page along
        log.exception("could not close run %s", run.id)
