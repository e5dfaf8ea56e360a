"""How answers are graded: a check looks at what the answer does, and its verdict is a sentence that teaches.

@exercise("02-average", todo="Return the mean of the gradients.")
def average(answer):
    got = call(answer, [tensor(1.0), tensor(3.0)])
    if got != 2:
        raise Wrong(f"the mean of 1 and 3 is 2; yours is {got}")
    return "Your mean is what an all-reduce followed by a division gives."
"""

from __future__ import annotations

import html
import importlib
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType, MappingProxyType
from typing import Any, Literal

from lab.errors import LabError, did_you_mean

MODULES = {
    "00": "tour",
    "01": "one_device",
    "02": "data_parallelism",
    "03": "ddp_inside",
    "04": "model_parallelism",
    "05": "microbatches",
    "06": "both_together",
    "07": "what_is_hard",
    "08": "memory",
    "09": "choosing",
}
"""Number of a notebook -> the file with its checks."""
MIME = "application/vnd.parallel-lab.verdict+json"
"""Of a verdict in a notebook's output, for those who count."""

_LAB = str(Path(__file__).parents[1])
"""Code of the lab itself, through which a reader's call may go."""

Grade = Callable[..., str]
"""Looks at an answer; returns what it shows, or raises Wrong."""
_exercises: dict[str, _Exercise] = {}


class Wrong(Exception):  # noqa: N818 - a verdict on an answer, not an error of the lab
    """What is not as it should be: a sentence, with the reader's own values, that says what broke."""


class _AnswerError(Exception):
    """The answer's own code raised an error."""


@dataclass(frozen=True, slots=True)
class _Exercise:
    name: str
    todo: str
    grade: Grade


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer holds, and why."""

    exercise: str
    outcome: Literal["right", "blank", "wrong", "raised"]
    """`blank`: not answered yet; `raised`: the answer's own code raised an error."""
    sentence: str

    @property
    def passed(self) -> bool:
        return self.outcome == "right"

    def __bool__(self) -> bool:
        return self.passed

    @property
    def _title(self) -> str:
        return {"right": "✓ Right", "blank": "○ To do", "wrong": "✗ Not yet", "raised": "✗ It raised an error"}[
            self.outcome
        ]

    def __repr__(self) -> str:
        return f"{self._title} ({self.exercise}): {self.sentence}"

    def _repr_mimebundle_(self, **settings: Any) -> dict[str, Any]:
        side = {"right": "#009E73", "blank": "#0072B2"}.get(self.outcome, "#D55E00")
        box = f"border-left:4px solid {side};padding:4px 12px;margin:4px 0"
        shown = html.escape(self.sentence).replace("\n", "<br>")
        return {
            "text/plain": repr(self),
            "text/html": f'<div role="status" style="{box}"><b>{self._title}.</b> {shown}</div>',
            MIME: {"exercise": self.exercise, "outcome": self.outcome, "sentence": self.sentence},
        }


def exercise(name: str, todo: str) -> Callable[[Grade], Grade]:
    """Registers a check under a name such as `02-average`.

    Args:
        todo: what to do, for an answer that is still blank.
    """

    def register(grade: Grade) -> Grade:
        _exercises[name] = _Exercise(name, todo, grade)
        return grade

    return register


def check(name: str, *answer: Any) -> Verdict:
    """Grades an answer. Whatever is wrong with it is said in the verdict, so that a notebook goes on.

    Args:
        answer: what the exercise asks for: a function, a placement, an Experiment, a run, a number.

    Raises:
        LabError: for an exercise that there is not.
    """
    found = _find(name)
    if not answer or any(isinstance(part, EllipsisType) for part in answer):
        return Verdict(name, "blank", found.todo)
    try:
        return Verdict(name, "right", found.grade(*answer))
    except NotWrittenError:
        return Verdict(name, "blank", found.todo)
    except Wrong as wrong:
        return Verdict(name, "wrong", str(wrong))
    except _AnswerError as raised:
        return Verdict(name, "raised", str(raised))


def names() -> tuple[str, ...]:
    """Of all exercises, in the course's order."""
    for number in MODULES:
        _load(number)
    return tuple(sorted(_exercises))


class NotWrittenError(Exception):
    """The answer is a function whose body is still to be written."""


def call(function: Any, *arguments: Any, hints: Mapping[type[Exception], str] = MappingProxyType({})) -> Any:
    """Calls the reader's function. One that is not written yet, or that raises, ends the check with a sentence.

    Args:
        hints: what to say besides, by the type of the error.
    """
    if not callable(function):
        raise Wrong(f"a function is asked for, and this is {_shown(function)}")
    try:
        value = function(*arguments)
    except LabError as error:
        raise _AnswerError(str(error)) from error
    except Exception as error:
        where = _place(error)
        hint = "".join(f". {text}" for kind, text in hints.items() if isinstance(error, kind))
        raise _AnswerError(f"{type(error).__name__}: {error}{where}{hint}") from error
    if value is ...:
        raise NotWrittenError
    return value


def lists_of_numbers(value: Any) -> list[list[Any]] | None:
    """An answer that is groups of numbers, as lists; None when it is not.

    The groups may stand in a list, a tensor, an array, a generator, or be the values of a dictionary in the order of
    its keys; and so may the numbers of a group.
    """
    groups = _items(value)
    found = None if groups is None else [_items(group) for group in groups]
    return None if found is None or any(group is None for group in found) else [list(group or ()) for group in found]


def _items(value: Any) -> list[Any] | None:
    if isinstance(value, Mapping):
        try:
            value = [value[key] for key in sorted(value)]
        except TypeError:  # keys that have no order
            value = list(value.values())
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return None
    try:
        return [item.tolist() if hasattr(item, "tolist") else item for item in value]
    except TypeError:  # a tensor of no dimensions
        return None


def _place(error: Exception) -> str:
    """The last line of the reader's own cell on the way to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if "site-packages" not in each.filename and not each.filename.startswith(_LAB)]
    return f', in line {own[-1].lineno} of your cell, "{own[-1].line}"' if own and own[-1].line else ""


def _find(name: str) -> _Exercise:
    _load(name[:2])
    if name not in _exercises:
        known = names()
        raise LabError(f"there is no exercise {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
    return _exercises[name]


def _load(number: str) -> None:
    if number in MODULES:
        importlib.import_module(f"lab.exercises.{MODULES[number]}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
