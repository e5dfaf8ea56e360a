"""A run in a terminal: its devices, and what is left to read at its end."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lab.state import RunState
from lab.terminal._wording import DEVICE_COLOURS, bytes_text, clock_text, device_shares, seconds_text


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
