"""Predictions in words: the questions, the answers, and how far they are off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.errors import LabError
from lab.insight import amounts
from lab.insight.prediction import Answer, Prediction
from lab.insight.questions import SAME, Measurement, Question
from widgets.figures._units import significant
from widgets.findings import percent, words

LARGE = 1_000
"""From here on numbers are shown with all their digits."""
MOST_SHARES = 4
"""Options whose shares are named beside the measured one."""


def asked(question: Question) -> str:
    """The question in words."""
    ranks = question.name == "busiest" and question.options[0].startswith("rank ")
    return str(words.QUESTIONS["busiest_rank" if ranks else question.name])


def choices(question: Question) -> list[tuple[str, str]]:
    """(value, words) of each option."""
    return [(option, answer(option)) for option in question.options]


def answer(value: Answer) -> str:
    """A number is a speed-up."""
    if isinstance(value, float):
        return f"{significant(value, 3)} ×" if abs(value) < LARGE else amounts.shown(value, "×")
    return str(words.SAME) if value == SAME else value


@dataclass(frozen=True, slots=True)
class Reading:
    """How a typed answer is read, in words, for its field to show before it is locked."""

    said: str
    readable: bool = True


def reading(written: str, unit: str) -> Reading:
    """`read as 87,360 bytes`, and what else a comma or point in it could have meant; or why it cannot be read."""
    try:
        amount = amounts.read(written, unit)
    except LabError as error:
        return Reading(words.UNREADABLE.format(error=error), readable=False)
    said = str(words.READ_AS.format(amount=amounts.shown(amount.value, unit)))
    if amount.otherwise is not None:
        said += words.OTHERWISE.format(amount=amounts.shown(amount.otherwise).replace(",", ""))
    return Reading(said)


def measured(found: Measurement) -> str:
    """The measurement, and the shares that it rests on."""
    largest = sorted(found.shares.items(), key=lambda item: -item[1])[:MOST_SHARES]
    shares = ", ".join(f"{name} {percent(share)}" for name, share in largest)
    return f"{answer(found.value)} ({shares})" if shares else answer(found.value)


def verdict(prediction: Prediction) -> str:
    """How far off it was; empty before the measurement."""
    if prediction.right is None:
        return ""
    if prediction.right:
        return str(words.RIGHT)
    residual, share = prediction.residual, prediction.residual_share
    if residual is None or share is None:
        return str(words.WRONG)
    off = f"{residual:+.2f} ×" if abs(residual) < LARGE else amounts.difference(residual, "×")
    return str(words.OFF.format(residual=off, share=f"{share:+.0%}"))


def rows(locked: list[tuple[Question, Prediction, Measurement | None]], waiting: str) -> list[dict[str, Any]]:
    """A row for each locked prediction; `waiting` stands for what is not measured yet."""
    return [
        {
            "question": asked(question),
            "answer": answer(prediction.answer) if prediction.answer is not None else "",
            "measured": waiting if found is None else measured(found),
            "verdict": verdict(prediction),
            "score": prediction.score,
        }
        for question, prediction, found in locked
    ]
