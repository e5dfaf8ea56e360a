"""A run without workers whose `wait` takes its time, as a real one's does."""

from __future__ import annotations

import time
from typing import Any

from tests.widgets.fakes import FakeRun


class SlowRun(FakeRun):
    def wait(self, timeout: float | None = None) -> bool:
        limit = time.monotonic() + (timeout if timeout is not None else 1e9)
        while not self.done and time.monotonic() < limit:
            time.sleep(0.005)
        return self.done

    def apply(self, events: Any) -> None:
        with self.lock:
            self.state.apply_all(events)


def until(condition: Any, seconds: float = 10) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.01)
