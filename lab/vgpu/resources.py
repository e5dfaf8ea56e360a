"""What does one thing at a time: a device's compute units, a copy engine, a channel of a link."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_GAPS = 64
"""How many idle times a resource remembers; of more, the earliest are given up, which can only delay an operation."""


class Resource:
    """When it is busy: all the time until `free_ns`, but for the gaps.

    Work is booked in the order in which the host issues it. What has to wait, for an event for instance, leaves a gap
    before it, and what is issued later and is ready sooner goes into the gap.
    """

    __slots__ = ("free_ns", "gaps")

    def __init__(self) -> None:
        self.free_ns = 0
        self.gaps: list[tuple[int, int]] = []
        """Idle times before `free_ns`, in order, from when to when."""

    def fit(self, from_ns: int, duration_ns: int) -> int:
        """When, from `from_ns` on, it is first free for so long."""
        for begin, end in self.gaps:
            start = max(begin, from_ns)
            if start + duration_ns <= end:
                return start
        return max(self.free_ns, from_ns)

    def book(self, start_ns: int, end_ns: int, now_ns: int) -> None:
        """Makes it busy from start to end, where it was free. Nothing will ever be booked before `now_ns`."""
        if start_ns == end_ns:
            return
        if self.gaps:
            self._close_gaps(start_ns, end_ns, now_ns)
        if start_ns >= self.free_ns:
            if start_ns > self.free_ns and start_ns > now_ns:
                self.gaps.append((self.free_ns, start_ns))
                del self.gaps[:-_MOST_GAPS]
            self.free_ns = end_ns

    def _close_gaps(self, start_ns: int, end_ns: int, now_ns: int) -> None:
        """Forgets the gaps that are over, and takes start to end out of the one where it lies."""
        left: list[tuple[int, int]] = []
        for begin, end in self.gaps:
            if end <= now_ns:
                continue
            if begin <= start_ns and end_ns <= end:
                left += [gap for gap in ((begin, start_ns), (end_ns, end)) if gap[0] < gap[1]]
            else:
                left.append((begin, end))
        self.gaps = left


def book_together(resources: Sequence[Resource], from_ns: int, duration_ns: int, now_ns: int) -> int:
    """Books the first time from `from_ns` on at which all of them are free for so long; returns when it begins."""
    start, asked = from_ns, -1
    while start != asked:  # until nobody moves it any more
        asked = start
        for resource in resources:
            start = resource.fit(start, duration_ns)
    for resource in resources:
        resource.book(start, start + duration_ns, now_ns)
    return start
