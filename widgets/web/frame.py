"""One frame of the page: what the instruments show, as one JSON text.

Figures are drawn anew each at its own pace: a timeline that jumps five times a second is not readable, a loss curve is.
A frame has only what has changed since the tab drew (`parts.py`). Figures carry a revision, so that the browser leaves
the others alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from lab import strategies
from lab.experiment import Experiment
from lab.state import KEPT_STEPS, RunState
from widgets import board, figures, languages
from widgets.figures import clock_time, duration, human_bytes
from widgets.web import alert, history, presets, takeaway, text, told
from widgets.web.parts import Parts
from widgets.web.session import Session

PACE_SECONDS = {
    "timeline": 1.0,
    "loss": 0.2,
    "breakdown": 1.0,
    "busy": 1.0,
    "buckets": 1.0,
    "placement_graph": 1.0,
    "traffic": 1.0,
    "memory": 0.5,
    "compare": 1.0,
    "insight": 2.0,
}
TITLE_PX = 28
"""Height of the title in a figure."""
RUNNING = ("starting", "running", "paused")


class Painter:
    """Draws the frames of one run, or of no run at all.

    Args:
        run_id: a new one makes the charts forget their zoom.
        experiment: what is shown as code.
        lock: held while `state` is read.
    """

    def __init__(
        self,
        run_id: str,
        experiment: Experiment,
        state: RunState | None = None,
        lock: Any = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._id = run_id
        self._experiment = experiment
        self._state = state or RunState()
        self._lock = lock or threading.RLock()
        self._now = now
        self._parts = Parts()
        self._due: dict[str, float] = {}
        self._look: tuple[Any, ...] = ()
        self._revisions: dict[str, int] = {}
        self._tabled: dict[str, int] = {}
        """Figure -> its revision when its table was made."""
        self._cards: list[str] = []
        self._compared: dict[str, Any] | None = None
        self._told: dict[str, Any] = {}
        self._began: tuple[float, int] | None = None
        self._texts = takeaway.texts(experiment)
        self._preset = presets.shown(experiment)

    def paint(self, session: Session, status: str | None = None, last: bool = False) -> str:
        """The frame as JSON; `status` overrides what the state says, `last` draws every figure whatever its pace."""
        with session.painting, self._lock:
            state = self._state
            session.sent += 1
            if session.shows[0] != self._id:
                session.shows = (self._id, session.sent)
            self._draw(session, last)
            shown = {
                "theme": session.theme,
                "live": state.status in RUNNING and state.started is not None,
                "status": _status(state, session, status, self._experiment),
                "eta": self._eta(state),
                "progress": _progress(state),
                "data": _data(state),
                "kpis": kpis(state),
                "steps": _steps(state),
                "insight": self._told,
                "predict": session.guesses.show(self._id, state, session.earlier),
                "preset": self._preset,
                "lesson": text.LESSONS[self._experiment.strategy],
                **self._texts,
                "board": board.measured(state),
                "alert": alert.of(session, state),
                "cards": self._cards,
                "compare": self._compared,
                "revisions": self._revisions,
            }
            for name, value in shown.items():
                self._parts.note(name, value, session.sent)
            # A tab whose last frame was another run's has nothing of this one to build on.
            drawn = session.drawn if session.drawn >= session.shows[1] else 0
            return self._parts.since(drawn, token=session.token, number=session.sent, run=self._id)

    def _draw(self, session: Session, everything: bool) -> None:
        look = (session.theme, session.step, session.history.chosen, languages.current(), reached(self._state))
        everything |= look != self._look
        self._look = look
        now = self._now()
        names = figures.applicable(self._state, strategies.REGISTRY[self._experiment.strategy].several_ranks)
        for name in names:
            if everything or now >= self._due.get(name, 0.0):
                self._due[name] = now + PACE_SECONDS[name]
                self._draw_one(session, name)
        if everything or now >= self._due.get("compare", 0.0):
            self._due["compare"] = now + PACE_SECONDS["compare"]
            self._compare(session)
        if everything or now >= self._due.get("insight", 0.0):
            self._due["insight"] = now + PACE_SECONDS["insight"]
            self._told = told.tell(self._state, session.earlier)
        self._cards = [*names, *(["compare"] if self._compared else [])]
        for name in session.tables.intersection(names):
            if self._tabled.get(name) != self._revisions[name]:
                self._tabled[name] = self._revisions[name]
                self._parts.note(f"tables/{name}", _table(self._state, name, session.step), session.sent)

    def _draw_one(self, session: Session, name: str) -> None:
        earlier = session.history.ghosts(self._id, self._experiment) if name == "loss" else ()
        self._note(session, name, figures.spec(self._state, name, session.theme, session.step, earlier))

    def _compare(self, session: Session) -> None:
        """Two of the tab's runs beside each other, as soon as it has had two."""
        now = session.history.look(self._id, self._experiment, self._state)
        pair = session.history.pair(now)
        if pair is None:
            return
        self._note(session, "compare", figures.comparison(history.compared(*pair), session.theme))
        columns, rows = history.table(*pair)
        self._compared = {
            "runs": [(each.run_id, history.label(each, self._experiment)) for each in session.history.all(now)],
            "chosen": [each.run_id for each in pair],
            "columns": columns,
            "rows": rows,
        }

    def _note(self, session: Session, name: str, spec: figures.Spec) -> None:
        layout = {**spec["layout"], "uirevision": self._id}
        title = layout.pop("title")["text"]
        # The card around the chart has the title.
        layout["margin"] = {**layout["margin"], "t": max(8, layout["margin"]["t"] - TITLE_PX)}
        height = layout.pop("height") - TITLE_PX
        drawn = {"title": title.partition(" · ")[2], "height": height, "data": spec["data"], "layout": layout}
        if self._parts.note(f"figures/{name}", drawn, session.sent):
            self._revisions[name] = self._revisions.get(name, 0) + 1

    def _eta(self, state: RunState) -> str:
        """From the pace since the first step was seen, on the wall clock."""
        if state.started is None or state.status != "running" or not 0 < state.step < state.started.total_steps:
            return ""
        if self._began is None:
            self._began = (self._now(), state.step)
        seconds, steps = self._now() - self._began[0], state.step - self._began[1]
        if seconds < 1 or not steps:
            return ""
        return text.TIME_LEFT.format(time=clock_time((state.started.total_steps - state.step) * seconds / steps))


