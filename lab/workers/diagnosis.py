"""Who is to blame: from what every rank said, how it ended, and how far it had come.

When one rank of a group fails, the others fail too, often first and with louder errors: their connections break, or
they wait in vain. The root cause is the rank that had trouble of its own, or did not come to where the others waited.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from lab.events import RankFailed, Span
from lab.workers.board import Collective, Position
from lab.workers.failure import from_exit

_COMMUNICATION = re.compile(
    r"closed by peer|reset by peer|Connection refused|Broken pipe|[Tt]imed? ?out waiting|Timed out|gloo|Gloo|NCCL|c10d|"
    r"DistBackendError|DistNetworkError|DistStoreError|wait timeout|monitoredBarrier|recvBytes|sendBytes"
)
"""Signs of an error that came to a rank from its connections to the others."""
_LOST = re.compile(r"[Cc]onnection (closed|reset) by peer|[Cc]onnection refused|[Bb]roken pipe|[Tt]imed out")


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference between the ranks' parameters, as their checksums show it."""

    rank: int
    """Whose parameters are others than most ranks'."""
    step: int
    parameter: str

    def __str__(self) -> str:
        return (
            f"rank {self.rank}'s parameters differ from the others' since step {self.step}, first in {self.parameter}"
        )


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
    divergence: Divergence | None = None
    """What the ranks' checksums showed."""
    last_spans: dict[int, tuple[Span, ...]] = field(default_factory=dict)
    """What ranks did last, as far as they had told."""
    at_gate: frozenset[int] = frozenset()
    """Ranks that were asked to wait before a phase, and do."""
    timeout_s: float = 20.0
    now_ns: int = field(default_factory=time.monotonic_ns)


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
    if evidence.divergence is None:
        return None
    advice = "Ranks stay equal only if each takes part in every all-reduce, and updates with the same settings."
    return _found(evidence, evidence.divergence.rank, str(evidence.divergence), advice)


def mismatch(evidence: Evidence) -> RankFailed | None:
    """The rank whose collectives differ from the others': another size, or one left out."""
    for brought in _meetings(evidence.positions):
        if len({_signature(c) for c in brought.values()}) < 2:
            continue
        rank = _odd_one(evidence, brought)
        odd = brought[rank]
        usual = next(c for other, c in brought.items() if other != rank and _signature(c) != _signature(odd))
        if odd.step > usual.step:
            text = _a_step_ahead(evidence, rank, odd, usual)
        elif _is_ahead(evidence.positions[rank], odd):
            text = f"rank {rank} left out the all-reduce of {usual.bytes:,} bytes in step {odd.step}"
        else:
            what = f"rank {rank} brought {odd.bytes:,} bytes to {_called(odd)}"
            text = f"{what}, where the others brought {usual.bytes:,}"
        advice = "Every rank has to call the same collectives in the same order, with tensors of the same size."
        return _found(evidence, rank, text, advice)
    return None


def _meetings(positions: dict[int, Position]) -> list[dict[int, Collective]]:
    """What the ranks brought to each collective; first to those of which they remember what came before."""
    met: dict[int, dict[int, Collective]] = defaultdict(dict)
    for rank, position in positions.items():
        for collective in position.collectives:
            met[collective.number][rank] = collective

    def forgotten(brought: dict[int, Collective]) -> bool:
        return not all(_remembers(positions[rank], c.step - 1) for rank, c in brought.items())

    return sorted((met[number] for number in sorted(met)), key=forgotten)


def _a_step_ahead(evidence: Evidence, rank: int, odd: Collective, usual: Collective) -> str:
    where = f"where the others were at the all-reduce of step {usual.step}, it was at that of step {odd.step}"
    divergence = evidence.divergence
    if divergence is None:
        return f"rank {rank} left out an all-reduce in step {usual.step}: {where}"
    # The board keeps the last collectives only, so the checksums know better when it began.
    since = f"since then its parameters differ from the others', first in {divergence.parameter}"
    return f"rank {rank} left out an all-reduce in step {divergence.step}; {since}"


