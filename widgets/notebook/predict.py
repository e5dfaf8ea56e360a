"""A prediction, locked before the run and shown beside the measurement.

predict = Predict("How long does a step take on two devices?", unit="ms")
predict                       # type a number, lock it; predict.lock(8) does the same without widgets
predict.reveal(run.state.step_seconds * 1e3)
"""

from __future__ import annotations

import html
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ipywidgets import HTML, Button, HBox, Layout, RadioButtons, Text, VBox

from lab.errors import LabError
from widgets.notebook import text
from widgets.notebook.alerts import Alert


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a cell shows of a prediction and its measurement."""

    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(self.lines)


class Predict(VBox):
    """A question with one answer that can be given once.

    Args:
        kind: `number`, or `choice` with `options`.
        unit: of a number, for the screen.

    Raises:
        LabError: for a choice without options, or a kind that there is not.
    """

    def __init__(
        self,
        question: str,
        kind: Literal["number", "choice"] = "number",
        unit: str = "",
        options: Sequence[str] = (),
    ) -> None:
        if kind not in ("number", "choice"):
            raise LabError(f"{kind!r} is no kind of answer: write 'number' or 'choice'")
        if kind == "choice" and len(options) < 2:
            raise LabError("a choice needs at least two options: Predict(..., kind='choice', options=['a', 'b'])")
        self._guard = threading.RLock()
        self.kind, self.unit = kind, unit
        self.measured: Any = None
        self._answer: float | str | None = None
        self.alert = Alert()
        self.field: Any = (
            Text(placeholder=unit, layout=Layout(width="140px"))
            if kind == "number"
            else RadioButtons(options=list(options), value=None, layout=Layout(width="auto"))
        )
        self.button = Button(description=text.LOCK, button_style="primary", layout=Layout(width="auto"))
        self.button.on_click(lambda _: self._click())
        self.said = HTML()
        answer = HBox([self.field, HTML(html.escape(unit)), self.button], layout=Layout(flex_flow="row wrap"))
        super().__init__([HTML(f"<b>{html.escape(question)}</b>"), answer, self.alert, self.said])

    @property
    def locked(self) -> bool:
        return self._answer is not None

    @property
    def answer(self) -> float | str | None:
        """What was locked; None before."""
        return self._answer

    @property
    def residual(self) -> float | None:
        """Measured minus predicted, in the unit; None for a choice, or before both are there."""
        if self.measured is None or not isinstance(self._answer, float):
            return None
        return float(self.measured) - self._answer

    def lock(self, answer: float | str | None = None) -> None:
        """Locks what is in the field, or this answer. Locked once, it stays.

        Raises:
            LabError: for no answer, one that is no number or none of the options, or when one is locked already.
        """
        with self._guard:
            if self._answer is not None:
                raise LabError(f"your answer is locked already: {self._shown(self._answer)}")
            self._answer = self._read(self.field.value if answer is None else answer)
            if answer is not None:
                self.field.value = answer if self.kind == "choice" else f"{self._answer:g}"
            self.field.disabled = self.button.disabled = True
            self.alert.clear()
            self._show()

    def reveal(self, measured: float | str) -> Revealed:
        """Shows the measurement beside the answer, here and in the cell that asks.

        Before an answer is locked nothing of it is shown: both places say that one is missing, and the cell, which may
        be one of many that are run together, goes on.

        Raises:
            LabError: for a measurement that could not have been an answer.
        """
        with self._guard:
            measured = self._read(measured)
            if self._answer is None:
                self.alert.error(LabError(text.NOT_LOCKED))
                return Revealed((text.NOT_LOCKED_HERE,))
            self.measured = measured
            self._show()
            return Revealed(tuple(self._lines()))

    def _click(self) -> None:
        try:
            self.lock()
        except LabError as error:
            self.alert.error(error)

    def _read(self, value: Any) -> float | str:
        if value is None or value == "":
            raise LabError(text.EMPTY_ANSWER)
        if self.kind == "choice":
            if value not in self.field.options:
                raise LabError(f"{value!r} is not one of {', '.join(map(repr, self.field.options))}")
            return str(value)
        try:
            number = float(str(value).replace(",", "."))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise LabError(f"{value!r} is no number: write it with digits, such as 12.5")
        return number

    def _shown(self, value: float | str) -> str:
        return f"{value:.4g} {self.unit}".rstrip() if isinstance(value, float) else str(value)

    def _show(self) -> None:
        self.said.value = "<br>".join(html.escape(line) for line in self._lines())

    def _lines(self) -> list[str]:
        if self._answer is None:
            return []
        lines = [text.LOCKED.format(answer=self._shown(self._answer))]
        if self.measured is not None:
            lines.append(text.MEASURED.format(measured=self._shown(self.measured)))
            lines.append(self._verdict())
        return lines

    def _verdict(self) -> str:
        if self.kind == "choice":
            right = self._answer == self.measured
            return text.RIGHT if right else text.WRONG.format(answer=self._answer)
        residual = self.residual or 0.0
        if residual == 0:
            return text.EXACT
        share = f"{residual / self.measured:+.0%} of what was measured" if self.measured else "nothing was measured"
        return text.RESIDUAL.format(residual=f"{residual:+.3g} {self.unit}".rstrip(), share=share)
