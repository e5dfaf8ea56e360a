"""Which browser tab has which run. A run ends with its tab: on unload, or when the tab has been silent for too long."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lab.errors import Problem, RunError
from lab.experiment import Experiment
from lab.state import RunState
from widgets.figures import Theme

if TYPE_CHECKING:
    from widgets.web.frame import Painter

SILENT_SECONDS = 150.0
"""Browsers let timers of hidden tabs run once a minute, so silence must be longer than that."""
SWEEP_SECONDS = 15.0

log = logging.getLogger(__name__)


class Run(Protocol):
    """What the page needs of `lab.Run`."""

    state: RunState
    lock: threading.RLock
    experiment: Experiment

    @property
    def id(self) -> str: ...
    @property
    def done(self) -> bool: ...
    def stop(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def step(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Session:
    """One browser tab."""

    key: str
    run: Run | None = None
    theme: Theme = "light"
    step: int | None = None
    """The step that the timeline shows; None follows the run."""
    stopping: bool = False
    problems: tuple[Problem, ...] = ()
    """Why the last wish could not be granted; shown until the next one."""
    painter: Painter | None = None
    """Draws what the tab shows."""
    last_seen: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    """Names the tab in its notes of what it has drawn."""
    sent: int = 0
    """Frames made for it."""
    drawn: int = 0
    """The last of them that it has drawn."""
    news: threading.Condition = field(default_factory=threading.Condition)

    def wait_drawn(self, seconds: float) -> bool:
        """Waits until the tab has drawn what was sent; a slow or hidden one gets fewer frames, not a queue of them."""
        with self.news:
            return self.news.wait_for(lambda: self.drawn >= self.sent, seconds)


class Sessions:
    """The tabs that are open, by Gradio's session hash. Safe to use from several threads.

    Args:
        start: starts a run, as `lab.start` does.
        now: a monotonic clock in seconds.
    """

    def __init__(self, start: Callable[[Experiment], Run], now: Callable[[], float] = time.monotonic) -> None:
        self._start = start
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._sweeper: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: str) -> Session:
        """The tab's session, made on first use; also a sign of life."""
        with self._lock:
            session = self._sessions.setdefault(key, Session(key))
            session.last_seen = self._now()
            return session

    def live(self) -> list[Run]:
        """The runs that go on."""
        with self._lock:
            return [session.run for session in self._sessions.values() if session.run and not session.run.done]

    def start(self, key: str, experiment: Experiment) -> Run:
        """Starts a run in place of the tab's earlier one.

        Raises:
            ExperimentError: when it cannot run; the earlier run is stopped nevertheless, as asked.
        """
        session = self.get(key)
        with session.lock:
            _end(session.run)
            session.run, session.step, session.stopping = None, None, False
            run = self._start(experiment)
            with self._lock:
                # The tab may have been closed while its worker started.
                alive = self._sessions.get(key) is session and not self._closed.is_set()
                session.run = run
        if not alive:
            _end(run)
        return run

    def drawn(self, token: str, number: int) -> None:
        """The tab with that token has drawn that frame."""
        with self._lock:
            session = next((each for each in self._sessions.values() if each.token == token), None)
        if session is not None:
            with session.news:
                session.drawn = max(session.drawn, number)
                session.news.notify_all()

    def stop(self, key: str) -> None:
        """Asks the tab's run to stop, and returns at once."""
        session = self.get(key)
        if session.run is not None and not session.run.done:
            session.stopping = True
            session.run.stop()

    def pause(self, key: str) -> None:
        """Has the tab's run wait at its next step; or go on, if it waits."""
        self._control(key, lambda run: run.resume() if run.state.status == "paused" else run.pause())

    def step(self, key: str) -> None:
        """Lets the tab's run go on by one step; one that does not wait is paused."""
        self._control(key, lambda run: run.step())

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
        if session is not None:
            _end(session.run)

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
