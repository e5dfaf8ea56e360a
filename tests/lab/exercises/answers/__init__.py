"""Answers to the course's exercises, right ones and wrong ones, each with the sentence that it must get.

    @right("02-update")
    def mean_of_updates(theta, gradients, eta): ...

    @wrong("02-update", "it uses the sum of the gradients")
    def of_the_sum(theta, gradients, eta): ...

A file for each notebook, `answers_NN.py`. What is decorated is given to `check` as it is: a function or a class. An
answer of several parts is a class that has them, and one that needs devices is a function of them: both say so by
`parts=lambda made, devices: (...)`, which gives what the reader's cell gives to `check` before the devices.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Made = TypeVar("Made")
Parts = Callable[[Any, tuple[str, ...]], tuple[Any, ...]]
WITH_DEVICES = ("04-step", "04-anywhere")
"""Exercises whose cell gives the check the devices besides."""
_answers: list[Answer] = []


@dataclass(frozen=True)
class Answer:
    exercise: str
    name: str
    words: str | None
    """That the verdict must have; None for a right answer."""
    outcome: str
    made: Any
    parts: Parts

    @property
    def title(self) -> str:
        return f"{self.exercise}-{self.name}"

    def given(self, devices: tuple[str, ...]) -> tuple[Any, ...]:
        """What `check` is given after the exercise's name."""
        more = (devices,) if self.exercise in WITH_DEVICES else ()
        return (*self.parts(self.made, devices), *more)


def _itself(made: Any, devices: tuple[str, ...]) -> tuple[Any, ...]:
    return (made,)


def right(exercise: str, parts: Parts = _itself) -> Callable[[Made], Made]:
    return _register(exercise, None, "right", parts)


def wrong(exercise: str, words: str, outcome: str = "wrong", parts: Parts = _itself) -> Callable[[Made], Made]:
    """Args:
    words: that the verdict's sentence must have.
    outcome: `raised` where the answer's own code raises.
    """
    return _register(exercise, words, outcome, parts)


def _register(exercise: str, words: str | None, outcome: str, parts: Parts) -> Callable[[Made], Made]:
    def register(made: Made) -> Made:
        name = getattr(made, "__name__", "answer")
        _answers.append(Answer(exercise, name, words, outcome, made, parts))
        return made

    return register


def all_answers() -> list[Answer]:
    for module in sorted(each.name for each in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    return list(_answers)
