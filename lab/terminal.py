"""What a run looks like in a terminal: a live table, plain lines where there is no terminal, and the summary.

Views read events and RunState; they never train.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lab import checks, nets
from lab.events import DeviceInfo, Evaluated, Event, Placed, RunStarted, StepFinished, to_json
from lab.state import RunState

if TYPE_CHECKING:
    from lab.experiment import Experiment
    from lab.vgpu.links import NamedLink
from lab.vgpu.profiles import Profile

REDRAWS_PER_SECOND = 8
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""Seconds between two lines: a tenth of the time so far, within these bounds, so that long logs stay short."""
DEVICE_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
"""Okabe and Ito's palette, its brighter colours first: a terminal is mostly dark."""
_BLOCKS = "▁▂▃▄▅▆▇█"


class PipeConsole(Console):
    """A console whose reader may leave: it says so with BrokenPipeError, and leaves the exit to the caller."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class View(Protocol):
    """Sees every event in order. Entered before the first and left after the last."""

    def see(self, event: Event) -> None: ...
    def __enter__(self) -> View: ...
    def __exit__(self, *error: object) -> None: ...


# -- figures as people read them ---------------------------------------------------------------------------------


def bytes_text(count: float) -> str:
    """`368.6 kB`: powers of 1000, as the profiles have them."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def seconds_text(seconds: float) -> str:
    """`1.27 ms`, `12.3 s`, `4 min 05 s`."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def clock_text(state: RunState) -> str:
    """The clock, with "simulated" for the virtual one."""
    clock = state.started.clock if state.started else "wall"
    return "simulated (virtual clock)" if clock == "virtual" else f"{clock} clock"


def sparkline(values: Sequence[float], width: int = 48) -> str:
    """A curve in one line of text; points that are not finite are left blank."""
    shown = list(values[:: max(1, len(values) // width)])[-width:]
    finite = [value for value in shown if abs(value) < float("inf")]
    if not finite:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return "".join(
        _BLOCKS[round((value - low) / span * (len(_BLOCKS) - 1))] if abs(value) < float("inf") else " "
        for value in shown
    )


@dataclass(frozen=True, slots=True)
class Shares:
    """How a device spent its time, as parts of 1."""

    busy: float
    transfer: float
    waiting: float


def device_shares(state: RunState, device: str) -> Shares:
    """Of the whole run: the worker's own totals once it has finished, until then those of the spans seen so far."""
    if state.finished and device in state.finished.totals:
        totals = state.finished.totals[device]
        busy, moved = totals.busy_ns, totals.transfer_ns + totals.collective_ns
        whole = busy + moved + totals.idle_ns
    else:
        shares = state.shares(device)
        carried, idle = shares.get("transfer", 0.0) + shares.get("collective", 0.0), shares.get("wait", 0.0)
        return Shares(sum(shares.values()) - carried - idle, carried, idle)
    if not whole:
        return Shares(0.0, 0.0, 0.0)
    return Shares(busy / whole, moved / whole, max(0.0, 1 - (busy + moved) / whole))


def notes(experiment: Experiment) -> list[str]:
    """What a reader should know about the numbers to come."""
    entry = nets.REGISTRY.get(experiment.net)
    if entry and entry.batch_norm and experiment.microbatches > 1:
        return [
            f"{experiment.net!r} has batch norm, which sees each microbatch alone: with microbatches="
            f"{experiment.microbatches} its losses rightly differ from those of the whole batch."
        ]
    if entry and entry.batch_norm and experiment.strategy == "data_parallel" and len(experiment.devices) > 1:
        return [
            f"{experiment.net!r} has batch norm, which sees each device's part of the batch alone: its losses rightly "
            "differ from those of one device."
        ]
    return []


# -- pieces ------------------------------------------------------------------------------------------------------


def headline(started: RunStarted) -> str:
    experiment = started.experiment
    names = ", ".join(device.name for device in started.devices)
    split = f", {experiment['microbatches']} microbatches" if experiment.get("microbatches", 1) > 1 else ""
    return f"{started.net} · {experiment['strategy']} on {names} · batch {experiment['batch_size']}{split}"


def data_line(started: RunStarted) -> str:
    data = started.data
    return f"Data: {data.title}, {data.train_samples} training and {data.test_samples} test samples; {data.origin}"


