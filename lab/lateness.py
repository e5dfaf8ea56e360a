"""Which rank is late, and who waits for it.

Ranks that train together meet in every all-reduce, so all of them seem equally slow. What tells them apart is when each
comes to it: the last one makes the others wait, and spends the least time there itself. The rank with the longest
collectives is therefore not the one to blame.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.errors import listed
from lab.events import Span
from lab.timing.overlap import COMPUTATION, overlap

LEAST_SHARE = 0.1
"""Of a step's duration: a rank that is late by less is not worth a word."""
LEAST_STEPS = 3
"""A rank that was late once or twice may have been unlucky."""
MUCH = 1.25
"""Times the others' computation from which on computing is the reason."""


@dataclass(frozen=True, slots=True)
class Straggler:
    """A rank for which the others wait, in nanoseconds a step on the run's clock; medians over some steps."""

    rank: int
    late_ns: int
    """By how much it comes to collectives later than the next to last."""
    computation: float
    """How many times as long as the others it computes."""
    waits_ns: dict[int, int]
    """Other rank -> how long it does nothing but wait for this one."""
    collective_ns: dict[int, int]
    """Every rank -> how long it spends in collectives, waiting included."""

    def __str__(self) -> str:
        late = f"rank {self.rank} is late by {self.late_ns / 1e6:.1f} ms a step"
        why = f" ({self.computation:.1f}x the others' computation)"
        if self.computation < MUCH:
            why = ", though it computes no longer than the others: look at its link"
        ranks = sorted(self.waits_ns)
        who = f"rank {ranks[0]} waits" if len(ranks) == 1 else f"ranks {listed([str(rank) for rank in ranks])} wait"
        return f"{late}{why}; {who} for it"


@dataclass(slots=True)
class _Step:
    """One step: rank -> nanoseconds."""

    computation: dict[int, int]
    collective: dict[int, int]
    waits: dict[int, dict[int, int]]
    """Late rank -> rank that waits for it -> how long."""
    duration: int


def find(steps: Sequence[Sequence[Span]], world_size: int) -> Straggler | None:
    """The rank that holds up the others, if there is one.

    Args:
        steps: all spans of some steps, of all ranks.
    """
    looked_at = [found for spans in steps if (found := _look_at(spans, world_size)) is not None]
    if len(looked_at) < LEAST_STEPS:
        return None
    late = {
        rank: statistics.median_low(min(step.waits[rank].values(), default=0) for step in looked_at)
        for rank in range(world_size)
    }
    rank = max(late, key=lambda rank: late[rank])
    if late[rank] < LEAST_SHARE * statistics.median(step.duration for step in looked_at):
        return None
    others = [other for other in range(world_size) if other != rank]
    ratios = [
        step.computation[rank] / max(1.0, statistics.median(step.computation[other] for other in others))
        for step in looked_at
    ]
    return Straggler(
        rank,
        round(late[rank]),
        statistics.median(ratios),
        {other: _median(step.waits[rank][other] for step in looked_at) for other in others},
        {each: _median(step.collective[each] for step in looked_at) for each in range(world_size)},
    )


def _median(values: Iterable[int]) -> int:
    return round(statistics.median(values))


def _look_at(spans: Sequence[Span], world_size: int) -> _Step | None:
    """What one step's spans show; None when ranks do not have the same number of collectives."""
    collectives: dict[int, list[tuple[int, Span]]] = defaultdict(list)
    computing: dict[int, list[tuple[int, int]]] = defaultdict(list)
    waited = {(span.device, span.end_ns): span.start_ns for span in spans if _waits_for_rank(span)}
    for span in sorted(spans, key=lambda span: span.start_ns):
        if span.kind == "collective":
            # On the virtual clock a collective starts when the last rank is there, and a wait comes before it.
            entered = waited.get((span.device, span.start_ns), span.start_ns)
            collectives[span.rank].append((entered, span))
        elif span.kind in COMPUTATION:
            computing[span.rank].append((span.start_ns, span.end_ns))
    counts = {len(collectives[rank]) for rank in range(world_size)}
    if len(counts) > 1 or 0 in counts:
        return None
    waits: dict[int, dict[int, int]] = {
        rank: {other: 0 for other in range(world_size) if other != rank} for rank in range(world_size)
    }
    for together in zip(*(collectives[rank] for rank in range(world_size)), strict=True):
        last = max(range(world_size), key=lambda rank: together[rank][0])
        for rank, (entered, span) in enumerate(together):
            if rank != last:
                alone = (entered, min(together[last][0], span.end_ns))
                idle = alone[1] - alone[0] - overlap([alone], computing[rank])
                waits[last][rank] += max(0, idle)
    computation = {rank: sum(end - start for start, end in computing[rank]) for rank in range(world_size)}
    spent = {rank: sum(span.end_ns - entered for entered, span in collectives[rank]) for rank in range(world_size)}
    duration = max(span.end_ns for span in spans) - min(span.start_ns for span in spans if span.kind in COMPUTATION)
    return _Step(computation, spent, waits, duration)


def _waits_for_rank(span: Span) -> bool:
    return span.kind == "wait" and span.name.startswith("rank ") and span.name.removeprefix("rank ").isdecimal()
