"""Events that a loop may still come to read, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from lab.events import Event, MemorySampled, MemoryTraced, ParametersSummed, Span, StepFinished

MAX_EVENTS = 100_000
"""Events kept for a loop that may still come to read them."""
READER_SECONDS = 2.0
"""A loop that has taken no event for so long holds up nothing."""
_MINOR = Span | MemorySampled | MemoryTraced | ParametersSummed


class Backlog:
    """A queue between the thread that watches over a run and a loop over its events.

    While a loop keeps reading, the writer waits for it; when nobody reads, old spans give way.

    Args:
        changed: guards the queue, and is notified when it changes.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._events: deque[Event] = deque()
        self._last_read = float("-inf")
        self._dropped = False

    def __len__(self) -> int:
        return len(self._events)

    def add(self, events: Sequence[Event]) -> None:
        """Call it with the condition held."""
        if not self._dropped:
            self._events.extend(events)
        if len(self._events) > MAX_EVENTS and not self._is_read():
            self._make_room()
        self._changed.notify_all()

    def drop(self) -> None:
        """Keeps nothing, now and from now on. Call it with the condition held."""
        self._dropped = True
        self._events.clear()

    def wait_for_reader(self, hurried: Callable[[], bool]) -> None:
        """Waits while a loop is reading and far behind, unless there is a reason to hurry. Call it with the condition
        held."""
        while len(self._events) > MAX_EVENTS and self._is_read() and not hurried():
            self._changed.wait(0.1)

    def take(self, over: Callable[[], bool]) -> Event | None:
        """The next event, as soon as there is one; None when there is none left and it is over."""
        with self._changed:
            self._last_read = time.monotonic()
            self._changed.wait_for(lambda: self._events or over())
            event = self._events.popleft() if self._events else None
            self._last_read = time.monotonic()
        return event

    def _is_read(self) -> bool:
        """True while a loop takes events. One that took none for a while was left, though Python may keep it alive."""
        return time.monotonic() - self._last_read < READER_SECONDS

    def _make_room(self) -> None:
        """Nobody reads: spans and what tells of memory give way first, then the older half of the steps."""
        kept: list[Event] = [event for event in self._events if not isinstance(event, _MINOR)]
        if len(kept) > MAX_EVENTS // 2:
            middle = len(kept) // 2
            kept = [*(event for event in kept[:middle] if not isinstance(event, StepFinished)), *kept[middle:]]
        self._events = deque(kept)
