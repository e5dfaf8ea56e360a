"""A run in a terminal: its devices, and what is left to read at its end."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lab import breakdown
from lab.events import DeviceInfo, GroupJoined, RankFailed
from lab.scaling import Scaled
from lab.stacks import readable
from lab.state import RunState
from lab.terminal._wording import (
    DEVICE_COLOURS,
    buckets_line,
    bytes_text,
    clock_text,
    device_shares,
    group_line,
    seconds_text,
    waiting_line,
)

LONGEST_CAUSE = 160
"""Characters of what another rank saw: it is rarely the reason."""


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
    devices = state.started.devices if state.started else ()
    for index, device in enumerate(devices):
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
    return Group(table, Text(_titles(devices), style="dim"))


def tables(state: RunState) -> RenderableType:
    """The ranks, where there are several, and the devices, where they hold different layers."""
    if state.group is None:
        return device_table(state)
    several = len(state.device_names) > state.group.world_size
    return Group(ranks_table(state, state.group), device_table(state)) if several else ranks_table(state, state.group)


def ranks_table(state: RunState, group: GroupJoined) -> RenderableType:
    """A row per rank: how far it is, how fast, and where its time goes. Fits 80 columns."""
    title = f"{group_line(group)}, {clock_text(state)}"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("rank", no_wrap=True)
    for name in ("step", "loss", "samples/s", "computes", "hidden", "communicates", "waits"):
        table.add_column(name, justify="right", no_wrap=True)
    devices = state.started.devices if state.started else ()
    for rank in range(group.world_size):
        progress, spent = state.ranks.get(rank), breakdown.of_rank(state, rank)
        row = ["", "", "", "", "", "", ""]
        if progress is not None:
            pace = progress.samples_per_second
            row[:3] = [f"{progress.steps}", f"{progress.loss:.4f}", f"{pace:,.0f}" if pace is not None else ""]
        if spent is not None:
            row[3:] = [
                f"{_bar(spent.busy)} {spent.busy:4.0%}",
                f"{spent.hidden:.0%}",
                f"{spent.communicating:.0%}",
                f"{spent.waiting:.0%}",
            ]
        table.add_row(Text(f"● {rank}", style=DEVICE_COLOURS[rank % len(DEVICE_COLOURS)]), *row)
    notes = ["hidden: communication beside computation, which takes no time of its own"]
    if state.layouts:
        notes.append(buckets_line(state.layouts[-1]))
    notes += [line for line in (waiting_line(state), _titles(devices)) if line]
    return Group(table, Text("\n".join(notes), style="dim"))


def _titles(devices: Sequence[DeviceInfo]) -> str:
    """What the devices are, each kind once."""
    titles: dict[str, list[str]] = {}
    for device in devices:
        title = device.title + (", simulated" if device.simulated else "")
        names = titles.setdefault(title, [])
        if (name := device.name.rpartition(" · ")[2]) not in names:
            names.append(name)
    return "\n".join(f"{', '.join(names)}: {title}" for title, names in titles.items())


def _bar(share: float, width: int = 8) -> str:
    filled = round(min(1.0, share) * width)
    return "█" * filled + "·" * (width - filled)


def scaling_table(rows: Sequence[Scaled]) -> Table:
    """A row per world size: step time, pace, speed-up and efficiency."""
    title = "The same global batch, shared by more ranks"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    for name in ("ranks", "step time", "samples/s", "speed-up", "efficiency"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row.world_size),
            seconds_text(row.step_seconds),
            f"{row.samples_per_second:,.0f}",
            f"{row.speedup:.2f}×",
            f"{row.efficiency:.0%}",
        )
    return table


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
    if state.group and state.pace is not None:
        figures.add_row("pace", f"{state.pace:,.0f} samples per second, all ranks together")
    if state.crossing_bytes is not None and state.group:
        figures.add_row("gradients", f"{bytes_text(state.crossing_bytes)} per step, averaged by all ranks")
    if state.sent_total and state.group:
        by = "by each rank" if len(state.sent_bytes) == state.world_size else "at most by each device"
        most, total = bytes_text(max(state.sent_bytes.values())), bytes_text(state.sent_total)
        figures.add_row("sent", f"{most} per step {by}, {total} in all")
    if finished:
        figures.add_row("took", f"{seconds_text(finished.wall_seconds)} of wall time")
    if state.crossing_bytes is not None and not state.group:
        basis = ", a forecast" if state.crossing_is_forecast else ""
        figures.add_row("between devices", f"{bytes_text(state.crossing_bytes)} per step, both ways together{basis}")
    if finished and finished.dropped_spans:
        figures.add_row("timeline", f"{finished.dropped_spans} spans were left out of it; the totals count them")
    heading = Text({"finished": "Finished", "stopped": "Stopped", "failed": "Failed"}.get(state.status, "Ended"))
    heading.stylize("bold green" if state.status == "finished" else "bold yellow")
    parts: list[RenderableType] = [Text(), heading, figures]
    if started and state.step:
        parts.append(tables(state))
    return Group(*parts)


def failure_text(state: RunState) -> str:
    """The root cause, the advice, what the other ranks saw, and where the ranks were."""
    failure = state.failure
    if failure is None:
        return "The run ended without saying why; its worker is gone."
    lines = [f"Failed: {failure.cause}"]
    if failure.advice:
        lines.append(f"Advice: {failure.advice}")
    others = state.failures[1:]
    if others:
        lines += [
            "",
            "What the other ranks saw:",
            *(f"  {_seen_by(each)}" for each in others),
        ]
    for each in state.failures:
        # What the others were doing is in what they saw; a second root cause would be worth its traceback.
        if each.traceback and (each is failure or each.primary):
            lines += ["", f"Where rank {each.rank} was:", readable(each.traceback)]
    return "\n".join(lines)


def _seen_by(failure: RankFailed) -> str:
    line = failure.cause.strip().partition("\n")[0]
    short = line if len(line) <= LONGEST_CAUSE else f"{line[: LONGEST_CAUSE - 1]}…"
    return short if short.startswith(f"rank {failure.rank}") else f"rank {failure.rank}: {short}"
