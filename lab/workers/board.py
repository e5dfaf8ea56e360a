"""The board: where every rank says what it is at, in memory that the parent shares and that outlives a killed rank.

It works like a flight recorder. A rank writes a few integers as it goes along, without a message and without waiting;
when something breaks, the parent reads how far each rank had come, and in which collective it was.
"""

from __future__ import annotations

import mmap
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

Phase: TypeAlias = Literal[
    "starting", "joining", "ready", "data", "forward", "backward", "synchronise", "update", "evaluation", "done"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
_INDEX: dict[Phase, int] = {phase: index for index, phase in enumerate(PHASES)}

KEPT_COLLECTIVES = 64
KEPT_SUMS = 512
"""More steps than a rank takes between two of its reports."""
_HEAD = struct.Struct("=qqqq")  # step, phase, since, collectives entered
_RECORD = struct.Struct("=qqqqqqqqq")  # number, step, kind, bytes, entered, left, phase, bucket, due
_SUM = struct.Struct("=qqq")  # step + 1, checksum, step + 1 again: both are there when all of it is
_NUMBER = struct.Struct("=q")
_ENTERED_AT = 24  # in a head
_LEFT_AT = 40  # in a record
_SUMS_AT = _HEAD.size + KEPT_COLLECTIVES * _RECORD.size
_SIZE = _SUMS_AT + KEPT_SUMS * _SUM.size
KINDS = ("all_reduce", "broadcast", "all_gather")


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective as one rank saw it; times by `time.monotonic_ns`."""

    number: int
    """Counted from 0 in the order in which the rank entered them: the same on all ranks, when all is well."""
    step: int
    kind: str
    bytes: int
    entered_ns: int
    left_ns: int
    """0 while the rank is still in it."""
    phase: Phase = "synchronise"
    """Of the step, in which the rank entered it."""
    bucket: int = -1
    """Which bucket of the step's gradients it averages, from 0 in their order; -1 for none."""
    due: int = 0
    """The bytes of that bucket; 0 for none."""

    def __str__(self) -> str:
        return f"{self.kind} {self.number} (step {self.step})"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a rank has come."""

    step: int
    phase: Phase
    since_ns: int
    """When it came to this phase, by `time.monotonic_ns`."""
    collectives: tuple[Collective, ...]
    """The last ones that it entered, oldest first."""

    @property
    def waiting_in(self) -> tuple[Collective, ...]:
        """The collectives that the rank has entered and not left."""
        return tuple(collective for collective in self.collectives if not collective.left_ns)

    @property
    def moved_ns(self) -> int:
        """When it was last seen to go on: to a phase, or into a collective or out of it."""
        return max(self.since_ns, *(max(each.entered_ns, each.left_ns) for each in self.collectives[-1:]), 0)

    @property
    def entered(self) -> int:
        """How many collectives it has entered."""
        return self.collectives[-1].number + 1 if self.collectives else 0


class Board:
    """A file in memory, with a part for each rank.

    Args:
        path: of the file; the parent makes it, the ranks open it.
    """

    def __init__(self, path: Path, world_size: int, *, create: bool = False) -> None:
        if create:
            path.write_bytes(bytes(_SIZE * world_size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE * world_size)

    def close(self) -> None:
        self._memory.close()

    def read(self, rank: int) -> Position:
        start = rank * _SIZE
        step, phase, since, entered = _HEAD.unpack_from(self._memory, start)
        collectives = []
        for number in range(max(0, entered - KEPT_COLLECTIVES), entered):
            place = start + _HEAD.size + number % KEPT_COLLECTIVES * _RECORD.size
            stored, step_of, kind, size, began, left, of, *rest = _RECORD.unpack_from(self._memory, place)
            if stored == number:
                collectives.append(Collective(number, step_of, KINDS[kind], size, began, left, PHASES[of], *rest))
        return Position(step, PHASES[phase], since, tuple(collectives))

    def sums(self, rank: int) -> dict[int, int]:
        """The rank's last steps, and a checksum of its parameters after each."""
        start = rank * _SIZE + _SUMS_AT
        rows = (_SUM.unpack_from(self._memory, start + place * _SUM.size) for place in range(KEPT_SUMS))
        return {first - 1: checksum for first, checksum, last in rows if first == last > 0}

    def pen(self, rank: int) -> Pen:
        """What the rank writes with."""
        return Pen(self._memory, rank * _SIZE)


class Pen:
    """Writes one rank's part of the board."""

    __slots__ = ("_entered", "_memory", "_phase", "_start", "_step")

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        self._memory = memory
        self._start = start
        self._entered = self._step = self._phase = 0

    def at(self, step: int, phase: Phase) -> None:
        """The rank comes to a phase of a step."""
        self._step, self._phase = step, _INDEX[phase]
        _HEAD.pack_into(self._memory, self._start, step, self._phase, time.monotonic_ns(), self._entered)

    def enter(self, kind: str, size: int, bucket: int = -1, due: int = 0) -> int:
        """The rank enters a collective of `size` bytes; the number under which it leaves it.

        Args:
            bucket: which bucket of gradients it averages.
            due: the bytes of that bucket.
        """
        number = self._entered
        place = self._start + _HEAD.size + number % KEPT_COLLECTIVES * _RECORD.size
        what = (number, self._step, KINDS.index(kind), size, time.monotonic_ns(), 0, self._phase, bucket, due)
        _RECORD.pack_into(self._memory, place, *what)
        self._entered = number + 1
        _NUMBER.pack_into(self._memory, self._start + _ENTERED_AT, self._entered)
        return number

    def leave(self, number: int) -> None:
        """The collective of that number is done."""
        place = self._start + _HEAD.size + number % KEPT_COLLECTIVES * _RECORD.size
        if _NUMBER.unpack_from(self._memory, place)[0] == number:
            _NUMBER.pack_into(self._memory, place + _LEFT_AT, time.monotonic_ns())

    def summed(self, step: int, sums: Sequence[int]) -> None:
        """The checksums of the rank's parameters after a step, as one."""
        place = self._start + _SUMS_AT + step % KEPT_SUMS * _SUM.size
        checksum = zlib.crc32(b"".join(value.to_bytes(8, "little", signed=True) for value in sums))
        _SUM.pack_into(self._memory, place, step + 1, checksum, step + 1)
