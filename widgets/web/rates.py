"""How often somebody may ask: some requests at once, and then so many a second."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 10_000


class Rate:
    """Counts for many at the same time; what has not asked for long is forgotten.

    Args:
        at_once: requests of one who has been quiet.
        per_second: what comes back meanwhile.
        now: a monotonic clock in seconds.
    """

    def __init__(self, at_once: float, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Who -> requests left, and when that was."""

    def take(self, who: str) -> bool:
        """Whether the next request of theirs is within the bounds."""
        now = self._now()
        left, since = self._left.pop(who, (self._at_once, now))
        left = min(self._at_once, left + (now - since) * self._per_second)
        self._left[who] = (max(0.0, left - 1), now)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return left >= 1

    def __len__(self) -> int:
        return len(self._left)
