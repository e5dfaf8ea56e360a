"""Who is to blame: from what every rank said, how it ended, and how far it had come.

When one rank of a group fails, the others fail too, often first and with louder errors: their connections break, or
they wait in vain. The root cause is the rank that had trouble of its own, or did not come to where the others waited.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections import Counter
from dataclasses import dataclass, field

from lab.events import RankFailed
from lab.workers.board import Collective, Position
from lab.workers.failure import from_exit

_COMMUNICATION = re.compile(
    r"closed by peer|reset by peer|Connection refused|Broken pipe|[Tt]imed? ?out waiting|Timed out|gloo|Gloo|NCCL|c10d|"
    r"DistBackendError|DistNetworkError|DistStoreError|wait timeout|recvBytes|sendBytes"
)
"""Signs of an error that came to a rank from its connections to the others."""


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
    """Where ranks were that had to be asked."""
    divergence: RankFailed | None = None
    """What the ranks' checksums showed."""
    timeout_s: float = 20.0
    now_ns: int = field(default_factory=time.monotonic_ns)


def diagnose(evidence: Evidence) -> list[RankFailed]:
    """One failure for every rank that had one, the root cause first, marked as primary."""
    culprit = (
        evidence.divergence
        or _mismatch(evidence)
        or _own_trouble(evidence)
        or _absent(evidence)
        or _first_report(evidence)
    )
    others = [_as_seen(evidence, rank, culprit.rank) for rank in range(evidence.world_size) if rank != culprit.rank]
    return [dataclasses.replace(culprit, primary=True), *(failure for failure in others if failure is not None)]


def is_communication(failure: RankFailed) -> bool:
    """True for an error that came to the rank from its connections to the others."""
    return bool(_COMMUNICATION.search(failure.cause))


def _own_trouble(evidence: Evidence) -> RankFailed | None:
    """The first rank that failed or ended for a reason that lies in itself."""
    for rank, code in evidence.exits.items():
        return _with_position(evidence, from_exit(code, rank))
    for failure in evidence.reports.values():
        if not is_communication(failure):
            return failure
    return None


def _mismatch(evidence: Evidence) -> RankFailed | None:
    """The rank whose collectives differ from the others': another size, or one left out."""
    for number in sorted({c.number for position in evidence.positions.values() for c in position.collectives}):
        brought = {
            rank: collective
            for rank, position in evidence.positions.items()
            for collective in position.collectives
            if collective.number == number
        }
        if len(brought) < 2 or len({(c.step, c.kind, c.bytes) for c in brought.values()}) == 1:
            continue
        rank = _odd_one(evidence, brought)
        odd, usual = (
            brought[rank],
            next(c for other, c in brought.items() if other != rank and _differ(c, brought[rank])),
        )
        if odd.step != usual.step:
            left_out = f"rank {rank} left out an all-reduce in step {min(odd.step, usual.step)}"
            text = f"{left_out}: where the others were at that of step {usual.step}, it was at that of step {odd.step}"
        else:
            text = (
                f"rank {rank} brought {odd.bytes:,} bytes to {_called(odd)}, where the others brought {usual.bytes:,}"
            )
        advice = "Every rank has to call the same collectives in the same order, with tensors of the same size."
        report = evidence.reports.get(rank)
        trace = report.traceback if report else evidence.stacks.get(rank, "")
        return RankFailed(rank, text, True, traceback=trace, advice=advice)
    return None


def _odd_one(evidence: Evidence, brought: dict[int, Collective]) -> int:
    """The rank that differs from most; of two, the one that differs from what it brought in the step before."""
    kinds = Counter((c.step, c.kind, c.bytes) for c in brought.values())
    common, count = kinds.most_common(1)[0]
    odd = [rank for rank, c in brought.items() if (c.step, c.kind, c.bytes) != common]
    if count > len(brought) - count:
        return odd[0]
    for rank, collective in brought.items():
        before = {c.bytes for c in evidence.positions[rank].collectives if c.number < collective.number}
        if before and collective.bytes not in before:
            return rank
    # One that left something out is a step ahead of the others.
    return max(brought, key=lambda rank: brought[rank].step)


def _differ(one: Collective, other: Collective) -> bool:
    return (one.step, one.kind, one.bytes) != (other.step, other.kind, other.bytes)


def _absent(evidence: Evidence) -> RankFailed | None:
    """The rank that did not come to where the others wait for it."""
    here = {rank: position for rank, position in evidence.positions.items() if rank not in evidence.finished}
    unjoined = [rank for rank, position in here.items() if position.phase == "starting"]
    if unjoined and any(position.phase == "joining" for position in here.values()):
        rank = unjoined[0]
        seconds = (evidence.now_ns - min(p.since_ns for p in here.values() if p.phase == "joining")) / 1e9
        text = f"rank {rank} did not join the group; the others waited {seconds:.0f} s for it"
        return _asked(evidence, rank, text)
    furthest = max((position.entered for position in here.values()), default=0)
    late = [rank for rank, position in here.items() if position.entered < furthest and rank not in evidence.reports]
    if not late:
        late = [rank for rank, p in here.items() if not p.waiting_in and rank not in evidence.reports]
    if not late or len(late) == len(here):
        return None
    rank = min(late, key=lambda rank: here[rank].since_ns)
    position = here[rank]
    seconds = (evidence.now_ns - position.since_ns) / 1e9
    text = f"rank {rank} has been in {position.phase} of step {position.step} for {seconds:.0f} s"
    waiting = next((p.waiting_in[0] for r, p in here.items() if r != rank and p.waiting_in), None)
    if waiting is not None:
        text += f", while the others wait for it in {_called(waiting)}"
    return _asked(evidence, rank, text)


def _asked(evidence: Evidence, rank: int, text: str) -> RankFailed:
    return RankFailed(
        rank,
        text,
        True,
        traceback=evidence.stacks.get(rank, ""),
        advice=f"Its stack shows where it is. A slow step may need a longer timeout_s than {evidence.timeout_s:g}.",
    )


def _first_report(evidence: Evidence) -> RankFailed:
    """Nothing points at one rank: the failure that arrived first."""
    for failure in evidence.reports.values():
        return failure
    return RankFailed(0, "the ranks stopped making progress, and none of them says why", True)


def _as_seen(evidence: Evidence, rank: int, culprit: int) -> RankFailed | None:
    """What another rank saw of it."""
    report = evidence.reports.get(rank)
    if report is not None:
        return dataclasses.replace(report, primary=False)
    if rank in evidence.exits:
        return dataclasses.replace(from_exit(evidence.exits[rank], rank), primary=False)
    position = evidence.positions.get(rank)
    if rank in evidence.finished or position is None:
        return None
    where = f"{_called(position.waiting_in[0])}" if position.waiting_in else f"{position.phase} of step {position.step}"
    text = f"rank {rank} was stopped in {where}, because rank {culprit} had failed"
    return RankFailed(rank, text, False, traceback=evidence.stacks.get(rank, ""))


def _with_position(evidence: Evidence, failure: RankFailed) -> RankFailed:
    position = evidence.positions.get(failure.rank)
    if position is None or position.phase == "starting":
        return failure
    return dataclasses.replace(failure, cause=f"{failure.cause}, in {position.phase} of step {position.step}")


def _called(collective: Collective) -> str:
    return f"{collective.kind} {collective.number} (step {collective.step})"
