"""What the parent knows of a group of ranks that failed, for `lab.workers.diagnosis` to make sense of."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from lab.events import RankFailed, Span
from lab.workers.board import Position


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference between the ranks' parameters, as their checksums show it."""

    rank: int
    """Whose parameters are others than most ranks'."""
    step: int
    parameter: str
    """Empty where the checksums of single parameters did not come any more."""

    @property
    def first(self) -> str:
        return f", first in {self.parameter}" if self.parameter else ""

    def __str__(self) -> str:
        return f"rank {self.rank}'s parameters differ from the others' since step {self.step}{self.first}"


@dataclass(slots=True)
class Evidence:
    """All that the parent knows of a group that failed."""

    world_size: int
    reports: dict[int, RankFailed] = field(default_factory=dict)
    """What ranks said of their own failure, in the order of arrival."""
    exits: dict[int, int | None] = field(default_factory=dict)
    """Exit codes of ranks that ended without a word, in the order in which they did."""
    finished: set[int] = field(default_factory=set)
    """Ranks that said that they were done."""
    positions: dict[int, Position] = field(default_factory=dict)
    stacks: dict[int, str] = field(default_factory=dict)
    """Where ranks were that had to be asked, or that a native library ended."""
    sums: dict[int, dict[int, int]] = field(default_factory=dict)
    """Rank -> step -> checksum of all its parameters, as the board has them."""
    divergence: Divergence | None = None
    """What the ranks' checksums showed."""
    last_spans: dict[int, tuple[Span, ...]] = field(default_factory=dict)
    """What ranks did last, as far as they had told."""
    at_gate: frozenset[int] = frozenset()
    """Ranks that were asked to wait before a phase, and do."""
    timeout_s: float = 20.0
    now_ns: int = field(default_factory=time.monotonic_ns)


def first_difference(evidence: Evidence) -> Divergence | None:
    """From when on the ranks' parameters differ, by what they have told, or else by the board."""
    if evidence.divergence is not None:
        return evidence.divergence
    for step in sorted(set[int]().union(*evidence.sums.values())):
        sums = {rank: own[step] for rank, own in sorted(evidence.sums.items()) if step in own}
        if len(set(sums.values())) > 1:
            [(usual, _)] = Counter(sums.values()).most_common(1)
            return Divergence(next(rank for rank, own in sums.items() if own != usual), step, "")
    return None


def found(evidence: Evidence, rank: int, text: str, advice: str) -> RankFailed:
    """A failure that the parent found out, with what the rank itself has to say of it."""
    report = evidence.reports.get(rank)
    trace = report.traceback if report else evidence.stacks.get(rank, "")
    return RankFailed(rank, text, True, trace, advice, evidence.last_spans.get(rank, ()))
