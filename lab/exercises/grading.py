"""How answers are graded: a check looks at what the answer does, and its verdict is a sentence that teaches.

@exercise("02-average", todo="Return the mean of the gradients.", hints=("Whatever their number.",))
def average(answer):
    got = reading.tensor(call(answer, [tensor(1.0), tensor(3.0)]))
    if got != 2:
        raise Wrong(f"The mean of 1 and 3 is 2; yours is {got}.")
    return "Your mean is what an all-reduce followed by a division gives."

A verdict says what broke, not how to mend it. Each wrong answer to the same exercise after the first opens one more of
its hints.
"""

from __future__ import annotations

import html
import importlib
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType, MappingProxyType
from typing import Any, Literal

from lab.errors import LabError, WrongAnswerError, did_you_mean
from lab.exercises import surroundings

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
STRICT_VARIABLE = "PARALLEL_LAB_STRICT"
"""Set to 1, every check raises for an answer that is not right: a grader such as nbgrader gives no points for a cell
that raised, and all of them for one that only says so."""

_LAB = str(Path(__file__).parents[1])
"""Code of the lab itself, through which a reader's call may go."""

Grade = Callable[..., str]
"""Looks at an answer; returns what it shows, or raises Wrong."""
_exercises: dict[str, _Exercise] = {}
_failures: dict[str, int] = {}
"""Exercise -> how many wrong answers it has had since it was answered last, in this process."""


class Wrong(Exception):  # noqa: N818 - a verdict on an answer, not an error of the lab
    """What is not as it should be: a sentence, with the reader's own values, that says what broke."""


class NotWrittenError(Exception):
    """The answer is a function whose body is still to be written."""


class AnswerRaisedError(Exception):
    """The answer's own code raised an error: which, where, and what it means."""


@dataclass(frozen=True, slots=True)
class _Exercise:
    name: str
    todo: str
    grade: Grade
    hints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer holds, and why."""

    exercise: str
    outcome: Literal["right", "blank", "wrong", "raised"]
    """`blank`: not answered yet; `raised`: the answer's own code raised an error."""
    sentence: str
    hints: tuple[str, ...] = ()
    """Those that are open by now."""

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

    def _lines(self) -> list[str]:
        return [self.sentence, *(f"Hint: {hint}" for hint in self.hints)]

    def __repr__(self) -> str:
        return f"{self._title} ({self.exercise}): " + "\n".join(self._lines())

    def _repr_mimebundle_(self, **settings: Any) -> dict[str, Any]:
        side = {"right": "#009E73", "blank": "#0072B2"}.get(self.outcome, "#D55E00")
        box = f"border-left:4px solid {side};padding:4px 12px;margin:4px 0"
        shown = "<br>".join(html.escape(line).replace("\n", "<br>") for line in self._lines())
        return {
            "text/plain": repr(self),
            "text/html": f'<div role="status" style="{box}"><b>{self._title}.</b> {shown}</div>',
            MIME: {
                "exercise": self.exercise,
                "outcome": self.outcome,
                "sentence": self.sentence,
                "hints": list(self.hints),
            },
        }


def exercise(name: str, todo: str, hints: tuple[str, ...] = ()) -> Callable[[Grade], Grade]:
    """Registers a check under a name such as `02-average`.

    Args:
        todo: what to do, for an answer that is still blank; it tells the task, and not the way.
        hints: from a nudge to nearly the answer; one is opened with each wrong answer after the first.
    """

    def register(grade: Grade) -> Grade:
        _exercises[name] = _Exercise(name, todo, grade, hints)
        return grade

    return register


def check(name: str, *answer: Any, strict: bool | None = None) -> Verdict:
    """Grades an answer. Whatever is wrong with it is said in the verdict, so that a notebook goes on.

    The answer cannot change the surroundings: random states, PyTorch's defaults and virtual GPUs are put back.

    Args:
        answer: what the exercise asks for: a function, a class, a placement, a number.
        strict: whether an answer that is not right raises; where it is not said, the environment variable
            `PARALLEL_LAB_STRICT` decides, and without it nothing raises.

    Raises:
        LabError: for an exercise that there is not.
        WrongAnswerError: when strict, for any answer that is not right, a blank one too. It says what the verdict says.
    """
    found = _find(name)
    verdict = _graded(found, answer)
    if strict if strict is not None else os.environ.get(STRICT_VARIABLE, "0") not in ("", "0"):
        _refuse(verdict)
    return verdict


def _graded(found: _Exercise, answer: tuple[Any, ...]) -> Verdict:
    if not answer or any(isinstance(part, EllipsisType) for part in answer):
        return Verdict(found.name, "blank", found.todo)
    outcome: Literal["wrong", "raised"] = "wrong"
    try:
        with surroundings.kept():
            sentence = found.grade(*answer)
    except NotWrittenError:
        return Verdict(found.name, "blank", found.todo)
    except Wrong as wrong:
        sentence = str(wrong)
    except AnswerRaisedError as raised:
        outcome, sentence = "raised", str(raised)
    except Exception as error:  # noqa: BLE001 - whatever an answer does to its check, a notebook goes on
        sentence = f"The check cannot make anything of this answer: {type(error).__name__}: {error}."
    else:
        _failures.pop(found.name, None)
        return Verdict(found.name, "right", sentence)
    opened = _failures.get(found.name, 0)
    _failures[found.name] = opened + 1
    return Verdict(found.name, outcome, sentence, found.hints[:opened])


def _refuse(verdict: Verdict) -> None:
    if not verdict.passed:
        from IPython.display import display

        display(verdict)  # type: ignore[no-untyped-call]  # the box and its data are in the notebook, besides the traceback
        raise WrongAnswerError(repr(verdict))


def names() -> tuple[str, ...]:
    """Of all exercises, in the course's order."""
    for number in MODULES:
        _load(number)
    return tuple(sorted(_exercises))


def call(function: Any, *arguments: Any, about: Mapping[type[Exception], str] = MappingProxyType({})) -> Any:
    """Calls the reader's function. One that is not written yet, or that raises, ends the check with a sentence.

    Args:
        about: what an error of a type means here, besides the error's own words.
    """
    if not callable(function):
        raise Wrong(f"A function is asked for, and this is {shown(function)}.")
    try:
        value = function(*arguments)
    except (KeyboardInterrupt, Wrong, NotWrittenError, AnswerRaisedError):
        raise
    except LabError as error:
        raise AnswerRaisedError(str(error)) from error
    except BaseException as error:
        raise AnswerRaisedError(told(error, about)) from error
    if value is ...:
        raise NotWrittenError
    return value


def told(error: BaseException, about: Mapping[type[Exception], str] = MappingProxyType({})) -> str:
    """What an error in the reader's code was, in which line, and what it means."""
    words = str(error)
    what = f"{type(error).__name__}: {words}" if words else type(error).__name__
    meaning = "".join(f" {text}" for kind, text in about.items() if isinstance(error, kind))
    if isinstance(error, SystemExit):
        meaning = " It would end Python: return in its place."
    where = _place(error)
    return f"{what}{where}" + ("" if f"{what}{where}".endswith((".", "!", "?")) else ".") + meaning


def shown(value: Any) -> str:
    """A value in a sentence: itself, or its kind where it is long."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a reader's own class may do anything
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def _place(error: BaseException) -> str:
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
