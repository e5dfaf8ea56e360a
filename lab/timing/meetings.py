"""Where ranks meet: a collective moves bytes from when the last rank has come; until then the others wait for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.events import Span
from lab.timing.overlap import COMPUTATION, merged, overlap


@dataclass(frozen=True, slots=True)
class Meeting:
    """One rank's part in a collective."""

    span: Span
    joined_ns: int
    """When the last rank had come, or the span's start where that was this one."""
    last_rank: int

    @property
    def waited_ns(self) -> int:
        """For how long this rank waited for the last one."""
        return self.joined_ns - self.span.start_ns


@dataclass(frozen=True, slots=True)
class Communication:
    """How a device spent the time of its collectives in one step; the three parts do not overlap."""

    hidden_ns: int
    """Beside computation: it cost nothing."""
    exposed_ns: int
    """Bytes were on their way, and the device did nothing else."""
    awaited_ns: int
    """The last rank had not come yet, and the device did nothing else."""


def meetings(spans: Iterable[Span]) -> list[Meeting]:
    """The collectives of one step, of all ranks, in the order given. Ranks call the same collectives in the same order,
    so the n-th of a name is the same one everywhere. Their spans must be on one clock."""
    counts: dict[tuple[int, str], int] = defaultdict(int)
    groups: dict[tuple[str, int], list[Span]] = defaultdict(list)
    ordered: list[tuple[Span, tuple[str, int]]] = []
    for span in sorted((span for span in spans if span.kind == "collective"), key=lambda span: span.start_ns):
        name = span.name.partition(" (")[0]  # a rank adds what is special about its part, such as an emulated link
        key = name, counts[span.rank, name]
        counts[span.rank, name] += 1
        groups[key].append(span)
        ordered.append((span, key))
    found = []
    for span, key in ordered:
        last = groups[key][-1]
        found.append(Meeting(span, min(span.end_ns, max(span.start_ns, last.start_ns)), last.rank))
    return found


def communication(spans: Sequence[Span], met: Sequence[Meeting]) -> dict[str, Communication]:
    """Device -> how its collectives went.

    Args:
        spans: of one step, all ranks.
        met: their `meetings`.
    """
    found = {}
    for device in dict.fromkeys(meeting.span.device for meeting in met):
        own = [meeting for meeting in met if meeting.span.device == device]
        computing = merged(
            (span.start_ns, span.end_ns) for span in spans if span.device == device and span.kind in COMPUTATION
        )
        whole = merged((meeting.span.start_ns, meeting.span.end_ns) for meeting in own)
        moving = merged((meeting.joined_ns, meeting.span.end_ns) for meeting in own)
        hidden = overlap(whole, computing)
        exposed = _length(moving) - overlap(moving, computing)
        found[device] = Communication(hidden, exposed, _length(whole) - hidden - exposed)
    return found


def waited_for(spans: Sequence[Span], met: Sequence[Meeting]) -> dict[int, int]:
    """Rank -> nanoseconds for which other devices could only wait for it; arguments as of `communication`."""
    found: dict[int, int] = defaultdict(int)
    for device in dict.fromkeys(meeting.span.device for meeting in met):
        own = sorted((meeting for meeting in met if meeting.span.device == device), key=lambda each: each.span.start_ns)
        occupied = [
            (span.start_ns, span.end_ns) for span in spans if span.device == device and span.kind in COMPUTATION
        ]
        occupied = merged(occupied + [(meeting.joined_ns, meeting.span.end_ns) for meeting in own])
        told = 0
        for meeting in own:
            gap = max(meeting.span.start_ns, told), meeting.joined_ns
            if gap[1] > gap[0]:
                found[meeting.last_rank] += gap[1] - gap[0] - overlap([gap], occupied)
                told = gap[1]
    return dict(found)


def _length(intervals: Iterable[tuple[int, int]]) -> int:
    return sum(end - start for start, end in intervals)
