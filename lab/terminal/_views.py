"""What shows a run while it goes on: a live table, plain lines where there is no terminal, or JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from lab.events import (
    BucketsBuilt,
    Changed,
    Evaluated,
    Event,
    GroupJoined,
    Paused,
    Placed,
    Resumed,
    RunStarted,
    StepFinished,
    to_json,
)
from lab.state import RunState
from lab.terminal._run import tables
from lab.terminal._wording import buckets_line, data_line, group_line, headline, seconds_text, sparkline

REDRAWS_PER_SECOND = 8
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""Seconds between two lines: a tenth of the time so far, within these bounds, so that long logs stay short."""


class PipeConsole(Console):
    """A console whose reader may leave: it says so with BrokenPipeError, and leaves the exit to the caller."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class View(Protocol):
    """Sees every event in order. Entered before the first and left after the last."""

    def see(self, event: Event) -> None: ...
    def __enter__(self) -> View: ...
    def __exit__(self, *error: object) -> None: ...


class JsonView:
    """Every event as a line of JSON, and nothing else."""

    def see(self, event: Event) -> None:
        sys.stdout.write(to_json(event) + "\n")
        sys.stdout.flush()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def paused_line(paused: Paused) -> str:
    return f"paused before {paused.phase} of step {paused.step}"


class LineView:
    """A line now and then, for logs and pipes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total = 0
        self._world_size = 1
        self._losses: dict[int, dict[int, float]] = {}
        """Step -> rank -> loss, of steps that some ranks have not finished yet."""
        self._in_steps = False
        """Whether the run's length was given in steps: it may end in the middle of an epoch."""
        self._began: tuple[float, int] | None = None
        self._due = 0.0

    def see(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._total, self._in_steps = event.total_steps, event.experiment.get("steps") is not None
            simulated = ", times are simulated" if event.clock == "virtual" else ""
            self._say(headline(event) + simulated, data_line(event))
        elif isinstance(event, Placed) and event.method != "given":
            self._say(event.reason)
        elif isinstance(event, GroupJoined):
            self._world_size = event.world_size
            self._say(group_line(event))
        elif isinstance(event, BucketsBuilt):
            self._say(buckets_line(event))
        elif isinstance(event, Paused):
            self._say(paused_line(event))
        elif isinstance(event, Resumed):
            self._say(f"resumed in step {event.step}")
        elif isinstance(event, Changed):
            settings = ", ".join(f"{name} {value}" for name, value in event.settings.items())
            self._say(f"from step {event.step} on: {settings}")
        elif isinstance(event, StepFinished):
            self._step(event)
        elif isinstance(event, Evaluated):
            when = f"after step {event.step + 1}" if self._in_steps else f"epoch {event.epoch + 1}"
            self._say(f"{when}: test accuracy {event.accuracy:.2%}, test loss {event.loss:.4f}")

    def _step(self, event: StepFinished) -> None:
        losses = self._losses.setdefault(event.step, {})
        losses[event.rank] = event.loss
        if len(losses) < self._world_size:
            return
        del self._losses[event.step]
        now, done = self._clock(), event.step + 1
        if self._began is None:
            self._began = (now, done)
        if now < self._due and done != self._total:
            return
        since, first = self._began
        self._due = now + min(LONGEST_PAUSE, max(SHORTEST_PAUSE, (now - since) / 10))
        left = (now - since) / (done - first) * (self._total - done) if done > first else None
        eta = f"  ETA {seconds_text(left)}" if left else ""
        loss = sum(losses.values()) / len(losses)
        each = f"  ranks {' '.join(f'{losses[rank]:.4f}' for rank in sorted(losses))}" if len(losses) > 1 else ""
        self._say(f"step {done}/{self._total}  loss {loss:.4f}{each}{eta}")

    def _say(self, *lines: str) -> None:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class LiveView:
    """Progress, loss and a table of devices, redrawn in place from a thread of rich's."""

    def __init__(self, state: RunState, console: Console, lock: AbstractContextManager[object] | None = None) -> None:
        self._state = state
        self._lock = lock or nullcontext()
        self._progress = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("steps", total=None)
        self._live = Live(
            get_renderable=self.draw, console=console, refresh_per_second=REDRAWS_PER_SECOND, transient=True
        )

    def draw(self) -> RenderableType:
        with self._lock:
            state = self._state
            if state.started is None:
                return Text("Starting a worker and loading the data ...")
            self._progress.update(self._task, completed=state.step, total=state.started.total_steps)
            loss = Text("loss waits for the first step")
            if state.last_loss is not None:
                name = "mean loss" if state.group else "loss"
                loss = Text(f"{name} {state.last_loss:.4f}  {sparkline(state.mean_loss.y)}")
            if state.evaluations:
                loss.append(f"  test accuracy {state.evaluations[-1].accuracy:.2%}", style="bold")
            if state.placed and state.placed.method != "given":
                loss = Text(f"{state.placed.reason}\n").append_text(loss)
            if state.paused:
                loss = Text(f"{paused_line(state.paused).capitalize()}\n", style="bold").append_text(loss)
            title, data = Text(headline(state.started), style="bold"), Text(data_line(state.started), style="dim")
            return Group(title, data, self._progress.get_renderable(), loss, tables(state))

    def see(self, event: Event) -> None:
        """The state has it already."""

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
