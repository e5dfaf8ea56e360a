"""Everything that Parallel Lab raises on purpose.

LabError
├── ExperimentError     an Experiment that cannot run (also a ValueError); lists every problem
├── DataError           a data set that cannot be unpacked, read or written
├── PlacementError      no placement satisfies what was asked
├── DeviceError         a device that is not here, or was asked for something it cannot do (also a RuntimeError)
├── RunError            a run that did not finish well; carries the RankFailed event
└── WrongAnswerError    an answer to an exercise that is not right, where a check was told to raise
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.events import RankFailed


MOST_PROBLEMS = 20
"""That are told one by one; who has more has made one mistake many times."""
MOST_CHARACTERS = 2_000
"""Of one problem."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


class LabError(Exception):
    """Base of every error that the lab raises on purpose: catch this to catch them all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an Experiment: the field, what is wrong with the reader's value, what is allowed."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ExperimentError(LabError, ValueError):
    """An Experiment that cannot run. `problems` holds every fault found, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self._text())

    def _text(self) -> str:
        told = [_cut(str(problem)) for problem in self.problems[:MOST_PROBLEMS]]
        if len(self.problems) == 1:
            return told[0]
        lines = "\n".join(f"  - {text}" for text in told)
        left = len(self.problems) - len(told)
        return f"{len(self.problems):,} problems:\n{lines}" + (f"\n  ... and {left:,} more" if left else "")

    def __reduce__(self) -> tuple[type[ExperimentError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class DataError(LabError):
    """A data set that cannot be unpacked, read or written; the text says which file and what to do."""


class PlacementError(LabError, ValueError):
    """No placement satisfies what was asked, for example because a layer fits on no device."""


class DeviceError(LabError, RuntimeError):
    """A device that is not here, or that was asked for something it cannot do."""


class RunError(LabError):
    """A run that failed. `failure` is the RankFailed event with the cause and the worker's traceback."""

    def __init__(self, message: str, failure: RankFailed | None = None) -> None:
        self.failure = failure
        super().__init__(message)


class WrongAnswerError(LabError):
    """An answer to an exercise that is not right, where a check was told to raise; it says what the verdict says."""


def listed(names: Iterable[str], word: str = "and") -> str:
    """`a, b and c`, for sentences."""
    names = list(names)
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def counted(count: int, what: str) -> str:
    """`1 rank`, `2 ranks`, for sentences; what is counted takes an s."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'conv2'?)` when a known name is near enough, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def shown(value: Any) -> str:
    """The value as Python writes it, cut when it is long."""
    try:
        return _SHORT.repr(value)
    except ValueError:
        return "a number of thousands of digits"  # which Python refuses to write


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."
