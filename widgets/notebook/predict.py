"""A prediction, locked before the run and shown beside the measurement.

predict = Predict("How long does a step take on two devices?", unit="ms")
predict                       # type a number, lock it; predict.lock(8) does the same without widgets
predict.reveal(run.state.step_seconds * 1e3)
"""

from __future__ import annotations

import html
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ipywidgets import HTML, Button, HBox, Layout, RadioButtons, Text, VBox

from lab.errors import LabError
from lab.insight.prediction import Prediction
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
        self.prediction = Prediction(kind, unit, options)
        self._guard = threading.RLock()
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
        return self.prediction.locked

    @property
    def answer(self) -> float | str | None:
        """What was locked; None before."""
        return self.prediction.answer

    @property
    def measured(self) -> float | str | None:
        """What was revealed; None before."""
        return self.prediction.measured

    @property
    def residual(self) -> float | None:
        """Measured minus predicted, in the unit; None for a choice, or before both are there."""
        return self.prediction.residual

    def lock(self, answer: float | str | None = None) -> None:
        """Locks what is in the field, or this answer. Locked once, it stays.

        Raises:
            LabError: for no answer, one that is no number or none of the options, or when one is locked already.
        """
        with self._guard:
            locked = self.prediction.lock(self.field.value if answer is None else answer)
            if answer is not None:
                self.field.value = f"{locked:g}" if isinstance(locked, float) else locked
            self.field.disabled = self.button.disabled = True
            self.alert.clear()
            self._show()

    def reveal(self, measured: float | str) -> Revealed:
        """Shows the measurement beside the answer, here and in the cell that asks.

        Before an answer is locked nothing of it is shown: the cell says that one is missing, and those below it, which
        may be run together with it, go on.

        Raises:
            LabError: for a measurement that could not have been an answer.
        """
        with self._guard:
            self.prediction.read(measured)
            if not self.prediction.locked:
                return Revealed((text.NOT_LOCKED,))
            self.prediction.reveal(measured)
            self._show()
            return Revealed(tuple(self._lines()))

    def _click(self) -> None:
        try:
            self.lock()
        except LabError as error:
            self.alert.error(error)

    def _show(self) -> None:
        self.said.value = "<br>".join(html.escape(line) for line in self._lines())

    def _lines(self) -> list[str]:
        prediction = self.prediction
        if prediction.answer is None:
            return []
        lines = [text.LOCKED.format(answer=prediction.shown(prediction.answer))]
        if prediction.measured is not None:
            lines.append(text.MEASURED.format(measured=prediction.shown(prediction.measured)))
            lines.append(_verdict(prediction))
        return lines


def _verdict(prediction: Prediction) -> str:
    if prediction.right:
        return text.EXACT if prediction.kind == "number" else text.RIGHT
    if prediction.residual is None:
        return text.WRONG.format(answer=prediction.answer)
    share = prediction.residual_share
    of = f"{share:+.0%} of what was measured" if share is not None else "nothing was measured"
    return text.RESIDUAL.format(residual=f"{prediction.residual:+.3g} {prediction.unit}".rstrip(), share=of)
