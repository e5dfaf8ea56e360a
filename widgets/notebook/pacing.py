"""The panel's speed: how long a run stands still between steps, from its first step on, and changed while it goes."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from ipywidgets import Dropdown, Layout

from lab.errors import RunError
from widgets import pace
from widgets.notebook import text
from widgets.notebook.follow import exiting


class Speed(Dropdown):
    """Sets the pace of the run that it was given last. Everything is changed by a thread that ends at once: a run that
    is on its way to start can be changed only when its processes are there."""

    def __init__(self) -> None:
        self._run: Any = None
        self._steps = 0
        self._guard = threading.Lock()
        options = [(said, name) for name, said in text.SPEEDS.items()]
        super().__init__(
            options=options,
            value=pace.WATCH,
            description=text.SPEED,
            tooltip=text.SPEED_HINT,
            style={"description_width": "auto"},
            layout=Layout(width="240px"),
        )
        self.hurried = False
        self.slowed = False
        """Whether the run stood still between steps at some time."""
        self.observe(lambda change: self._set_in_thread(), "value")

    def drive(self, run: Any, steps: int, watched: bool = True) -> None:
        """Has a run that was just started go at this speed.

        Args:
            steps: that it makes in all, about.
            watched: False for one whose end somebody waits for.
        """
        self._run, self._steps, self.hurried, self.slowed = run, steps, not watched, False
        self._set_in_thread()

    def hurry(self) -> None:
        """At full speed to the end of this run, whatever the control says: somebody waits for it."""
        self.hurried = True
        self._set_in_thread()

    def seconds(self) -> float:
        """Between two steps of the run."""
        return 0.0 if self.hurried else pace.pause_s(self.value, self._steps)

    def _set_in_thread(self) -> None:
        run = self._run
        if run is not None and not run.done and not exiting():
            threading.Thread(target=self._set, args=(run,), name=f"lab-pace-{run.id}", daemon=True).start()

    def _set(self, run: Any) -> None:
        # One after another, each with what is wanted by then: so the last one sets what was wanted last.
        with self._guard, contextlib.suppress(RunError):  # it has ended before it began
            if run is not self._run:
                return
            seconds = self.seconds()
            if seconds or self.slowed:
                run.change(pause_s=seconds)
            self.slowed = self.slowed or seconds > 0
