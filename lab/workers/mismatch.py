"""Ranks that do not call the same collectives: who left one out, or brought something else than the others.

What every rank called is on the board. All-reduces are told by their numbers alone, so a rank that leaves one out goes
on unharmed: what it brings to the next is added up with what the others still bring to this one. Only its steps are
then others than theirs.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from lab.events import RankFailed
from lab.workers.board import Collective, Position
from lab.workers.evidence import Evidence, first_difference, found

_CALLS = "Every rank has to call the same collectives in the same order, with tensors of the same size."


def mismatch(evidence: Evidence) -> RankFailed | None:
    """The rank whose collectives differ from the others': another size, or one left out."""
    left_out = _left_out(evidence)
    if left_out is not None:
        return left_out
    for brought in _meetings(evidence.positions):
        if len({_signature(c) for c in brought.values()}) < 2:
            continue
        rank = _odd_one(evidence, brought)
        odd = brought[rank]
        other, usual = next((r, c) for r, c in brought.items() if r != rank and _signature(c) != _signature(odd))
        own = evidence.positions[rank]
        if _skips(own, odd) or _is_ahead(own, odd) or _runs_before(evidence, rank, other, odd):
            text = f"rank {rank} left out the {_kind(usual)} of {usual.bytes:,} bytes in step {odd.step}"
        else:
            what = f"rank {rank} brought {odd.bytes:,} bytes to {odd}"
            text = f"{what}, where the others brought {usual.bytes:,}"
        return found(evidence, rank, text, _CALLS)
    return None


def _left_out(evidence: Evidence) -> RankFailed | None:
    """The rank that has come to a later stage than the others with fewer collectives: to the next step, say, without
    the all-reduce of this one, where the others still wait for it or have taken what it brought later."""
    late = [
        (collective.number, _stage(collective), rank, collective)
        for rank, position in evidence.positions.items()
        for other, theirs in evidence.positions.items()
        if other != rank
        for collective in theirs.collectives
        if _stage(collective) < _stage_at(position, collective.number)
    ]
    if not late:
        return None
    number, _, rank, missed = min(late, key=lambda each: (each[0], each[1], each[2]))
    own = evidence.positions[rank]
    later = next((c for c in own.collectives if c.number == number), None)
    divergence = first_difference(evidence)
    # What the board has forgotten, the checksums know.
    exact = number == 0 or all(any(c.number == number - 1 for c in p.collectives) for p in evidence.positions.values())
    if divergence is not None and (divergence.step == missed.step or not exact):
        since = f"since then its parameters differ from the others'{divergence.first}"
        return found(evidence, rank, f"rank {rank} left out an all-reduce in step {divergence.step}; {since}", _CALLS)
    where = f"where the others were at the {_kind(missed)} of step {missed.step}, it was "
    if later is None:
        where += f"in {own.phase} of step {own.step}"
    elif _stage(later)[1] == EVALUATING:
        where += f"at that of the evaluation after step {later.step}"
    else:
        where += f"at that of step {later.step}"
    text = f"rank {rank} left out an {_kind(missed)} in step {missed.step}{'' if exact else ' or before'}: {where}"
    return found(evidence, rank, text, _CALLS)


BEFORE, TRAINING, EVALUATING = range(3)
"""The parts of a step, of which one has to be over on all ranks before any of them comes to a collective of the next:
the start of the run, which belongs to step 0, the training, and the evaluation after it."""
_PARTS = {"starting": BEFORE, "joining": BEFORE, "ready": BEFORE, "evaluation": EVALUATING, "done": EVALUATING}


def _stage(place: Collective | Position) -> tuple[int, int]:
    """How far a rank was, or is: the step, and which part of it."""
    return place.step, _PARTS.get(place.phase, TRAINING)


def _stage_at(position: Position, number: int) -> tuple[int, int]:
    """How far a rank was when it came to its collective of this number, or is while it has not come to it."""
    if number >= position.entered:
        return _stage(position)
    return next((_stage(c) for c in position.collectives if c.number == number), (-1, BEFORE))


