"""Predictions in words: the questions, the answers, and how far they are off."""

from __future__ import annotations

from typing import Any

from lab.insight.prediction import Answer, Prediction
from lab.insight.questions import SAME, Measurement, Question
from widgets.figures._units import significant
from widgets.findings import percent, words

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
        return f"{significant(value, 3)} ×"
    return str(words.SAME) if value == SAME else value


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
    off = f"{residual:+.2f} ×"
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
