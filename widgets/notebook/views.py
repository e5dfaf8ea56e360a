"""One figure of a run each: the loss, the timeline, the graph, the memory.

A view follows its run to the end and keeps the reader's zoom. It is light or dark as the notebook is. Give it another
run with `show`; or none, and it waits.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from lab.state import RunState
from widgets import figures
from widgets.figures import Table
from widgets.notebook import cells
from widgets.notebook.drawing import Drawing
from widgets.notebook.follow import Run, ThrownAway, follow, unfollow

LOW, COMPACT_SHARE = 236, 0.85
"""A figure that is high gives up some of it beside others, down to so many pixels."""


class View(ThrownAway, Drawing):
    """The figure of that name, live."""

    NAME: ClassVar[str] = ""
    PACE_SECONDS: ClassVar[float] = 0.5
    """Least time between two drawings: a timeline that jumps ten times a second is not readable, a loss curve is."""

    compact = False
    """Less high than by itself, so that several are on one screen."""

    def __init__(self, run: Run | None = None, **settings: Any) -> None:
        self._run: Run | None = None
        self._nothing = RunState()
        self._due = 0.0
        super().__init__(**settings)
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
            super().refresh()
            if everything:
                self.keep_still()

    def _drawn(self) -> str:
        run = self._run
        if run is None:
            return self._of_state(self._nothing, "")
        with run.lock:
            return self._of_state(run.state, run.id)

    def _of_state(self, state: RunState, run_id: str) -> str:
        spec = figures.spec(state, self.NAME, self.theme, self.step)
        spec["layout"]["uirevision"] = run_id  # the zoom is kept as long as the run is the same
        if self.compact:
            spec["layout"]["height"] = compacted(spec["layout"]["height"])
        table = figures.table(state, self.NAME, self.step) if self.numbers else None
        return self._json(spec, table, self._steps(state))

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

    def _title_and_table(self) -> tuple[str, Table | None]:
        run = self._run
        if run is None:
            return "", None
        with run.lock:
            title = figures.spec(run.state, self.NAME, self.theme, self.step)["layout"]["title"]["text"]
            return title, figures.table(run.state, self.NAME, self.step)


def compacted(height: int) -> int:
    """The height of a figure beside others, in pixels."""
    return min(height, max(LOW, round(COMPACT_SHARE * height)))


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


class TrafficView(View):
    """Bytes that each device sent to each other in one step: the last one, or `view.step`."""

    NAME = "traffic"
    PACE_SECONDS = 1.0
