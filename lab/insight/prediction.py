"""A prediction: an answer that can be given once, before the measurement that it is compared with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from lab.errors import LabError
from lab.insight import amounts

Kind: TypeAlias = Literal["number", "choice"]
Answer: TypeAlias = float | str


class Prediction:
    """Locked once, then compared. Safe to use from several threads.

    Args:
        kind: `number`, or `choice` with `options`.
        unit: of a number: what is asked for, and what an answer without a unit is in.

    Raises:
        LabError: for a choice without options, or a kind that there is not.
    """

    def __init__(self, kind: Kind = "number", unit: str = "", options: Sequence[str] = ()) -> None:
        if kind not in ("number", "choice"):
            raise LabError(f"{kind!r} is no kind of answer: write 'number' or 'choice'")
        if kind == "choice" and len(options) < 2:
            raise LabError("a choice needs at least two options: kind='choice', options=['a', 'b']")
        self.kind: Kind = kind
        self.unit = unit
        self.options = tuple(options)
        self.answer: Answer | None = None
        """What was locked; None before."""
        self.measured: Answer | None = None
        self._guard = threading.Lock()

    @property
    def locked(self) -> bool:
        return self.answer is not None

    def lock(self, answer: Any) -> Answer:
        """Locks an answer; locked once, it stays.

        Raises:
            LabError: for no answer, one that is no number or none of the options, or when one is locked already.
        """
        with self._guard:
            if self.answer is not None:
                raise LabError(f"your answer is locked already: {self.shown(self.answer)}")
            self.answer = self.read(answer)
            return self.answer

    def reveal(self, measured: Any) -> Answer:
        """Puts the measurement beside the answer.

        Raises:
            LabError: before an answer is locked, or for what could not have been an answer.
        """
        found = self.read(measured)
        with self._guard:
            if self.answer is None:
                raise LabError("lock an answer first: a prediction made after the measurement is none")
            self.measured = found
            return found

    @property
    def residual(self) -> float | None:
        """Measured minus predicted, in the unit; None for a choice, or before both are there."""
        if isinstance(self.measured, float) and isinstance(self.answer, float):
            return self.measured - self.answer
        return None

    @property
    def residual_share(self) -> float | None:
        """The residual as a part of what was measured; None where there is none, or nothing was measured."""
        residual = self.residual
        return (
            residual / abs(self.measured)
            if residual is not None and isinstance(self.measured, float) and self.measured
            else None
        )

    @property
    def right(self) -> bool | None:
        """Whether the answer is the measurement; None before both are there."""
        return None if self.answer is None or self.measured is None else self.answer == self.measured

    @property
    def score(self) -> float | None:
        """1 for the measurement itself; of a number, less by the part of the measurement that it is off, down to 0; of
        another option, 0. None before both are there."""
        if self.right is None or self.right:
            return None if self.right is None else 1.0
        share = self.residual_share
        return 0.0 if share is None else max(0.0, 1 - abs(share))

    def read(self, value: Any) -> Answer:
        """A value as an answer; a number as people write it, see `lab.insight.amounts`.

        Raises:
            LabError: when it cannot be one.
        """
        if self.kind == "number":
            return amounts.read(value, self.unit).value
        if value is None or (isinstance(value, str) and not value):
            raise LabError("give an answer first")
        if value not in self.options:
            raise LabError(f"{value!r} is not one of {', '.join(map(repr, self.options))}")
        return str(value)

    def shown(self, value: Answer, digits: int = amounts.EXACT_DIGITS) -> str:
        """With its unit. Whole numbers are always shown in full; `digits` are kept of what stands behind the point."""
        return amounts.shown(value, self.unit, digits) if isinstance(value, float) else value

    @property
    def off_by(self) -> str:
        """The residual with its sign and unit; empty where there is none."""
        return "" if self.residual is None else amounts.difference(self.residual, self.unit)