def device_table(state: RunState) -> RenderableType:
    """A row per device: how it spent its time, its memory and its layers. Fits 80 columns."""
    table = Table(title=f"Devices, times {clock_text(state)}", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("device", no_wrap=True)
    for name in ("busy", "transfer", "waiting"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("peak memory", justify="right", no_wrap=True)
    table.add_column("layers", overflow="fold")
    placed = state.placed.layers if state.placed else {}
    copies = state.placed.copies if state.placed else ()
    titles: dict[str, list[str]] = {}
    for index, device in enumerate(state.started.devices if state.started else ()):
        shares, memory = device_shares(state, device.name), state.memory.get(device.name)
        table.add_row(
            Text(f"● {device.name}", style=DEVICE_COLOURS[index % len(DEVICE_COLOURS)]),
            f"{_bar(shares.busy)} {shares.busy:4.0%}",
            f"{shares.transfer:.0%}",
            f"{shares.waiting:.0%}",
            f"{bytes_text(memory.peak if memory else 0)} / {bytes_text(device.memory_bytes)}",
            "a copy of all"
            if device.name in copies
            else escape(", ".join(layer for layer, home in placed.items() if home == device.name)),
        )
        titles.setdefault(device.title + (", simulated" if device.simulated else ""), []).append(device.name)
    lines = [f"{', '.join(names)}: {title}" for title, names in titles.items()]
    return Group(table, Text("\n".join(lines), style="dim"))


def _bar(share: float, width: int = 8) -> str:
    filled = round(min(1.0, share) * width)
    return "█" * filled + "·" * (width - filled)


def summary(state: RunState) -> RenderableType:
    """What is left to read when a run has ended."""
    finished, started = state.finished, state.started
    figures = Table.grid(padding=(0, 2))
    figures.add_row("steps", f"{state.step}" + (f" of {started.total_steps}" if started else ""))
    if state.last_loss is not None:
        figures.add_row("training loss", f"{state.last_loss:.4f} at the last step")
    if state.evaluations:
        last = state.evaluations[-1]
        figures.add_row("test accuracy", f"{last.accuracy:.2%}, test loss {last.loss:.4f}, {last.samples} samples")
    if state.step_seconds is not None:
        figures.add_row("time per step", f"{seconds_text(state.step_seconds)}, {clock_text(state)}")
    if finished:
        figures.add_row("took", f"{seconds_text(finished.wall_seconds)} of wall time")
    if state.crossing_bytes is not None:
        figures.add_row("between devices", f"{bytes_text(state.crossing_bytes)} per step, both ways together")
    if finished and finished.dropped_spans:
        figures.add_row("timeline", f"{finished.dropped_spans} spans were left out of it; the totals count them")
    heading = Text({"finished": "Finished", "stopped": "Stopped", "failed": "Failed"}.get(state.status, "Ended"))
    heading.stylize("bold green" if state.status == "finished" else "bold yellow")
    parts: list[RenderableType] = [Text(), heading, figures]
    if started and state.step:
        parts.append(device_table(state))
    return Group(*parts)


def failure_text(state: RunState) -> str:
    """The root cause, the advice and every traceback of a failed run."""
    failure = state.failure
    if failure is None:
        return "The run ended without saying why; its worker is gone."
    parts = [f"rank {each.rank}:\n{each.traceback.rstrip()}" for each in state.failures if each.traceback]
    parts.append(f"Failed: {failure.cause}")
    if failure.advice:
        parts.append(f"Advice: {failure.advice}")
    return "\n\n".join(parts)


def devices_table(real: Sequence[DeviceInfo]) -> Table:
    """The real devices here, and the virtual GPUs that are always there."""
    table = Table(title="Devices", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    table.add_column("memory", justify="right", no_wrap=True)
    for device in real:
        table.add_row(device.name, escape(device.title), bytes_text(device.memory_bytes))
    last = f"vgpu:{checks.MAX_VGPUS - 1}"
    table.add_row(f"vgpu:0 to {last}", "virtual GPU: computes on the CPU, its times are simulated", "as its profile")
    return table


def hardware_table(hardware: Sequence[Profile]) -> RenderableType:
    """What a virtual GPU can pretend to be, with every figure's source."""
    table = Table(
        title="Hardware profiles of virtual GPUs (--hardware)", title_justify="left", title_style="bold", box=box.SIMPLE
    )
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for heading in ("timing", "float32", "memory", "link"):
        table.add_column(heading, justify="right", no_wrap=True)
    for profile in hardware:
        labelled = "" if not profile.fictional or "fictional" in profile.title else " (fictional)"
        table.add_row(
            profile.name,
            escape(profile.title + labelled),
            profile.timing,
            f"{profile.peak_tflops['float32']:g} TFLOP/s",
            f"{profile.memory_gb:g} GB at {profile.memory_gb_per_s:g} GB/s",
            f"{profile.link_gb_per_s:g} GB/s",
        )
    return Group(table, *(Text(f"{profile.name}: {profile.source}", style="dim") for profile in hardware))


def profile_table(profile: Profile) -> RenderableType:
    """Every figure of one profile."""
    table = Table(title=escape(profile.title), title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("what", no_wrap=True)
    table.add_column("figure", justify="right", no_wrap=True)
    for dtype, tflops in profile.peak_tflops.items():
        table.add_row(f"peak in {dtype}", f"{tflops:g} TFLOP/s")
    table.add_row("memory", f"{profile.memory_gb:g} GB at {profile.memory_gb_per_s:g} GB/s")
    table.add_row("launch of an operation", f"{profile.launch_us:g} µs")
    table.add_row("issue by the host", f"{profile.issue_us:g} µs")
    table.add_row("link to another", f"{profile.link_gb_per_s:g} GB/s")
    table.add_row("link to the host", f"{profile.host_link_gb_per_s:g} GB/s after {profile.link_latency_us:g} µs")
    return Group(table, Text(profile.source, style="dim"))


def links_table(named: Sequence[NamedLink]) -> RenderableType:
    """What a link between virtual GPUs can pretend to be, with every figure's source."""
    table = Table(title="Links between virtual GPUs (--link)", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for heading in ("one direction", "latency"):
        table.add_column(heading, justify="right", no_wrap=True)
    for link in named:
        table.add_row(link.name, escape(link.title), f"{link.gb_per_s:g} GB/s", f"{link.latency_us:g} µs")
    return Group(table, *(Text(f"{link.name}: {link.source}", style="dim") for link in named))


# -- views -------------------------------------------------------------------------------------------------------


class JsonView:
    """Every event as a line of JSON, and nothing else."""

    def see(self, event: Event) -> None:
        sys.stdout.write(to_json(event) + "\n")
        sys.stdout.flush()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class LineView:
    """A line now and then, for logs and pipes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total = 0
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
        elif isinstance(event, StepFinished):
            self._step(event)
        elif isinstance(event, Evaluated):
            when = f"after step {event.step + 1}" if self._in_steps else f"epoch {event.epoch + 1}"
            self._say(f"{when}: test accuracy {event.accuracy:.2%}, test loss {event.loss:.4f}")

    def _step(self, event: StepFinished) -> None:
        now, done = self._clock(), event.step + 1
        if self._began is None:
            self._began = (now, done)
        if now < self._due and done != self._total:
            return
        since, first = self._began
        self._due = now + min(LONGEST_PAUSE, max(SHORTEST_PAUSE, (now - since) / 10))
        left = (now - since) / (done - first) * (self._total - done) if done > first else None
        eta = f"  ETA {seconds_text(left)}" if left else ""
        self._say(f"step {done}/{self._total}  loss {event.loss:.4f}{eta}")

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
                curve = state.loss[min(state.loss)].y
                loss = Text(f"loss {state.last_loss:.4f}  {sparkline(curve)}")
            if state.evaluations:
                loss.append(f"  test accuracy {state.evaluations[-1].accuracy:.2%}", style="bold")
            if state.placed and state.placed.method != "given":
                loss = Text(f"{state.placed.reason}\n").append_text(loss)
            title, data = Text(headline(state.started), style="bold"), Text(data_line(state.started), style="dim")
            return Group(title, data, self._progress.get_renderable(), loss, device_table(state))

    def see(self, event: Event) -> None:
        """The state has it already."""

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
