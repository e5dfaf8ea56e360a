"""What every device did in one step: a lane per device, a bar per span, a curve per transfer."""

from __future__ import annotations

from collections.abc import Sequence

from lab.events import SPAN_KINDS, Span
from lab.state import RunState
from widgets.figures import _rank_timeline, words
from widgets.figures import _theme as theming
from widgets.figures._bars import MAX_BARS, arrows, bars, merged, received, track, window
from widgets.figures._theme import Spec, Theme
from widgets.figures._units import time_unit

LANE_HEIGHT = 62


def timeline(state: RunState, theme: Theme = "light", step: int | None = None) -> Spec:
    """The spans of `step`; of the last complete one when it is None."""
    if state.group:
        return _rank_timeline.timeline(state, theme, step)
    step = state.timeline_step if step is None else step
    devices = theming.lanes(state)
    spans = window(state, step, devices) if step is not None else []
    if not spans:
        reason = words.NO_RUN if state.started is None else words.FIRST_COMPLETE_STEP
        return theming.empty(theme, words.TITLES["timeline"], height_of(devices), reason)
    title = f"{words.TITLES['timeline']} · {words.OF_STEP.format(step=step)}{theming.clock_note(state)}"
    axis = words.SINCE_STEP + (words.SIMULATED if theming.simulated(state) else "")
    figure = drawn(spans, devices, theme, title, axis)
    figure["layout"]["meta"]["step"] = step
    return figure


def drawn(
    spans: Sequence[Span], lanes: Sequence[str], theme: Theme, title: str, axis: str, begin_ns: int | None = None
) -> Spec:
    """Bars on lanes and arrows between them.

    Args:
        spans: at least one; their `device` and `peer` are names of lanes.
        axis: title of the time axis, with `{symbol}` for the unit.
        begin_ns: where the axis begins; with the first span if left out.
    """
    palette = theming.PALETTES[theme]
    first = min(span.start_ns for span in spans) if begin_ns is None else begin_ns
    whole = max(span.end_ns for span in spans) - first
    unit, symbol = time_unit(whole)
    end = whole / unit or 1.0
    lane = {name: index for index, name in enumerate(lanes)}
    figure = theming.base(
        theme,
        title,
        height_of(lanes),
        meta={"unit_ns": unit, "symbol": symbol},
        barmode="overlay",
        showlegend=True,
        hovermode="closest",
        uniformtext={"minsize": 11, "mode": "hide"},
        shapes=[track(index, end, palette.track) for index in lane.values()],
        xaxis={
            "title": {"text": axis.format(symbol=symbol)},
            **theming.up_to(end),
            "showgrid": False,
            "nticks": 8,
            "ticks": "outside",
            "ticklen": 4,
            "tickcolor": palette.line,
        },
        yaxis=theming.lane_axis(list(lanes), theme),
    )
    shown = merged(spans, MAX_BARS)
    for kind in SPAN_KINDS:
        group = [span for span in shown if span.kind == kind]
        if group:
            figure["data"].append(bars(group, lane, first, unit, whole, theme))
    transfers = [
        span
        for span in spans
        if span.kind == "transfer" and {span.device, span.peer} <= lane.keys() and not received(span)
    ]
    figure["data"] += arrows(transfers, lane, first, unit, palette.crossing)
    return figure


def height_of(lanes: Sequence[str]) -> int:
    return 104 + LANE_HEIGHT * max(2, len(lanes))
