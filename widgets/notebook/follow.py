"""Follows runs: one thread for each run that is looked at, however many views look at it.

Front ends deliver clicks on threads of their own while a cell goes on, and the runs' news come on another; so what a
view sends to the browser is decided here, by one thread, at a rate that the browser can follow.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import weakref
from typing import Any, Protocol

from lab.state import RunState

TICK_SECONDS = 0.1
"""Least time between two looks at a run."""
DRAWING_SHARE = 0.5
"""Most of one core that looking may take: on a slow machine views are redrawn more rarely."""

log = logging.getLogger(__name__)


class Run(Protocol):
    """What views need of `lab.Run`."""

    state: RunState
    lock: Any

    @property
    def id(self) -> str: ...
    @property
    def done(self) -> bool: ...
    @property
    def held(self) -> bool: ...
    def stop(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def close(self) -> None: ...


class Viewer(Protocol):
    """Something that shows a run."""

    def refresh(self, everything: bool = False) -> None:
        """Shows what is new, if its time has come; `everything`, whatever the time."""


class Follower:
    """The thread that keeps the views of one run up to date. It ends with the run, or with the last view.

    It holds the run only while it follows it, so that a run that nobody holds any more can go.
    """

    def __init__(self) -> None:
        self._viewers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, run: Run, viewer: Viewer) -> None:
        with self._lock:
            self._viewers.add(viewer)
            if self._thread is None and not run.done:
                name = f"lab-follow-{run.id}"
                self._thread = threading.Thread(target=self._follow, args=(run,), name=name, daemon=True)
                self._thread.start()
                return
        if run.done:
            viewer.refresh(everything=True)

    def discard(self, viewer: Viewer) -> None:
        with self._lock:
            self._viewers.discard(viewer)

    def _follow(self, run: Run) -> None:
        while True:
            last = run.done  # asked before drawing, so that the last drawing has everything
            began = time.monotonic()
            with self._lock:
                viewers = list(self._viewers)
                if last or not viewers:
                    self._thread = None
            for viewer in viewers:
                self._show(run, viewer, last)
            if last or not viewers:
                return
            del viewer, viewers  # a view that is thrown away must not live on in here
            took = time.monotonic() - began
            run.wait(max(TICK_SECONDS, took / DRAWING_SHARE - took))

    def _show(self, run: Run, viewer: Viewer, last: bool) -> None:
        try:
            viewer.refresh(everything=last)
        except Exception:  # one view that cannot draw must not keep the others from it
            log.exception("could not draw run %s", run.id)


_followers: weakref.WeakKeyDictionary[Any, Follower] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def follow(run: Run, viewer: Viewer) -> None:
    """Has the viewer refreshed as long as the run goes on, and once more at its end."""
    with _lock:
        follower = _followers.get(run)
        if follower is None:
            follower = _followers[run] = Follower()
    follower.add(run, viewer)


def unfollow(run: Run, viewer: Viewer) -> None:
    with _lock:
        follower = _followers.get(run)
    if follower is not None:
        follower.discard(viewer)


def live() -> list[Run]:
    """The runs that are looked at and go on."""
    with _lock:
        return [run for run in _followers if not run.done]


def exiting() -> bool:
    """Whether Python is on its way out. What is thrown away then must wait for nobody: other threads are gone, with
    the locks that they held, and a new one would never begin."""
    return sys.is_finalizing() or not threading.main_thread().is_alive()


class ThrownAway:
    """A widget that closes itself when it is thrown away, other than on Python's way out."""

    def __del__(self) -> None:
        if not exiting():
            super().__del__()  # type: ignore[misc]


def end(run: Run | None) -> None:
    """Stops a run and lets go of it without making the caller wait for its workers."""
    if run is None or exiting():
        return  # workers end by themselves when the process that started them is gone
    run.stop()
    threading.Thread(target=run.close, name=f"lab-close-{run.id}", daemon=True).start()