def _meetings(positions: dict[int, Position]) -> list[dict[int, Collective]]:
    """What the ranks brought to each collective; first to those of which they remember what came before."""
    met: dict[int, dict[int, Collective]] = defaultdict(dict)
    for rank, position in positions.items():
        for collective in position.collectives:
            met[collective.number][rank] = collective

    def forgotten(brought: dict[int, Collective]) -> bool:
        return not all(_remembers(positions[rank], c.step - 1) for rank, c in brought.items())

    return sorted((met[number] for number in sorted(met)), key=forgotten)


def _odd_one(evidence: Evidence, brought: dict[int, Collective]) -> int:
    """The rank that differs from most; of two, the one that leaves out a bucket or does not bring what is in it, or
    that does not do as it did in the step before, or that brings what the other brings later."""
    kinds = Counter(_signature(c) for c in brought.values())
    common, count = kinds.most_common(1)[0]
    if count > len(brought) - count:
        return next(rank for rank, c in brought.items() if _signature(c) != common)
    for strays in (_skips, _brings_what_is_not_due, _strays, _is_of_a_new_size):
        odd = [rank for rank, c in brought.items() if strays(evidence.positions[rank], c)]
        if len(odd) == 1:
            return odd[0]
    ahead = [
        rank for rank in brought if any(_runs_before(evidence, rank, o, brought[rank]) for o in brought if o != rank)
    ]
    if len(ahead) == 1:
        return ahead[0]
    return max(brought, key=lambda rank: _place(evidence.positions[rank], brought[rank]))


def _runs_before(evidence: Evidence, rank: int, other: int, collective: Collective) -> bool:
    """True where what a rank calls comes later in the same step of another rank."""
    stage = _stage(collective)
    now = _sequence(evidence.positions[rank], stage, collective.number)
    theirs = _sequence(evidence.positions[other], stage)
    return now[:-1] == theirs[: len(now) - 1] and now[-1] in theirs[len(now) :]


def _skips(position: Position, collective: Collective) -> bool:
    """True where a rank averages a later bucket of its gradients than it would be the turn of."""
    before = [c for c in position.collectives if _stage(c) == _stage(collective) and c.number < collective.number]
    return _remembers_start(position, collective) and collective.bucket > sum(c.bucket >= 0 for c in before)


def _remembers_start(position: Position, collective: Collective) -> bool:
    """True where the board still has all that the rank called in this part of the step."""
    oldest = position.collectives[0]
    return oldest.number == 0 or _stage(oldest) < _stage(collective)


def _brings_what_is_not_due(position: Position, collective: Collective) -> bool:
    """True where a rank brings more or less than is in the bucket."""
    return collective.bucket >= 0 and collective.bytes != collective.due


def _place(position: Position, collective: Collective) -> tuple[int, int]:
    """A collective's step, and its place among the rank's collectives of that step."""
    return collective.step, len(_sequence(position, _stage(collective), collective.number))


def _strays(position: Position, collective: Collective) -> bool:
    """True where a rank does not call what it called at the same place of the step before."""
    if not _remembers(position, collective.step - 1):
        return False
    step, part = _stage(collective)
    now, before = _sequence(position, (step, part), collective.number), _sequence(position, (step - 1, part))
    return now != before[: len(now)]


def _is_ahead(position: Position, collective: Collective) -> bool:
    """True where a rank calls what comes later, by what it called in the step before."""
    if not _remembers(position, collective.step - 1):
        return False
    step, part = _stage(collective)
    now, before = _sequence(position, (step, part), collective.number), _sequence(position, (step - 1, part))
    return now[:-1] == before[: len(now) - 1] and now[-1] in before[len(now) :]


def _sequence(position: Position, stage: tuple[int, int], until: float = math.inf) -> list[tuple[str, int]]:
    """What a rank called in a part of a step, in order, up to a collective's number."""
    return [(c.kind, c.bytes) for c in position.collectives if _stage(c) == stage and c.number <= until]


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


def _kind(collective: Collective) -> str:
    return collective.kind.replace("_", "-")
