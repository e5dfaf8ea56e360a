"""Locked answers that outlive the program they were given in: what is kept of one, and which of several counts.

A lock cannot be taken back: of all that are found of one question, the first in time counts. Who means to ask anew says
so, and from then on only what is locked later counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lab.insight.prediction import Answer, Kind, Prediction

MIME = "application/vnd.parallel-lab.prediction+json"
"""Of an output that carries an `Asked`: front ends have no picture for it, and keep it in the notebook."""
_VERSION = 1
_TEXTS = ("question", "kind", "unit", "cell", "source", "answer")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that has been asked, and its answer once that is locked."""

    question: str
    kind: Kind
    unit: str
    options: tuple[str, ...]
    cell: str = ""
    """The front end's name of the cell that asks; empty where it gives none."""
    source: str = ""
    """A digest of that cell's source."""
    place: int = 0
    """Of several with the same words in one cell, which."""
    began_s: float = 0.0
    """Since the epoch: locks from before it do not count, as somebody asked anew then. 0: all count."""
    answer: Answer | None = None
    locked_s: float = 0.0
    """Since the epoch, when the answer was locked."""

    @property
    def prediction(self) -> Prediction:
        return Prediction(self.kind, self.unit, self.options)

    def with_answer(self, answer: Answer, locked_s: float) -> Asked:
        return replace(self, answer=answer, locked_s=locked_s)

    def asks_the_same(self, other: Asked) -> bool:
        """Whether an answer to one is an answer to the other: same kind, unit and options."""
        return (self.kind, self.unit, self.options) == (other.kind, other.unit, other.options)

    def to_json(self) -> dict[str, Any]:
        return {"version": _VERSION, **asdict(self), "options": list(self.options)}


def from_json(found: Any) -> Asked | None:
    """What `to_json` wrote; None for anything else, such as what another version or somebody's editor wrote."""
    if not isinstance(found, Mapping) or found.get("version") != _VERSION:
        return None
    options, answer, kind = found.get("options"), found.get("answer"), found.get("kind")
    texts = {name: found.get(name) for name in _TEXTS if name != "answer"}
    times = {name: found.get(name) for name in ("began_s", "locked_s")}
    if not isinstance(options, list) or not all(isinstance(each, str) for each in [*options, *texts.values()]):
        return None
    if not all(_finite(each) for each in times.values()) or not isinstance(found.get("place"), int):
        return None
    if kind == "number":
        right = answer is None or _finite(answer)
        answer = float(answer) if right and answer is not None else None
    else:
        right = kind == "choice" and len(options) > 1 and (answer is None or answer in options)
    if not right:
        return None
    return Asked(**texts, options=tuple(options), place=found["place"], **times, answer=answer)  # type: ignore[arg-type]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known of a question from before."""

    lock: Asked | None = None
    """The answer that counts."""
    other: Asked | None = None
    """Where none counts: one to the same words with another unit or other options."""
    began_s: float = 0.0
    """Since when locks count."""


def earlier(now: Asked, found: Iterable[Asked]) -> Earlier:
    """What counts of all that was found of this question, wherever it was kept."""
    found = list(found)
    began_s = max((each.began_s for each in found), default=0.0)
    locks = [each for each in found if each.answer is not None and each.locked_s >= began_s]
    locks.sort(key=lambda each: each.locked_s)
    same = [each for each in locks if each.asks_the_same(now)]
    return Earlier(same[0] if same else None, locks[-1] if locks and not same else None, began_s)
