"""The record of one device's memory: every block with what it is for, and every change."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lab.events import PURPOSES, Purpose

MAX_CHANGES = 400_000
"""Of a device that a ledger keeps; when there are more, the older half is only summed up."""


class MemoryPoint(NamedTuple):
    """What a device's memory is used for from `at_ns` on, in bytes; every purpose is in it."""

    at_ns: int
    """On the virtual clock, by the host: memory is taken when an operation is issued, as on CUDA."""
    by_purpose: dict[Purpose, int]

    @property
    def total(self) -> int:
        return sum(self.by_purpose.values())


class Entry:
    """What a block is for; it may show later than the block comes."""

    __slots__ = ("purpose",)

    def __init__(self, purpose: Purpose = "other") -> None:
        self.purpose: Purpose = purpose


class DeviceRecord:
    """What a device held at the beginning, and every change since."""

    def __init__(self, started_ns: int) -> None:
        self.started_ns = started_ns
        self.entries: dict[int, Entry] = {}
        """id(block) -> its entry, while the block lives."""
        self.base: list[tuple[Entry, int]] = []
        """Bytes at the beginning, by entry."""
        self._changes: list[tuple[int, Entry, int]] = []
        self._folded_peak: MemoryPoint | None = None

    def add(self, at_ns: int, entry: Entry, change_bytes: int) -> None:
        self._changes.append((at_ns, entry, change_bytes))
        if len(self._changes) >= MAX_CHANGES:
            self._fold(MAX_CHANGES // 2)

    def points(self) -> Iterator[MemoryPoint]:
        """The state at the beginning and after every change. The dictionary is one and the same: copy what you keep."""
        sizes: dict[Purpose, int] = dict.fromkeys(PURPOSES, 0)
        for entry, size in self.base:
            sizes[entry.purpose] += size
        yield MemoryPoint(self.started_ns, sizes)
        for at_ns, entry, change in self._changes:
            sizes[entry.purpose] += change
            yield MemoryPoint(at_ns, sizes)

    def peak(self) -> MemoryPoint:
        """The first of the points at which most was held."""
        return self._highest(self.points())

    def _highest(self, points: Iterable[MemoryPoint]) -> MemoryPoint:
        highest = self._folded_peak
        most = -1 if highest is None else highest.total
        for point in points:
            if point.total > most:
                highest, most = MemoryPoint(point.at_ns, dict(point.by_purpose)), point.total
        return highest or MemoryPoint(self.started_ns, dict.fromkeys(PURPOSES, 0))

    def _fold(self, count: int) -> None:
        """Sums up the first changes; of what they made, the peak alone stays, as far as purposes are known by now."""
        self._folded_peak = self._highest(itertools.islice(self.points(), count + 1))
        sizes: dict[Entry, int] = dict(self.base)
        for at_ns, entry, change in self._changes[:count]:
            sizes[entry] = sizes.get(entry, 0) + change
            self.started_ns = at_ns
        self.base = [(entry, size) for entry, size in sizes.items() if size]
        del self._changes[:count]


def thinned(points: Sequence[MemoryPoint], limit: int) -> list[MemoryPoint]:
    """At most `limit` of the points, 3 or more: the first, the last, and the highest of each stretch between them."""
    if len(points) <= limit:
        return list(points)
    between = points[1:-1]
    every = -(-len(between) // (limit - 2))
    highest = [max(between[at : at + every], key=_total) for at in range(0, len(between), every)]
    return [points[0], *highest, points[-1]]


def _total(point: MemoryPoint) -> int:
    return point.total
