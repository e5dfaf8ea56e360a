"""A prediction, locked before the run and shown beside the measurement.

predict = Predict("How long does a step take on two devices?", unit="ms")
predict                       # type a number, lock it; predict.lock(8) does the same without widgets
predict.reveal(run.state.step_seconds * 1e3)

A lock stays: when the cell is run again, when the kernel is restarted, and when the notebook is opened on another day.
`Predict(..., anew=True)` begins anew; a copy of the notebook without outputs has no locks.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ipywidgets import HTML, Button, HBox, Label, Layout, RadioButtons, Text, VBox

from lab.errors import LabError
from lab.insight import amounts
from lab.insight.locks import MIME, Asked
from lab.insight.prediction import Answer, Prediction
from widgets.findings import predicted
from widgets.notebook import locks, text
from widgets.notebook.alerts import Alert
from widgets.notebook.staying import Stays

_LINES = '<div style="line-height:1.5">{lines}</div>'
_STYLE = """<style>
.parallel-lab-asks .jupyter-widgets-disconnected::before { display: none }
.jp-OutputArea-child:not(:has(.parallel-lab-view)):has(+ .jp-OutputArea-child .parallel-lab-asked) { display: none }
</style>"""
"""Where its widget is gone, what a front end says in its place goes too; where its kernel is, it says so once."""


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a cell shows of a prediction and its measurement."""

    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(self.lines)


