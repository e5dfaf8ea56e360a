"""Who is to blame: from what every rank said, how it ended, and how far it had come.

When one rank of a group fails, the others fail too, often first and with louder errors: their connections break, or
they wait in vain. The root cause is the rank that had trouble of its own, or did not come to where the others waited.
"""

from __future__ import annotations

import dataclasses
import re

from lab.events import RankFailed
from lab.workers.board import Position
from lab.workers.evidence import Divergence, Evidence, first_difference, found
from lab.workers.failure import from_exit
from lab.workers.mismatch import mismatch

__all__ = ["Divergence", "Evidence", "diagnose", "first_difference", "is_communication", "mismatch"]

_COMMUNICATION = re.compile(
    r"closed by peer|reset by peer|Connection refused|Broken pipe|[Tt]imed? ?out waiting|Timed out|gloo|Gloo|NCCL|c10d|"
    r"DistBackendError|DistNetworkError|DistStoreError|wait timeout|monitoredBarrier|recvBytes|sendBytes"
)
"""Signs of an error that came to a rank from its connections to the others."""
_LOST = re.compile(r"[Cc]onnection (closed|reset) by peer|[Cc]onnection refused|[Bb]roken pipe|[Tt]imed out")


def diagnose(evidence: Evidence) -> list[RankFailed]:
    """One failure for every rank that had one, the root cause first, marked as primary."""
    culprit = (
        mismatch(evidence)
        or _diverged(evidence)
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
    for rank in evidence.exits:
        return _exited(evidence, rank)
    for failure in evidence.reports.values():
        if not is_communication(failure):
            return failure
    return None


def _diverged(evidence: Evidence) -> RankFailed | None:
    divergence = first_difference(evidence)
    if divergence is None:
        return None
    advice = "Ranks stay equal only if each takes part in every all-reduce, and updates with the same settings."
    return found(evidence, divergence.rank, str(divergence), advice)


def _absent(evidence: Evidence) -> RankFailed | None:
    """The rank that did not come to where the others wait for it."""
    here = {rank: position for rank, position in evidence.positions.items() if rank not in evidence.finished}
    if evidence.at_gate and not any(position.waiting_in for position in here.values()):
        return _kept_from_pausing(evidence, {rank: p for rank, p in here.items() if rank not in evidence.at_gate})
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
        text += f", while the others wait for it in {waiting}"
    return _asked(evidence, rank, text)


def _kept_from_pausing(evidence: Evidence, missing: dict[int, Position]) -> RankFailed | None:
    """The rank that did not come to the gate where the others wait for the run to be paused or changed."""
    if not missing:
        return None
    rank = min(missing, key=lambda rank: missing[rank].since_ns)
    seconds, where = (evidence.now_ns - missing[rank].since_ns) / 1e9, _where(missing[rank])
    text = (
        f"rank {rank} has been in {where} for {seconds:.0f} s, while the others wait for it so that the run can pause"
    )
    return _asked(evidence, rank, text)


def _asked(evidence: Evidence, rank: int, text: str) -> RankFailed:
    advice = f"Its stack shows where it is. A slow step may need a longer timeout_s than {evidence.timeout_s:g}."
    return found(evidence, rank, text, advice)


def _first_report(evidence: Evidence) -> RankFailed:
    """Nothing points at one rank: the failure that arrived first."""
    for failure in evidence.reports.values():
        return failure
    return RankFailed(0, "the ranks stopped making progress, and none of them says why", True)


def _as_seen(evidence: Evidence, rank: int, culprit: int) -> RankFailed | None:
    """What another rank saw of it."""
    report = evidence.reports.get(rank)
    position = evidence.positions.get(rank)
    if report is not None:
        cause = report.cause
        if is_communication(report):
            where = f" in {_where(position)}" if position else ""
            cause = f"rank {rank} lost the others{where}{_detail(cause)}, because rank {culprit} had failed"
        return dataclasses.replace(report, cause=cause, primary=False)
    if rank in evidence.exits:
        return dataclasses.replace(_exited(evidence, rank), primary=False)
    if rank in evidence.finished or position is None:
        return None
    text = f"rank {rank} was stopped in {_where(position)}, because rank {culprit} had failed"
    return dataclasses.replace(found(evidence, rank, text, ""), primary=False)


def _detail(cause: str) -> str:
    """The few words of a long error that say how the connection was lost."""
    found = _LOST.search(cause)
    return f": {found[0].lower()}" if found else ""


def _where(position: Position) -> str:
    return str(position.waiting_in[0]) if position.waiting_in else f"{position.phase} of step {position.step}"


def _exited(evidence: Evidence, rank: int) -> RankFailed:
    """The end of a rank without a word: where it was, and what it did last."""
    failure, position = from_exit(evidence.exits[rank], rank), evidence.positions.get(rank)
    cause = failure.cause
    if position is not None and position.phase != "starting":
        cause += f", in {position.phase} of step {position.step}"
    stack, spans = evidence.stacks.get(rank, ""), evidence.last_spans.get(rank, ())
    return dataclasses.replace(failure, cause=cause, traceback=stack, last_spans=spans)
