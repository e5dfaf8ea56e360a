"""A run without a worker: it has the state that the test gives it and ends when it is told to."""

from __future__ import annotations

import itertools
import threading

from lab.events import Paused, Resumed
from lab.experiment import Experiment
from lab.state import RunState
from tests.widgets import events_factory as factory

_ids = itertools.count()


class FakeRun:
    """What the page needs of `lab.Run`; `ends` after that many waits by itself."""

    def __init__(self, experiment: Experiment, state: RunState | None = None, ends: int | None = None) -> None:
        self.id = f"fake-{next(_ids)}"
        self.experiment = experiment
        self.state = state if state is not None else factory.folded(factory.events(steps=5))
        self.lock = threading.RLock()
        self.done = False
        self.closed = threading.Event()
        self.stops = 0
        self.steps = 0
        self._waits_left = ends
        self._over = threading.Event()

    def stop(self) -> None:
        self.stops += 1
        self.end("stopped")

    def pause(self) -> None:
        self.state.apply(Paused(0, self.state.step, "data"))

    def resume(self) -> None:
        self.state.apply(Resumed(self.state.step))

    def step(self) -> None:
        self.steps += 1

    def end(self, state: str = "finished") -> None:
        if not self.done:
            self.state.apply(factory.finished(state, self.state.step))
            self.done = True
            self._over.set()

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None or self._waits_left is None:
            return self._over.wait(timeout)
        self._waits_left -= 1
        if self._waits_left <= 0:
            self.end()
        return self.done

    def close(self) -> None:
        self.stop()
        self.closed.set()