def reached(state: RunState) -> tuple[bool, ...]:
    """What there is to show. It grows a few times at the start of a run, when the reader waits for it."""
    return state.started is not None, state.graph is not None, state.step > 0, state.timeline_step is not None


def kpis(state: RunState) -> dict[str, tuple[str, str]]:
    """Name -> (the number, what it is of)."""
    nothing = (text.NO_VALUE, text.NOTHING_YET if state.started is None else "")
    shown = dict.fromkeys(("loss", "step_time", "waiting", "crossing"), nothing)
    if state.loss and state.last_loss is not None:
        shown["loss"] = (_number(figures.smoothed_loss(state)), text.OF_STEP.format(step=state.step))
    if state.started and state.step_seconds is not None:
        clock = figures.clock_name(state.started.clock)
        if state.group and state.pace:
            clock = text.SAMPLES.format(clock=clock, pace=state.pace)
        shown["step_time"] = (duration(state.step_seconds * 1e9), clock)
    idle = figures.idle_share(state)
    if idle is not None:
        count = state.world_size if state.group else len(state.device_names)
        one, several = (text.OF_ONE_RANK, text.OF_RANKS) if state.group else (text.OF_ONE_DEVICE, text.OF_DEVICES)
        of = one if count == 1 else several.format(count=count)
        shown["waiting"] = (f"{idle:.0%}", of)
    crossing = state.crossing_bytes
    if crossing is not None and (state.group or not alert.several_ranks(state)):
        both_ways = text.FORECAST_PER_STEP if state.crossing_is_forecast else text.PER_STEP
        of = text.GRADIENTS if state.group else both_ways if crossing else text.NOTHING_CROSSES
        shown["crossing"] = (human_bytes(crossing), of)
    return shown


def _status(state: RunState, session: Session, override: str | None, experiment: Experiment) -> dict[str, str]:
    total = state.started.total_steps if state.started else 0
    numbers = {"step": state.step, "total": total}
    if override:
        waits = session.lease is not None and not session.lease.granted
        kind = "waiting" if waits else "starting" if override == text.STARTING else "ready"
        return {"state": kind, "text": override}
    if state.finished is not None:
        seconds = clock_time(state.finished.wall_seconds)
        if session.time_is_up and state.finished.state == "stopped":
            return {"state": "stopped", "text": text.TIME_IS_UP.format(time=clock_time(state.finished.wall_seconds))}
        words = {"finished": text.FINISHED, "stopped": text.STOPPED, "failed": text.FAILED}[state.finished.state]
        return {"state": state.finished.state, "text": words.format(**numbers, seconds=seconds)}
    if session.stopping:
        return {"state": "stopping", "text": text.STOPPING}
    if state.started is None:
        count = experiment.world_size or 1
        return {"state": "starting", "text": text.STARTING_RANKS.format(count=count) if count > 1 else text.STARTING}
    if state.paused is not None:
        words = text.PAUSED.format(phase=text.PHASES[state.paused.phase], step=state.paused.step, total=total)
        return {"state": "paused", "text": words}
    words = text.PREPARING if not state.step else text.RUNNING if state.step < total else text.TESTING
    return {"state": "running", "text": words.format(**numbers)}


def _progress(state: RunState) -> float:
    return min(1.0, state.step / state.started.total_steps) if state.started and state.started.total_steps else 0.0


def _data(state: RunState) -> str:
    if state.started is None:
        return ""
    source = state.started.data
    return text.DATA.format(
        title=source.title,
        train=source.train_samples,
        test=source.test_samples,
        origin=text.ORIGINS.get(source.name, source.origin),
    )


def _steps(state: RunState) -> list[int]:
    """The steps among which the timeline can go, once it stands still."""
    still = state.finished or state.paused
    return sorted(step for step in state.spans if step < state.step)[-KEPT_STEPS:] if still else []


def _table(state: RunState, name: str, step: int | None) -> dict[str, Any]:
    table = figures.table(state, name, step if name in figures.OF_STEP else None)
    note = text.LEFT_OUT.format(count=table.left_out) if table.left_out else ""
    return {"columns": table.columns, "rows": table.rows, "note": note}


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"
