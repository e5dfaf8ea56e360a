"""A run without a worker: it has the state that the test gives it and ends when it is told to."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable

from lab.events import Event, Paused, Resumed
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
        self.pauses_s: list[float] = []
        self.injected: list[str] = []
        self._waits_left = ends
        self._changed = threading.Condition(self.lock)

    def stop(self) -> None:
        self.stops += 1
        self.end("stopped")

    @property
    def held(self) -> bool:
        return self.state.status == "paused"

    def pause(self) -> None:
        self.state.apply(Paused(0, self.state.step, "data"))

    def resume(self) -> None:
        self.state.apply(Resumed(self.state.step))

    def step(self) -> None:
        self.steps += 1

    def change(self, *, pause_s: float) -> None:
        self.pauses_s.append(pause_s)

    def inject(self, fault: str) -> None:
        self.injected.append(fault)

    def tell(self, events: Iterable[Event]) -> None:
        """Something happens in the run."""
        with self._changed:
            self.state.apply_all(events)
            self._changed.notify_all()

    def end(self, state: str = "finished") -> None:
        with self._changed:
            if not self.done:
                self.done = True
                self.tell([factory.finished(state, self.state.step)])

    def wait(self, timeout: float | None = None, until: Callable[[RunState], bool] = lambda state: False) -> bool:
        if timeout is not None and self._waits_left is not None and not until(self.state):
            self._waits_left -= 1
            if self._waits_left <= 0:
                self.end()
            return self.done
        with self._changed:
            self._changed.wait_for(lambda: self.done or until(self.state), timeout)
            return self.done

    def close(self) -> None:
        self.stop()
        self.closed.set()
