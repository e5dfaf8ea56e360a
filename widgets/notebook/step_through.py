"""The six steps of data parallelism, one click each, with every rank's own tensors before and after the average.

A click is done before the next one can be made: clicks from while a step is under way are dropped.
"""

from __future__ import annotations

import html
import threading
from typing import Any

from ipywidgets import HTML, Dropdown, HBox, Layout, VBox

from lab.experiment import Experiment
from lab.six_steps import NAMES, SixSteps
from widgets.notebook import step_words, text
from widgets.notebook.alerts import Alert
from widgets.notebook.numbers import SHOWN_VALUES, first, small, table
from widgets.notebook.staying import Stays
from widgets.notebook.turn_button import TurnButton

FIRST = Experiment(strategy="ddp", world_size=3, batch_size=48, lr=0.1)


class StepThrough(Stays, VBox):
    """Click through one step of training; `steps` holds the tensors that are shown.

    Args:
        experiment: of ranks, or of devices that share a batch; three ranks of the course's net when left out.
        net: a module of your own, where the Experiment names one.
        parameter: whose numbers are shown; the smallest one when left out.
    """

    def __init__(self, experiment: Experiment | None = None, net: Any = None, parameter: str | None = None) -> None:
        self._guard = threading.RLock()
        self._experiment, self._net = experiment or FIRST, net
        self.alert = Alert()
        self.steps: SixSteps | None = None
        self.said = HTML()
        self.next = TurnButton(primary=True)
        self.anew = TurnButton(description=text.ANEW)
        self.parameter = Dropdown(description=text.PARAMETER, layout=Layout(width="260px"))
        self.next.on_click(lambda turn: self._turn(turn, self.advance))
        self.anew.on_click(lambda turn: self._turn(turn, self.restart))
        super().__init__(
            [
                HTML(f'<div style="font-size:15px;font-family:serif">{text.FORMULA}</div>'),
                HBox([self.next, self.anew, self.parameter], layout=Layout(flex_flow="row wrap")),
                self.alert,
                self.said,
            ]
        )
        self._safely(self._begin)
        if self.steps is not None:
            self.parameter.options = self.steps.names
            self.parameter.value = parameter if parameter in self.steps.names else _smallest(self.steps)
        self.parameter.observe(lambda change: self._show(), "value")
        self._show()

    def advance(self) -> None:
        """Does the next of the six steps."""
        self._safely(self._advance)
        self._show()

    def _turn(self, turn: int, action: Any) -> None:
        """What a click asks for, if it was made after the last one was done."""
        with self._guard:
            if turn != self.next.turn:
                return
            self.next.disabled = self.anew.disabled = True
            self.next.description = text.WORKING.format(title=self.next.description)
            try:
                action()
            finally:
                self.next.disabled, self.anew.disabled = self.steps is None, False
                self.next.turn = self.anew.turn = turn + 1

    def restart(self) -> None:
        """Begins anew, with the parameters and the batch of the beginning."""
        self._safely(self._begin)
        self._show()

    def _begin(self) -> None:
        self.steps = SixSteps(self._experiment, self._net)

    def _advance(self) -> None:
        if self.steps is not None:
            self.steps.advance()

    def _safely(self, action: Any) -> None:
        with self._guard:
            self.alert.clear()
            try:
                action()
            except Exception as error:  # noqa: BLE001 - a traceback from a click would be lost
                self.alert.error(error)

    def _show(self) -> None:
        with self._guard:
            steps = self.steps
            self.next.disabled = steps is None
            if steps is None:
                return
            self.next.description = text.NEXT.format(title=text.SIX_STEPS[NAMES[steps.done]][0])
            if not steps.done and not steps.round:
                self.said.value = f"<p>{text.NOT_BEGUN}</p>"
                return
            name = NAMES[steps.done - 1]
            title, _ = text.SIX_STEPS[name]
            shown = self.parameter.value
            head = f"<b>{NAMES.index(name) + 1}. {html.escape(title)}</b>"
            said = html.escape(step_words.said(steps, name, shown))
            body = _body(steps, name, shown)
            self.said.value = f'<div style="line-height:1.45;max-width:110ch">{head}<br>{said}{body}</div>'


def _body(steps: SixSteps, name: str, parameter: str) -> str:
    """The tensors after a step."""
    ranks = range(steps.ranks)
    match name:
        case "split":
            shares = [(len(share), ", ".join(map(str, share[:6].tolist()))) for share in steps.indices]
            rows = [
                (f"rank {rank}", [text.SHARE.format(count=count, first=first)])
                for rank, (count, first) in zip(ranks, shares, strict=True)
            ]
            return table(rows)
        case "copy":
            now = [dict(net.named_parameters())[parameter].detach() for net in steps.copies]
            rows = [(f"θ on rank {rank}", first(value)) for rank, value in zip(ranks, now, strict=True)]
            return table(rows) + _equal(steps) + _shown(now[0].numel())
        case "gradients":
            rows = [
                (f"∇L{rank} on rank {rank}, loss {loss:.4f}", first(gradients[parameter]))
                for rank, (loss, gradients) in enumerate(zip(steps.losses, steps.gradients, strict=True))
            ]
            return table(rows) + _shown(steps.gradients[0][parameter].numel())
        case "synchronise":
            rows = [
                (f"before: rank {rank}", first(gradients[parameter])) for rank, gradients in enumerate(steps.gradients)
            ]
            after = [dict(net.named_parameters())[parameter].grad for net in steps.copies]
            rows += [(f"after: rank {rank}", first(value)) for rank, value in enumerate(after) if value is not None]
            whole = (steps.whole_batch_gradient()[parameter] - steps.mean[parameter]).abs().max()
            same = text.ONE_DEVICE.format(difference=small(float(whole)))
            strong = [label for label, _ in rows if label.startswith("after")]
            return table(rows, strong) + f"<p>{same}</p>" + _shown(steps.mean[parameter].numel())
        case "update":
            now = [dict(net.named_parameters())[parameter].detach() for net in steps.copies]
            eta, momentum = steps.experiment.lr, steps.experiment.momentum
            velocity = [(f"v = {momentum:g} · v + mean", first(steps.velocity[parameter]))] if momentum else []
            rows = [
                ("θ before", first(steps.before[parameter])),
                *velocity,
                (f"η · {'v' if momentum else 'mean'}, η = {eta:g}", first(eta * steps.velocity[parameter])),
                *((f"θ after, rank {rank}", first(value)) for rank, value in zip(ranks, now, strict=True)),
            ]
            strong = [label for label, _ in rows if label.startswith("θ after")]
            return table(rows, strong) + _equal(steps) + _shown(now[0].numel())
        case _:
            return ""


def _equal(steps: SixSteps) -> str:
    return f"<p>{text.EQUAL_COPIES.format(difference=small(steps.copies_differ_by))}</p>"


def _shown(count: int) -> str:
    if count <= SHOWN_VALUES:
        return ""
    return f'<p style="opacity:0.75">{text.SHOWN_VALUES.format(shown=SHOWN_VALUES, count=count)}</p>'


def _smallest(steps: SixSteps) -> str:
    sizes = {name: value.numel() for name, value in steps.net.named_parameters() if name in steps.names}
    return min(sizes, key=sizes.__getitem__)
