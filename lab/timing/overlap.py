"""How much of the communication went on beside computation: hidden, it costs nothing; exposed, the device waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from lab.events import SpanKind

COMPUTATION: tuple[SpanKind, ...] = ("data", "forward", "backward", "optimizer")

Interval: TypeAlias = tuple[int, int]


def hidden_ns(rows: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Device -> nanoseconds in which a collective and a computation of that device went on together.

    Args:
        rows: spans as rows (`recorder.SpanRow`) of one step.
    """
    collectives: dict[str, list[Interval]] = defaultdict(list)
    computations: dict[str, list[Interval]] = defaultdict(list)
    for row in rows:
        if row[3] == "collective":
            collectives[row[0]].append((row[5], row[6]))
    if not collectives:
        return {}
    for row in rows:
        if row[3] in COMPUTATION and row[0] in collectives:
            computations[row[0]].append((row[5], row[6]))
    return {device: overlap(intervals, computations[device]) for device, intervals in collectives.items()}


def overlap(intervals: Iterable[Interval], others: Iterable[Interval]) -> int:
    """The time that lies both in some interval and in some other one."""
    shared, others = 0, merged(others)
    for start, end in merged(intervals):
        for other_start, other_end in others:
            if other_start >= end:
                break
            if other_end > start:
                shared += min(end, other_end) - max(start, other_start)
    return shared


def outside(interval: Interval, others: Iterable[Interval]) -> list[Interval]:
    """The parts of an interval that lie in none of the others, in order."""
    start, end = interval
    parts: list[Interval] = []
    for other_start, other_end in merged(others):
        if other_start > start:
            parts.append((start, min(other_start, end)))
        start = max(start, other_end)
        if start >= end:
            break
    else:
        parts.append((start, end))
    return [(begin, finish) for begin, finish in parts if finish > begin]


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time as intervals that do not overlap, in order."""
    result: list[Interval] = []
    for start, end in sorted(intervals):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result
