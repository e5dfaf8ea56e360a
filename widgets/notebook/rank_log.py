"""What happens to the ranks of a run, line by line: who joined, who waits, who failed and why."""

from __future__ import annotations

import html
import threading
import time
from collections import deque
from typing import Any

from ipywidgets import HTML

from lab.errors import counted
from lab.state import RunState
from widgets.figures import duration, human_bytes, human_count
from widgets.notebook import cells, text
from widgets.notebook.follow import Run, ThrownAway, follow, unfollow
from widgets.notebook.staying import Stays

KEPT_LINES = 200
PACE_SECONDS = 0.5


class RankLog(ThrownAway, Stays, HTML):
    """How far each rank has come, and below it what happened, oldest first."""

    def __init__(self, run: Run | None = None) -> None:
        self._guard = threading.RLock()
        self._due = 0.0
        self._run: Run | None = None
        self._log = Log()
        super().__init__()
        cells.watch_interrupts()
        self.show(run)

    @property
    def run(self) -> Run | None:
        return self._run

    def show(self, run: Run | None) -> None:
        """Follows another run from now on."""
        with self._guard:
            before, self._run = self._run, run
            if before is not run:
                self._log = Log()
            if before is not None and before is not run:
                unfollow(before, self)
        self.refresh(everything=True)
        if run is not None:
            follow(run, self)

    def refresh(self, everything: bool = False) -> None:
        """Writes down what is new."""
        with self._guard:
            now = time.monotonic()
            if now < self._due and not everything:
                return
            self._due = now + PACE_SECONDS
            if self._run is None:
                self.value = _page([text.NO_RUN], (), "")
                return
            with self._run.lock:
                self._log.read(self._run.state)
                page = _page(ranks(self._run.state), tuple(self._log.lines), _traceback(self._run.state))
            if page != self.value:
                self.value = page

    def close(self) -> None:
        with self._guard:
            run, self._run = self._run, None
        if run is not None:
            unfollow(run, self)
        super().close()


class Log:
    """Turns what a state has become, look by look, into lines."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._seen: set[Any] = set()

    def read(self, state: RunState) -> None:
        if state.started is not None:
            self._once("started", f"started: {state.started.net}, on {', '.join(state.device_names)}")
        if state.group is not None:
            group = state.group
            ranks, threads = counted(group.world_size, "rank"), counted(group.threads_per_rank, "thread")
            have = "has" if group.world_size == 1 else "have"
            self._once("group", f"{ranks} {have} joined by {group.backend}, each with {threads}")
        for layout in state.layouts:
            sizes = ", ".join(human_bytes(bucket.bytes).strip() for bucket in layout.buckets)
            buckets = counted(len(layout.buckets), "bucket")
            self._once(("buckets", layout.step), f"step {layout.step}: {buckets} of {sizes}")
        for tested in state.evaluations:
            self._once(("tested", tested.step), f"step {tested.step}: test accuracy {tested.accuracy:.2%}")
        if state.paused is not None:
            at = state.paused
            self._once(("paused", at.step, at.phase), f"step {at.step}: paused before {at.phase}")
        for failure in state.failures:
            kind = "root cause" if failure.primary else "because of that"
            self._once(("failed", failure.rank, failure.cause), f"rank {failure.rank} failed, {kind}: {failure.cause}")
        if state.failure is not None and state.failure.advice:
            self._once("advice", state.failure.advice)
        if state.finished is not None:
            last = state.finished
            self._once(
                "finished",
                f"{last.state} after {counted(last.steps, 'step')} in {last.wall_seconds:.1f} s of wall time",
            )

    def _once(self, key: Any, line: str) -> None:
        if key not in self._seen:
            self._seen.add(key)
            self.lines.append(line)


def ranks(state: RunState) -> list[str]:
    """A line for each rank: steps, loss, pace, and for how long the others waited for it."""
    if not state.ranks:
        return [text.NO_STEP]
    lines = []
    for rank, progress in sorted(state.ranks.items()):
        parts = [f"rank {rank}", counted(progress.steps, "step"), f"loss {progress.loss:.4f}"]
        if progress.samples_per_second:
            parts.append(f"{human_count(progress.samples_per_second).strip()} samples/s")
        if state.waited_for.get(rank):
            parts.append(f"others waited {duration(state.waited_for[rank])} for it")
        lines.append(" · ".join(parts))
    return lines


def _traceback(state: RunState) -> str:
    return state.failure.traceback if state.failure else ""


def _page(ranks: list[str], lines: tuple[str, ...], traceback: str) -> str:
    style = "margin:0;font-size:12px;line-height:1.5;white-space:pre-wrap;word-break:normal"
    style += ";color:inherit;background:transparent"
    shown = html.escape("\n".join([*ranks, *([""] if lines else []), *lines]))
    page = f'<pre role="log" style="{style}">{shown}</pre>'
    if traceback:
        page += (
            f"<details><summary>{text.TRACEBACK}</summary><pre style='{style}'>{html.escape(traceback)}</pre></details>"
        )
    return page
