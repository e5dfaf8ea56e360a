"""Everything in one cell: the controls, the placement, the buttons, and the figures of the run, live.

from widgets.notebook import LabPanel

panel = LabPanel(lab.Experiment(strategy="model_parallel"))
panel                       # shows it; Run starts a run, and other cells can be run meanwhile
panel.run.state.last_loss   # the run, as lab.start gives it
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ipywidgets import HTML, Accordion, Box, Button, FloatProgress, Layout, VBox

import lab
from lab.errors import LabError
from lab.experiment import Experiment
from lab.state import RunState
from widgets.figures import clock_name, clock_time, duration, smoothed_loss
from widgets.notebook import cells, text, views
from widgets.notebook.alerts import Alert
from widgets.notebook.alive import Alive
from widgets.notebook.controls import Controls
from widgets.notebook.drawing import Drawing
from widgets.notebook.follow import Run, ThrownAway, end, follow, unfollow
from widgets.notebook.insight import InsightView
from widgets.notebook.pacing import Speed
from widgets.notebook.rank_log import RankLog
from widgets.notebook.sent import sent
from widgets.notebook.staying import Stays

VIEWS: dict[str, Callable[[], Any]] = {
    "loss": views.LossView,
    "timeline": views.TimelineView,
    "graph": views.GraphView,
    "busy": views.BusyView,
    "breakdown": views.BreakdownView,
    "buckets": views.BucketView,
    "traffic": views.TrafficView,
    "memory": views.MemoryView,
    "log": RankLog,
}
MEASURED_SECONDS = 1.0
"""Between two times when the board shows what the run has found."""
_STEPS_OF_AN_EPOCH = 1_000
"""At least about so many, which is all that matters: nobody slows such a run down to watch it whole."""
# Where there is no Jupyter to click in, as on an exported page, it is not said.
_ONLY_IN_JUPYTER = (
    "<style>.parallel-lab-saved { display: none } .jp-NotebookPanel .parallel-lab-saved { display: block }</style>"
)
FIRST_VIEWS = ("loss", "timeline", "graph", "memory")


class LabPanel(ThrownAway, Stays, VBox):
    """A panel for any strategy.

    Args:
        experiment: what the controls begin with; the course's first run when left out.
        net: a module of your own, or a class or function that makes one, in place of the registry's.
        show: which figures, of `VIEWS`.

    Raises:
        LabError: for a figure that there is not.
    """

    _run: Run | None = None
    views: Mapping[str, Any] = MappingProxyType({})
    """The figures by name."""
    _viewers: tuple[Any, ...] = ()
    """Whatever follows the run beside the panel itself."""

    def __init__(
        self, experiment: Experiment | None = None, net: Any = None, show: Sequence[str] = FIRST_VIEWS
    ) -> None:
        unknown = [name for name in show if name not in VIEWS]
        if unknown:
            raise LabError(f"{unknown[0]!r} is not one of the panel's figures: {', '.join(VIEWS)}")
        self._guard = threading.RLock()
        self._net = net
        self._stopping = False
        self._told_failure = False
        self._measured_at = 0.0
        self.controls = Controls(experiment or Experiment(), net)
        self.buttons = {name: self._button(name) for name in ("run", "pause", "step", "stop")}
        self.status = HTML(_lines([text.READY]))
        self.alert = Alert()
        self.speed = Speed()
        self.progress = FloatProgress(0.0, min=0.0, max=1.0, layout=Layout(width="120px", flex="0 1 auto"))
        self.views = {name: VIEWS[name]() for name in show}
        for view in self._drawings():
            view.compact = True
        self.insight = InsightView()
        self._viewers = (*self.views.values(), self.insight)
        self._code = HTML()
        code = Accordion([self._code], titles=(text.CODE,))
        self.alive = Alive()
        bar = Box([*self.buttons.values(), self.speed, self.progress], layout=_row(align_items="center"))
        columns = "repeat(auto-fit, minmax(min(100%, 310px), 1fr))"
        grid = Layout(display="grid", grid_template_columns=columns, grid_gap="4px 10px", overflow="visible")
        figures = Box(list(self.views.values()), layout=grid)
        # Beside each other where there is room for both, else one below the other.
        self.controls.layout.flex, self.controls.layout.min_width = "1 1 300px", "min(100%, 280px)"
        figures.layout.flex, figures.layout.min_width = "999 1 540px", "min(100%, 310px)"
        beside = Box([self.controls, figures], layout=_row(align_items="flex-start"))
        children = [self.alive, bar, self.alert, self.status, beside, self.insight, code]
        super().__init__(children, layout=Layout(overflow="visible"))
        self.add_class("parallel-lab-panel")
        for view in self._drawings():
            view.observe(lambda change: self.keep_still(), "picture")
        self.controls.on_change(self._show_code)
        self.controls.more.inject.on_click(lambda _: self._safely(self._inject))
        self._show_code()
        self.refresh(everything=True)
        cells.replace_earlier(self)
        cells.watch_interrupts()
        threading.Thread(target=_warm_up, name="lab-warm-up", daemon=True).start()

    # -- for the user ------------------------------------------------------------------------------------------------

    @property
    def experiment(self) -> Experiment:
        """What the controls say now.

        Raises:
            ExperimentError: with every problem at once.
        """
        return self.controls.experiment()

    @property
    def run(self) -> Any:
        """The run that was started last; None before the first."""
        return self._run

    def code(self) -> str:
        """The Python that makes the same run."""
        return self.experiment.to_code()

    def start(self) -> None:
        """As Run does: starts a run and returns at once; one that goes on is stopped. Problems are shown."""
        self._safely(self._start)

    def stop(self) -> None:
        """As Stop does: asks the run to end, and returns at once."""
        self._safely(self._stop)

    def finished(self) -> Any:
        """The run after its end: waits for it, and starts one where nobody has pressed Run yet.

        A cell below the panel can so be run together with it: the figures move while it waits. The run goes on at full
        speed then, for nobody is to wait for what is slowed down to be watched.

        Raises:
            LabError: when no run can be started; the panel says why.
        """
        if self._run is None:
            self._safely(lambda: self._start(watched=False))
        run = self._run
        if run is None:
            raise LabError(text.NOT_STARTED)
        self.speed.hurry()
        run.wait()
        return run

    def still(self) -> str:
        """What was seen last, and that it is no more than that."""
        said = f"{_ONLY_IN_JUPYTER}<p class='parallel-lab-saved'>{html.escape(text.SAVED)}</p>"
        return said + super().still()

    def _drawings(self) -> list[Drawing]:
        return [view for view in self.views.values() if isinstance(view, Drawing)]

    def close(self) -> None:
        """Stops the run, and takes the panel and its figures from the screen."""
        run, self._run = self._run, None
        if run is not None:
            unfollow(run, self)
        end(run)
        for view in self._viewers:
            view.close()
        super().close()

    # -- what the buttons do -------------------------------------------------------------------------------------------

    def _start(self, watched: bool = True) -> None:
        experiment = self.controls.experiment()
        before, self._run = self._run, None
        if before is not None:
            unfollow(before, self)
        end(before)
        self._stopping = self._told_failure = False
        self._run = run = lab.start(experiment, self._net)
        self.speed.drive(run, experiment.steps or experiment.epochs * _STEPS_OF_AN_EPOCH, watched)
        self._show_code()
        for view in self._viewers:
            view.show(run)
        self.refresh(everything=True)
        follow(run, self)

    def _stop(self) -> None:
        if self._run is not None and not self._run.done:
            self._stopping = True
            self._run.stop()
            self.refresh(everything=True)

    def _pause(self) -> None:
        run = self.run
        if run is None or run.done or run.state.started is None:
            return
        if run.held:
            run.resume()
        else:
            run.pause()
        self.refresh(everything=True)

    def _step(self) -> None:
        run = self.run
        if run is not None and not run.done and run.state.started is not None:
            run.step()

    def _inject(self) -> None:
        """As "Do it now": what was chosen goes wrong in the run that goes on."""
        run, fault = self.run, self.controls.more.fault()
        if run is None or run.done or run.state.started is None:
            raise LabError(text.NOTHING_RUNS)
        run.inject(fault)

    def _button(self, name: str) -> Button:
        action = {"run": self._start, "pause": self._pause, "step": self._step, "stop": self._stop}[name]
        label = {"run": text.RUN, "pause": text.PAUSE, "step": text.STEP, "stop": text.STOP}[name]
        style = {"run": "primary", "stop": "danger"}.get(name, "")
        button = Button(description=label, tooltip=text.HINTS[name], button_style=style, layout=Layout(width="84px"))
        button.on_click(lambda _: self._safely(action))
        return button

    def _safely(self, action: Callable[[], None]) -> None:
        """Clicks may come on any thread; whatever goes wrong is said in the panel."""
        with self._guard:
            self.alert.clear()
            try:
                action()
            except Exception as error:  # noqa: BLE001 - a traceback from here would be lost in the kernel's log
                self.alert.error(error)
                self.refresh(everything=True)

    # -- what is shown -------------------------------------------------------------------------------------------------

    def refresh(self, everything: bool = False) -> None:
        """Shows how far the run is. Called by the thread that follows it."""
        with self._guard:
            run = self._run
            if run is None:
                self._enable(run=True)
                self.status.value = _lines([text.READY])
                return
            with run.lock:
                state = run.state
                words, numbers = _status(state, self._stopping and not run.done), _numbers(state)
                if state.finished is not None and self.speed.slowed:
                    words = text.SLOWED.format(finished=words)
                done = state.step / state.started.total_steps if state.started else 0.0
                failed, held = state.failure is not None, run.held
                live = state.started is not None and state.finished is None and not self._stopping
                now = time.monotonic()
                if everything or now > self._measured_at + MEASURED_SECONDS:
                    self._measured_at = now
                    self.controls.board.measured(state)
                if failed and not self._told_failure:
                    self._told_failure = True
                    self.alert.failure(state)
            self.progress.value = min(1.0, done)
            lines = [f"<b>{html.escape(words)}</b>", *map(html.escape, filter(None, numbers))]
            self.status.value = _lines(lines)
            self._enable(run=True, pause=live, step=live, stop=not run.done and not self._stopping)
            self.buttons["run"].description = text.AGAIN if run.done else text.RUN
            self.buttons["pause"].description = text.RESUME if held else text.PAUSE
            if run.done and everything:
                self.keep_still()

    def _enable(self, **buttons: bool) -> None:
        for name, button in self.buttons.items():
            button.disabled = not buttons.get(name, False)

    def _show_code(self) -> None:
        try:
            code = self.code()
        except LabError as error:
            code = f"# {error}"
        style = "white-space:pre-wrap;font-family:monospace;font-size:12px;line-height:1.4;margin:0"
        self._code.value = f"<pre style='{style}'>{html.escape(code)}</pre>"


def _lines(lines: Sequence[str]) -> str:
    """Close below each other, with room for all of them from the start: nothing below is to jump."""
    first, *rest = lines
    *numbers, source = rest or [""]
    inside = "<br>".join([first, *numbers, f"<span style='opacity:0.75'>{source}</span>"])
    return f"<div style='line-height:1.5;min-height:4.5em'>{inside}</div>"


def _status(state: RunState, stopping: bool) -> str:
    total = state.started.total_steps if state.started else 0
    if state.finished is not None:
        words = {"finished": text.FINISHED, "stopped": text.STOPPED, "failed": text.FAILED}[state.finished.state]
        return words.format(step=state.step, total=total, seconds=clock_time(state.finished.wall_seconds))
    if stopping:
        return text.STOPPING
    if state.paused is not None:
        return text.PAUSED.format(phase=state.paused.phase, step=state.paused.step)
    if state.started is None:
        return text.STARTING
    words = text.PREPARING if not state.step else text.RUNNING if state.step < total else text.TESTING
    return words.format(step=state.step, total=total)


def _numbers(state: RunState) -> list[str]:
    """The run's numbers, and where its data come from."""
    if state.started is None:
        return []
    source = state.started.data
    data = text.DATA.format(
        title=source.title, train=source.train_samples, test=source.test_samples, origin=source.origin
    )
    if not state.step or state.step_seconds is None:
        return [data]
    numbers = text.NUMBERS.format(
        loss=f"{smoothed_loss(state):.3f}",
        step_time=duration(state.step_seconds * 1e9),
        clock=clock_name(state.started.clock),
    )
    return [" · ".join(filter(None, [numbers, sent(state)])), data]


def _row(**layout: str) -> Layout:
    """Side by side, and below each other where there is no room."""
    return Layout(display="flex", flex_flow="row wrap", grid_gap="4px 12px", overflow="visible", **layout)


def _warm_up() -> None:
    """The first run starts as fast as others when torch is loaded already."""
    from lab.workers import launch

    launch.warm_up()
