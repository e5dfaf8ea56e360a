"""What the devices did in the last steps, and why they did nothing for the rest of the time."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.events import Span
from lab.state import MAX_SPANS_PER_STEP, RunState
from lab.timing.overlap import COMPUTATION, Interval, merged

STEPS = 12
"""Looked at, at most: enough for a mean, and few enough to be read while the run goes on."""
LEAST_STEPS = 3
"""With fewer finished steps, warming up is most of what a clock tells."""
MOST_SPANS = 4_000
"""Of them: a few hundredths of a second, in which the run cannot report."""


@dataclass(frozen=True, slots=True)
class Window:
    """The spans of some steps in a row, of all devices, from the end of the step before them to their own."""

    spans: tuple[Span, ...]
    steps: int
    start_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        return self.end_ns - self.start_ns

    def cut(self, span: Span) -> Interval:
        """The part of the span that lies in the window; empty, at its start, where none does."""
        start, end = max(self.start_ns, span.start_ns), min(self.end_ns, span.end_ns)
        return start, max(start, end)


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """Shares of the window; they add up to 1."""

    computing: float
    moving: float
    """Copies from and to the device, and collectives, while it does not compute."""
    on_device: float
    """It does nothing while another device computes."""
    on_link: float
    """It does nothing while no device computes and something travels between others."""
    on_host: float
    """Nothing goes on anywhere: the host prepares a batch or issues operations."""
    blocker: str
    """The device that computes for the longest meanwhile; empty when none does."""
    layer: str
    """What that does then, for the longest."""

    @property
    def waiting(self) -> float:
        return self.on_device + self.on_link + self.on_host


def last_steps(state: RunState) -> Window | None:
    """The last finished steps that are here as a whole; None when there are too few."""
    steps: list[int] = []
    count = 0
    for step in sorted((step for step in state.spans if step < state.step), reverse=True):
        spans = state.spans[step]
        count += len(spans)
        lacking = len({span.rank for span in spans}) < state.world_size or len(spans) >= MAX_SPANS_PER_STEP
        if lacking or (steps and step != steps[-1] - 1) or len(steps) > STEPS:
            break
        if count > MOST_SPANS and len(steps) >= LEAST_STEPS:
            break
        steps.append(step)
    if len(steps) < LEAST_STEPS:
        return None
    # The first of them gives the window its beginning: it may have been the run's first, which warms up.
    *last, before = steps
    start = max(span.end_ns for span in state.spans[before])
    kept = tuple(span for step in last for span in state.spans[step] if span.kind != "wait")
    end = max((span.end_ns for span in kept), default=start)
    return Window(kept, len(last), start, end) if end > start else None


def times(window: Window, devices: Sequence[str]) -> dict[str, DeviceTime]:
    """Device -> how it spent the window."""
    working: dict[str, list[Span]] = defaultdict(list)
    moving: dict[str, list[Interval]] = defaultdict(list)
    for span in window.spans:
        if span.kind in COMPUTATION:
            working[span.device].append(span)
        else:
            for end in {span.device, span.peer}:
                moving[end].append(window.cut(span))
    computing = {device: merged(map(window.cut, working[device])) for device in devices}
    anywhere = merged(interval for intervals in moving.values() for interval in intervals)
    found = {}
    for device in devices:
        occupied = merged([*computing[device], *moving[device]])
        free = _gaps(window, occupied)
        others = [other for other in devices if other != device]
        theirs = merged(interval for other in others for interval in computing[other])
        blocked = {other: shared_ns(free, computing[other]) for other in others}
        blocker = max(others, key=lambda other: blocked[other], default="")
        blocker = blocker if blocked.get(blocker) else ""
        parts = (
            length_ns(computing[device]),
            length_ns(occupied) - length_ns(computing[device]),
            shared_ns(free, theirs),
            shared_ns(_gaps(window, merged([*occupied, *theirs])), anywhere),
        )
        computed, moved, on_device, on_link = (part / window.length_ns for part in parts)
        on_host = max(0.0, 1 - computed - moved - on_device - on_link)
        layer = _longest(window, working[blocker], free) if blocker else ""
        found[device] = DeviceTime(computed, moved, on_device, on_link, on_host, blocker, layer)
    return found


def _longest(window: Window, spans: Iterable[Span], free: list[Interval]) -> str:
    """The name of the spans that fill most of the intervals."""
    starts = [start for start, _ in free]
    spent: dict[str, int] = defaultdict(int)
    for span in spans:
        start, end = window.cut(span)
        first = max(0, bisect_right(starts, start) - 1)
        for free_start, free_end in free[first:]:
            if free_start >= end:
                break
            spent[span.name] += max(0, min(end, free_end) - max(start, free_start))
    return max(spent, key=lambda name: spent[name])


def shared_ns(intervals: Sequence[Interval], others: Sequence[Interval]) -> int:
    """The time in both; each in order and without overlaps. One pass, as there may be thousands."""
    total = at = other = 0
    while at < len(intervals) and other < len(others):
        (start, end), (other_start, other_end) = intervals[at], others[other]
        total += max(0, min(end, other_end) - max(start, other_start))
        if end <= other_end:
            at += 1
        else:
            other += 1
    return total


def length_ns(intervals: Iterable[Interval]) -> int:
    return sum(end - start for start, end in intervals)


def _gaps(window: Window, occupied: Iterable[Interval]) -> list[Interval]:
    """The parts of the window that lie in none of the intervals, which are in order and do not overlap."""
    gaps, at = [], window.start_ns
    for start, end in occupied:
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    if at < window.end_ns:
        gaps.append((at, window.end_ns))
    return gaps
