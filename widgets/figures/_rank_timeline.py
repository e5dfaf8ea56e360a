"""What every rank did in one step: for each device a lane for computation and under it one for communication, so that
what goes on at once stands one above the other. A collective that a rank waits in is split at the moment when the last
rank came: before it nothing could move.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from lab.events import SPAN_KINDS, Span
from lab.state import RunState
from lab.timing.meetings import meetings
from lab.timing.overlap import merged
from widgets.figures import _bars as drawing
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._theme import Spec, Theme
from widgets.figures._units import human_bytes, time_unit

LANE_HEIGHT, TALLEST = 82, 760
COMPUTE, COMMUNICATE = -0.17, 0.26
"""Where the two lanes of a device are, from the middle of what it has."""
COMPUTE_WIDTH, COMMUNICATE_WIDTH = 0.46, 0.32


def timeline(state: RunState, theme: Theme, step: int | None) -> Spec:
    """The spans of `step`; of the last one that all ranks have finished when it is None."""
    step = state.timeline_step if step is None else step
    devices = theming.lanes(state)
    height = 104 + min(LANE_HEIGHT * max(2, len(devices)), TALLEST)
    computing, sending = lanes_of(state, step, devices) if step is not None else ([], [])
    if not computing:
        return theming.empty(theme, words.TITLES["timeline"], height, words.FIRST_COMMON_STEP)
    palette = theming.PALETTES[theme]
    first = min(span.start_ns for span in computing)
    whole = max(span.end_ns for span in [*computing, *sending]) - first
    unit, symbol = time_unit(whole)
    end = whole / unit or 1.0
    upper = {name: index + COMPUTE for index, name in enumerate(devices)}
    lower = {name: index + COMMUNICATE for index, name in enumerate(devices)}
    talking = [name for name in devices if any(span.device == name for span in sending)]
    shapes = [drawing.track(at, end, palette.track, COMPUTE_WIDTH) for at in upper.values()]
    shapes += [drawing.track(lower[name], end, palette.track, COMMUNICATE_WIDTH) for name in talking]
    simulated = words.SIMULATED if theming.simulated(state) else ""
    figure = theming.base(
        theme,
        f"{words.TITLES['timeline']} · {words.OF_STEP.format(step=step)}{theming.clock_note(state)}",
        height,
        meta={"unit_ns": unit, "symbol": symbol, "step": step},
        barmode="overlay",
        showlegend=True,
        hovermode="closest",
        uniformtext={"minsize": 9, "mode": "hide"},
        shapes=shapes + _rank_borders(state, end, palette.soft),
        xaxis={
            "title": {"text": f"{words.SINCE_STEP.format(symbol=symbol)}{simulated}"},
            **theming.up_to(end),
            "showgrid": False,
            "nticks": 8,
            "ticks": "outside",
            "ticklen": 4,
            "tickcolor": palette.line,
        },
        yaxis=_axis(state, devices, talking, theme),
    )
    traces = _traces(computing, upper, first, unit, whole, theme, COMPUTE_WIDTH)
    traces += _traces(sending, lower, first, unit, whole, theme, COMMUNICATE_WIDTH)
    seen: set[str] = set()
    for trace in traces:
        # Both lanes have bars for waiting: one word in the legend is enough.
        trace["showlegend"], trace["legendgroup"] = trace["name"] not in seen, trace["name"]
        seen.add(trace["name"])
    copies = [
        span
        for span in computing
        if span.kind == "transfer" and {span.device, span.peer} <= upper.keys() and not drawing.received(span)
    ]
    figure["data"] += traces + drawing.arrows(copies, upper, first, unit, palette.crossing, COMPUTE_WIDTH)
    return figure


def lanes_of(state: RunState, step: int, devices: Sequence[str]) -> tuple[list[Span], list[Span]]:
    """What goes on the lanes of computation, and what on those of communication: collectives, with their bytes in the
    name, and in them the time for which the rank waited for the last one."""
    spans = drawing.window(state, step, list(devices))
    sending: list[Span] = []
    for meeting in meetings(spans):
        span = meeting.span
        if meeting.waited_ns:
            name = words.WAITS_FOR.format(rank=meeting.last_rank)
            sending.append(replace(span, kind="wait", name=name, end_ns=meeting.joined_ns, bytes=0))
        named = f"{span.name} · {human_bytes(span.bytes)}" if span.bytes else span.name
        sending.append(replace(span, name=named, start_ns=meeting.joined_ns))
    computing = [span for span in spans if span.kind != "collective"]
    for device in devices:
        # With nothing to compute beside them, a rank waits for its collectives.
        busy = [(s.start_ns, s.end_ns) for s in computing if s.device == device]
        own = [(s.start_ns, s.end_ns) for s in sending if s.device == device]
        rank = next((s.rank for s in sending if s.device == device), 0)
        computing += [Span(device, rank, step, "wait", words.OWN_COLLECTIVES, *gap) for gap in _outside(own, busy)]
    return computing, sending


def _outside(intervals: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The time in some interval and in none of the others."""
    others, gaps = merged(others), []
    for start, end in merged(intervals):
        for begin, until in others:
            if begin >= end:
                break
            if begin > start:
                gaps.append((start, begin))
            start = max(start, until)
        if start < end:
            gaps.append((start, end))
    return gaps


def _traces(
    spans: list[Span], lane: dict[str, float], first: int, unit: int, whole: int, theme: Theme, width: float
) -> list[dict[str, Any]]:
    shown = drawing.merged(spans, drawing.MAX_BARS // 2)
    for_a_rank = words.WAITS_FOR.partition("{")[0]
    traces = []
    for kind in SPAN_KINDS:
        group = [span for span in shown if span.kind == kind]
        if not group:
            continue
        trace = drawing.bars(group, lane, first, unit, whole, theme, width)
        if kind == "wait":
            trace["text"] = [
                span.name if span.name.startswith(for_a_rank) and text else text
                for span, text in zip(group, trace["text"], strict=True)
            ]
        if width < COMPUTE_WIDTH:
            trace["meta"]["lane"] = "communication"
            trace["textfont"] = {**trace["textfont"], "size": 10}
        traces.append(trace)
    return traces


def label_of(state: RunState, device: str) -> str:
    """`rank 1 · vgpu:2`, also for a device that one rank has for itself."""
    ranks = {info.name: info.rank for info in state.started.devices} if state.started else {}
    return device if " · " in device or device not in ranks else f"rank {ranks[device]} · {device}"


def _axis(state: RunState, devices: list[str], talking: list[str], theme: Theme) -> dict[str, Any]:
    soft = theming.PALETTES[theme].soft
    ticks = [(index + COMPUTE, f"{label_of(state, name)}  ") for index, name in enumerate(devices)]
    small = f'<span style="font-size:10px;color:{soft}">{words.COMMUNICATION}  </span>'
    ticks += [(index + COMMUNICATE, small) for index, name in enumerate(devices) if name in talking]
    return {
        **theming.lane_axis(devices, theme),
        "tickvals": [at for at, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }


def _rank_borders(state: RunState, end: float, color: str) -> list[dict[str, Any]]:
    """A thin line between ranks that have several devices."""
    ranks = [device.rank for device in state.started.devices] if state.started else []
    if len(set(ranks)) == len(ranks):
        return []
    line = {"width": 1, "color": color, "dash": "dot"}
    return [
        {"type": "line", "x0": 0, "x1": end, "y0": index - 0.5, "y1": index - 0.5, "line": line, "layer": "below"}
        for index in range(1, len(ranks))
        if ranks[index] != ranks[index - 1]
    ]
