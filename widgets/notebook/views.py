"""One figure of a run each: the loss, the timeline, the graph, the memory.

A view follows its run to the end and keeps the reader's zoom. It is light or dark as the notebook is. Give it another
run with `show`; or none, and it waits.
"""

from __future__ import annotations

import html
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from lab.state import RunState
from widgets import figures, plain
from widgets.notebook import cells, plotly_bundle, text
from widgets.notebook.follow import Run, follow, unfollow

if TYPE_CHECKING:
    import plotly.graph_objects as go

_STATIC = Path(__file__).parent / "static"


class View(anywidget.AnyWidget):
    """The figure of that name, live."""

    _esm = _STATIC / "view.js"
    _css = _STATIC / "view.css"
    NAME: ClassVar[str] = ""
    PACE_SECONDS: ClassVar[float] = 0.5
    """Least time between two drawings: a timeline that jumps ten times a second is not readable, a loss curve is."""

    figure = traitlets.Unicode("").tag(sync=True)
    """What is drawn, as JSON."""
    theme = traitlets.Enum(("light", "dark"), "light").tag(sync=True)
    """Set by the front end."""
    numbers = traitlets.Bool(False).tag(sync=True)
    """Whether the table below the figure is open."""
    step = traitlets.Int(None, allow_none=True).tag(sync=True)
    """For a timeline: the step that is shown; None follows the run."""
    bundle = traitlets.Unicode().tag(sync=True)
    words = traitlets.Dict(text.VIEW).tag(sync=True)

    def __init__(self, run: Run | None = None, **settings: Any) -> None:
        self._guard = threading.RLock()
        self._run: Run | None = None
        self._nothing = RunState()
        self._due = 0.0
        super().__init__(bundle=plotly_bundle.model_id(), **settings)
        self.observe(lambda change: self.refresh(everything=True), ["theme", "numbers", "step"])
        cells.watch_interrupts()
        self.show(run)

    @property
    def run(self) -> Run | None:
        return self._run

    def show(self, run: Run | None) -> None:
        """Follows another run from now on."""
        with self._guard:
            before, self._run = self._run, run
            if before is not None and before is not run:
                unfollow(before, self)
                self.step = None
        self.refresh(everything=True)
        if run is not None:
            follow(run, self)

    def refresh(self, everything: bool = False) -> None:
        """Draws what is new, if its time has come. Called by the thread that follows the run."""
        with self._guard:
            now = time.monotonic()
            if now < self._due and not everything:
                return
            self._due = now + self.PACE_SECONDS
            drawn = self._drawn()
            if drawn != self.figure:
                self.figure = drawn

    def _drawn(self) -> str:
        run = self._run
        if run is None:
            return self._json(self._nothing, "")
        with run.lock:
            return self._json(run.state, run.id)

    def _json(self, state: RunState, run_id: str) -> str:
        spec = figures.spec(state, self.NAME, self.theme, self.step)
        spec["layout"]["uirevision"] = run_id  # the zoom is kept as long as the run is the same
        spec["steps"] = self._steps(state)
        spec["table"] = self._table(state) if self.numbers else None
        return json.dumps(plain.finite(spec), ensure_ascii=False, separators=(",", ":"))

    def _table(self, state: RunState) -> dict[str, Any]:
        table = figures.table(state, self.NAME, self.step)
        note = text.LEFT_OUT.format(count=table.left_out) if table.left_out else ""
        return {"columns": table.columns, "rows": table.rows, "note": note}

    def _steps(self, state: RunState) -> list[int]:
        """The steps between which the reader can go."""
        return []

    def close(self) -> None:
        """Follows no run any more, and goes from the screen."""
        with self._guard:
            run, self._run = self._run, None
        if run is not None:
            unfollow(run, self)
        super().close()

    # -- where a notebook is only read -----------------------------------------------------------------------------

    def static(self) -> go.Figure:
        """The figure as it is now, as a plain Plotly figure that is kept in the notebook when it is displayed."""
        import plotly.graph_objects as go

        with self._guard:
            drawn = json.loads(self._drawn())
        return go.Figure({"data": drawn["data"], "layout": drawn["layout"]}).update_layout(template="none")

    def _repr_mimebundle_(self, **settings: Any) -> Any:
        bundle = super()._repr_mimebundle_(**settings)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "text/html": self._html()}, metadata

    def _html(self) -> str:
        """For front ends without widgets: the numbers behind the figure."""
        run = self._run
        if run is None:
            return f"<p>{html.escape(text.LIVE)}</p>"
        with run.lock:
            title = figures.spec(run.state, self.NAME, self.theme, self.step)["layout"]["title"]["text"]
            table = figures.table(run.state, self.NAME, self.step)
        if not table.rows:
            return f"<p>{html.escape(title)}. {html.escape(text.LIVE)}</p>"
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
        )
        return f"<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{rows}</table>"


class LossView(View):
    """The loss over steps, per rank, and the test set's where it was evaluated."""

    NAME = "loss"
    PACE_SECONDS = 0.15


class TimelineView(View):
    """What every device did in one step: the last one, or `view.step`."""

    NAME = "timeline"
    PACE_SECONDS = 1.0

    def _steps(self, state: RunState) -> list[int]:
        return [step for step in state.spans if step < state.step] if state.finished or state.paused else []


class GraphView(View):
    """Which layer lives where, and what crosses between devices."""

    NAME = "placement_graph"
    PACE_SECONDS = 1.0


class MemoryView(View):
    """Bytes in use on each device."""

    NAME = "memory"


class BusyView(View):
    """Each device's time by what it did, as shares of the whole run."""

    NAME = "busy"
    PACE_SECONDS = 1.0


class BreakdownView(View):
    """Where each rank's time went: computation, communication hidden beside it or exposed, waiting."""

    NAME = "breakdown"
    PACE_SECONDS = 1.0


class BucketView(View):
    """Which gradients ride in which bucket, before and after the rebuild, and how long each took in a step."""

    NAME = "buckets"
    PACE_SECONDS = 1.0