def _odd_one(evidence: Evidence, brought: dict[int, Collective]) -> int:
    """The rank that differs from most; of two, the one that does not do as it did in the step before."""
    kinds = Counter(_signature(c) for c in brought.values())
    common, count = kinds.most_common(1)[0]
    if count > len(brought) - count:
        return next(rank for rank, c in brought.items() if _signature(c) != common)
    for strays in (_strays, _is_of_a_new_size):
        odd = [rank for rank, c in brought.items() if strays(evidence.positions[rank], c)]
        if len(odd) == 1:
            return odd[0]
    # One that left something out is ahead of the others.
    return max(brought, key=lambda rank: _place(evidence.positions[rank], brought[rank]))


def _place(position: Position, collective: Collective) -> tuple[int, int]:
    """A collective's step, and its place among the rank's collectives of that step."""
    return collective.step, len(_sequence(position, collective.step, collective.number))


def _strays(position: Position, collective: Collective) -> bool:
    """True where a rank does not call what it called at the same place of the step before."""
    if not _remembers(position, collective.step - 1):
        return False
    now, before = _sequence(position, collective.step, collective.number), _sequence(position, collective.step - 1)
    return now != before[: len(now)]


def _is_ahead(position: Position, collective: Collective) -> bool:
    """True where a rank calls what comes later, by what it called in the step before."""
    if not _remembers(position, collective.step - 1):
        return False
    now, before = _sequence(position, collective.step, collective.number), _sequence(position, collective.step - 1)
    return now[:-1] == before[: len(now) - 1] and now[-1] in before[len(now) :]


def _sequence(position: Position, step: int, until: float = math.inf) -> list[tuple[str, int]]:
    """What a rank called in a step, in order, up to a collective's number."""
    return [(c.kind, c.bytes) for c in position.collectives if c.step == step and c.number <= until]


def _is_of_a_new_size(position: Position, collective: Collective) -> bool:
    before = {c.bytes for c in position.collectives if c.number < collective.number}
    enough = position.collectives[0].number == 0 or _remembers(position, collective.step - 1)
    return enough and bool(before) and collective.bytes not in before


def _remembers(position: Position, step: int) -> bool:
    """True where the board still has all that the rank called in a step: it keeps the last collectives only."""
    oldest = position.collectives[0]
    calls = any(c.step == step for c in position.collectives)
    return calls and (oldest.number == 0 or oldest.step < step)


def _signature(collective: Collective) -> tuple[int, str, int]:
    """What has to be the same on all ranks."""
    return collective.step, collective.kind, collective.bytes


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
        text += f", while the others wait for it in {_called(waiting)}"
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
    return _found(evidence, rank, text, advice)


def _found(evidence: Evidence, rank: int, text: str, advice: str) -> RankFailed:
    """A failure that the parent found out, with what the rank itself has to say of it."""
    report = evidence.reports.get(rank)
    trace = report.traceback if report else evidence.stacks.get(rank, "")
    return RankFailed(rank, text, True, trace, advice, evidence.last_spans.get(rank, ()))


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
    return dataclasses.replace(_found(evidence, rank, text, ""), primary=False)


def _detail(cause: str) -> str:
    """The few words of a long error that say how the connection was lost."""
    found = _LOST.search(cause)
    return f": {found[0].lower()}" if found else ""


def _where(position: Position) -> str:
    return _called(position.waiting_in[0]) if position.waiting_in else f"{position.phase} of step {position.step}"


def _exited(evidence: Evidence, rank: int) -> RankFailed:
    """The end of a rank without a word: where it was, and what it did last."""
    failure, position = from_exit(evidence.exits[rank], rank), evidence.positions.get(rank)
    cause = failure.cause
    if position is not None and position.phase != "starting":
        cause += f", in {position.phase} of step {position.step}"
    stack, spans = evidence.stacks.get(rank, ""), evidence.last_spans.get(rank, ())
    return dataclasses.replace(failure, cause=cause, traceback=stack, last_spans=spans)


def _called(collective: Collective) -> str:
    return f"{collective.kind} {collective.number} (step {collective.step})"