class Predict(Stays, VBox):
    """A question with one answer that can be given once.

    Args:
        kind: `number`, or `choice` with `options`.
        unit: of a number: what an answer is read in when it names no other, see `lab.insight.amounts`.
        anew: forgets what this cell has locked before. Take it out again, or every run of the cell begins anew.

    Raises:
        LabError: for a choice without options, or a kind that there is not.
    """

    def __init__(
        self,
        question: str,
        kind: Literal["number", "choice"] = "number",
        unit: str = "",
        options: Sequence[str] = (),
        anew: bool = False,
    ) -> None:
        self.prediction = Prediction(kind, unit, options)
        self._asked = locks.here(Asked(question, kind, unit, self.prediction.options))
        self._earlier_s = 0.0
        self._guard = threading.RLock()
        self.alert = Alert()
        self.field: Any = (
            Text(placeholder=text.TYPE, layout=Layout(width="160px"))
            if kind == "number"
            else RadioButtons(options=list(options), value=None, layout=Layout(width="auto"))
        )
        self.button = Button(description=text.LOCK, button_style="primary", disabled=True, layout=Layout(width="auto"))
        self.button.on_click(lambda _: self._click())
        self.field.observe(lambda _: self._typed(), "value")
        self.read_as, self.said = HTML(), HTML()
        for each in (self.read_as, self.alert, self.said):
            each.layout.display = "none"
            each.observe(_hide_where_empty, "value")
        row = [self.field, *([Label(unit)] if unit else ()), self.button]
        answer = HBox(row, layout=Layout(flex_flow="row wrap", align_items="center"))
        super().__init__([HTML(f"<b>{html.escape(question)}</b>"), answer, self.read_as, self.alert, self.said])
        self.add_class("parallel-lab-view").add_class("parallel-lab-asks")
        self._begin_anew() if anew else self._take_up()

    @property
    def locked(self) -> bool:
        return self.prediction.locked

    @property
    def answer(self) -> Answer | None:
        """What was locked; None before."""
        return self.prediction.answer

    @property
    def measured(self) -> Answer | None:
        """What was revealed; None before."""
        return self.prediction.measured

    @property
    def residual(self) -> float | None:
        """Measured minus predicted, in the unit; None for a choice, or before both are there."""
        return self.prediction.residual

    def lock(self, answer: Any = None) -> None:
        """Locks what is in the field, or this answer. Locked once, it stays.

        Raises:
            LabError: for no answer, one that is no number or none of the options, or when one is locked already.
        """
        with self._guard:
            if not self.locked:
                self._take_up()  # somebody may have locked one where this question was shown before
            locked = self.prediction.lock(self.field.value if answer is None else answer)
            self._asked = self._asked.with_answer(locked, time.time())
            locks.keep(self._asked)
            self._close(locked if answer is not None else None)

    def reveal(self, measured: Any) -> Revealed:
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

    def still(self) -> str:
        """The question, its options and what has been said, for a notebook whose kernel is gone."""
        question = f"<b>{html.escape(self._asked.question)}</b>"
        options = "" if self.locked else "".join(f"<li>{html.escape(each)}</li>" for each in self._asked.options)
        said = self.said.value or (f"<ul>{options}</ul>" if options else "")
        return f'{_STYLE}<div class="parallel-lab-asked">{question}<div>{said}</div></div>'

    def kept(self) -> dict[str, Any]:
        return {MIME: self._asked.to_json()}

    # -- locks of before -----------------------------------------------------------------------------------------------

    def _begin_anew(self) -> None:
        self._asked = replace(self._asked, began_s=time.time())
        locks.keep(self._asked)

    def _take_up(self) -> None:
        """Takes up what this cell has locked before."""
        found = locks.find(self._asked)
        self._asked = replace(self._asked, began_s=max(self._asked.began_s, found.began_s))
        lock = found.lock
        if lock is not None and lock.answer is not None:
            self.prediction.lock(lock.answer)
            self._asked = self._asked.with_answer(lock.answer, lock.locked_s)
            self._earlier_s = lock.locked_s
            locks.keep(self._asked)
            self._close(lock.answer)
        elif found.other is not None and found.other.answer is not None:
            answer = found.other.prediction.shown(found.other.answer)
            self.said.value = _LINES.format(lines=html.escape(text.OTHER_QUESTION.format(answer=answer)))

    # -- what is shown -------------------------------------------------------------------------------------------------

    def _typed(self) -> None:
        """Shows how the field is read, before anything is locked."""
        if self.locked:
            return
        value = self.field.value
        if isinstance(self.field, RadioButtons) or not value.strip():
            self.read_as.value, self.button.disabled = "", not value
            return
        found = predicted.reading(value, self._asked.unit)
        self.read_as.value, self.button.disabled = _status(found), not found.readable

    def _close(self, shown: Answer | None) -> None:
        """Nothing more can be typed; `shown` goes into the field."""
        self.field.disabled = self.button.disabled = True
        if shown is not None:
            self.field.value = amounts.shown(shown) if isinstance(shown, float) else shown
        self.button.layout.display = "none"
        self.read_as.value = ""
        self.alert.clear()
        self._show()

    def _click(self) -> None:
        try:
            self.lock()
        except LabError as error:
            self.alert.error(error)

    def _show(self) -> None:
        self.said.value = _LINES.format(lines="<br>".join(html.escape(line) for line in self._lines()))
        self.keep_still()

    def _lines(self) -> list[str]:
        prediction = self.prediction
        if prediction.answer is None:
            return []
        when = time.strftime(text.WHEN, time.localtime(self._earlier_s)) if self._earlier_s else ""
        lines = [text.LOCKED.format(answer=prediction.shown(prediction.answer)) + when]
        if prediction.measured is not None:
            measured = prediction.shown(prediction.measured, amounts.ROUNDED_DIGITS)
            lines.append(text.MEASURED.format(measured=measured))
            lines.append(_verdict(prediction))
        return lines


def _hide_where_empty(change: Any) -> None:
    change.owner.layout.display = None if change.new else "none"


def _status(reading: predicted.Reading) -> str:
    sign = "" if reading.readable else "⚠ "
    return f'<span role="status" style="font-size:13px">{sign}{html.escape(reading.said)}</span>'


def _verdict(prediction: Prediction) -> str:
    if prediction.right:
        return text.EXACT if prediction.kind == "number" else text.RIGHT
    if prediction.residual is None:
        return text.WRONG.format(answer=prediction.answer)
    share = prediction.residual_share
    of = f"{share:+.0%} of what was measured" if share is not None else "nothing was measured"
    return text.RESIDUAL.format(residual=prediction.off_by, share=of)
