"""The update formula on real gradients: what it gives, what the optimizer did, and the difference."""

from __future__ import annotations

import html
import threading
from typing import Any

from ipywidgets import HTML, BoundedIntText, Dropdown, HBox, Layout, VBox

from lab.experiment import Experiment
from lab.six_steps import SixSteps, Update
from widgets.notebook import text
from widgets.notebook.alerts import Alert
from widgets.notebook.numbers import SHOWN_VALUES, first, small, table
from widgets.notebook.staying import Stays

LAST_STEP = 99
"""That can be chosen: every step before it is computed again."""


class FormulaCheck(Stays, VBox):
    """Evaluates both sides of the formula for a step of a run, or of what an Experiment would be.

    The parameters, the batch and its shares are those of the run, and so are its gradients: the run's losses of that
    step are shown beside those that are found here. Computed on the CPU, whose results virtual GPUs share to the bit.
    With momentum the formula has it too, so that it holds in every step.

    Args:
        of: a run, or an Experiment.
        net: the module of your own that the run trains, if it does.
        step: counted from 0, as the run's are.
    """

    def __init__(self, of: Any = None, net: Any = None, parameter: str | None = None, step: int = 0) -> None:
        self._guard = threading.RLock()
        self.alert = Alert()
        self.updates: tuple[Update, ...] = ()
        """Both sides, for every parameter."""
        self.steps: SixSteps | None = None
        self._run = None if of is None or isinstance(of, Experiment) else of
        self._net = net
        self._experiment = of if isinstance(of, Experiment) else of.experiment if of is not None else Experiment()
        last = min(LAST_STEP, (self._experiment.steps or LAST_STEP + 1) - 1)
        self.step = BoundedIntText(step, min=0, max=last, description=text.FORMULA_STEP, layout=Layout(width="160px"))
        self.parameter = Dropdown(description=text.PARAMETER, layout=Layout(width="300px"))
        self.said = HTML()
        super().__init__([HBox([self.parameter, self.step]), self.alert, self.said])
        self._compute()
        self.parameter.options = [update.name for update in self.updates]
        if self.updates:
            names = self.parameter.options
            smallest = min(self.updates, key=lambda update: update.before.numel()).name
            self.parameter.value = parameter if parameter in names else smallest
        self.parameter.observe(lambda change: self._show(), "value")
        self.step.observe(lambda change: self._choose(), "value")
        self._show()

    def _choose(self) -> None:
        with self._guard:
            self._compute()
            self._show()

    def _compute(self) -> None:
        """Both sides, for the step that is chosen: from where the last one was, or from the beginning."""
        self.alert.clear()
        try:
            if self.steps is None or self.steps.round > self.step.value:
                self.steps = SixSteps(_placed(self._experiment, self._run), self._net)
            while self.steps.round < self.step.value:
                self.steps.finish()
                self.steps.advance()
            self.steps.finish()
            self.updates = tuple(self.steps.updates())
        except Exception as error:  # noqa: BLE001 - said in the widget, as everywhere in a panel
            self.alert.error(error)

    @property
    def difference(self) -> float:
        """Between both sides, the largest over all values of all parameters."""
        return max((update.difference for update in self.updates), default=0.0)

    def _show(self) -> None:
        with self._guard:
            steps = self.steps
            update = next((each for each in self.updates if each.name == self.parameter.value), None)
            if steps is None or update is None:
                return
            formula, mean = (text.FORMULA, "mean") if steps.ranks > 1 else (text.FORMULA_ONE, "∇L")
            if steps.experiment.momentum:
                formula += "<br>" + text.FORMULA_MOMENTUM.format(momentum=steps.experiment.momentum, mean=mean)
            lines = [self._summary(), *self._devices(), *self._losses()]
            shown = ""
            if update.before.numel() > SHOWN_VALUES:
                shown = text.SHOWN_VALUES.format(shown=SHOWN_VALUES, count=update.before.numel())
            self.said.value = (
                f'<div style="font-size:15px;font-family:serif">{formula}</div>{_table(update, steps)}'
                f'<p style="opacity:0.75">{shown}</p>' + "".join(f"<p>{html.escape(line)}</p>" for line in lines)
            )

    def _summary(self) -> str:
        count = sum(update.before.numel() for update in self.updates)
        return text.BOTH_SIDES.format(count=count, difference=small(self.difference))

    def _devices(self) -> list[str]:
        """Where layers are placed, each device does this to what it holds."""
        devices = dict.fromkeys(update.device for update in self.updates)
        if len(devices) < 2:
            return []
        lines = []
        for device in devices:
            own = [update for update in self.updates if update.device == device]
            difference = small(max(update.difference for update in own))
            count = sum(update.before.numel() for update in own)
            lines.append(text.PER_DEVICE.format(device=device, count=count, difference=difference))
        return lines

    def _losses(self) -> list[str]:
        """The run's own losses of that step beside those that were found here."""
        run = self._run
        if run is None or self.steps is None:
            return []
        with run.lock:
            series = [run.state.loss[rank] for rank in sorted(run.state.loss)]
            step = self.steps.round
            theirs = [each.y[step] for each in series if each.stride == 1 and list(each.x[step : step + 1]) == [step]]
        ours = self.steps.losses
        if len(theirs) == 1 < len(ours):  # one process computes the loss of all shares together
            ours = [sum(ours) / len(ours)]
        if len(theirs) != len(ours):
            return []
        return [
            text.COMPARED_LOSS.format(rank=rank, step=step, theirs=a, ours=b)
            for rank, (a, b) in enumerate(zip(theirs, ours, strict=True))
        ]


def _placed(experiment: Experiment, run: Any) -> Experiment:
    """With the layers where the run has them."""
    placed = run.state.placed if run is not None else None
    if experiment.placement is None or placed is None or experiment.world_size != 1:
        return experiment
    return experiment.replace(placement=dict(placed.layers))


def _table(update: Update, steps: SixSteps) -> str:
    several = len(update.gradients) > 1
    where = "" if several else f" on {update.device}"
    rows = [(f"θ before{where}", first(update.before))]
    rows += [(f"∇L{rank} of rank {rank}" if several else "∇L", first(g)) for rank, g in enumerate(update.gradients)]
    if several:
        rows.append(("their mean", first(update.mean)))
    mean, lr, momentum = "mean" if several else "∇L", steps.experiment.lr, steps.experiment.momentum
    if momentum:
        rows.append((f"v = {momentum:g} · v + {mean}" if steps.round else f"v = {mean}", first(update.velocity)))
    left, right = f"θ − {lr:g} · {'v' if momentum else mean}", "θ after the step"
    difference = (update.formula - update.after).flatten()[:SHOWN_VALUES].tolist()
    rows += [(left, first(update.formula)), (right, first(update.after))]
    rows.append(("difference", [small(value) for value in difference]))
    return table(rows, (left, right))
