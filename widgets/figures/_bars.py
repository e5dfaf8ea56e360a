"""The pieces of a timeline: which spans occupy a lane, and bars, tracks and arrows for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from lab.events import Span
from lab.state import RunState
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._theme import Theme
from widgets.figures._units import duration, human_bytes

MAX_BARS = 700
MAX_ARROWS = 48
"""Past these, neighbours of one kind are drawn as one bar, and transfers go without curves."""
BAR = 0.66
"""Share of a lane's height that its bars take."""


def window(state: RunState, step: int, devices: list[str]) -> list[Span]:
    """The step's spans on the devices, from its first work or copy to its last: waits that reach in from before are cut
    there, and a device that is done early waits for the others (that wait is booked on the next step, once it begins).
    A copy occupies both its ends, so it is there for each of them that is among the devices, and one from the host too.
    """
    spans = occupying(state.spans.get(step, []), devices)
    work = [span for span in spans if span.kind != "wait"]
    if not work:
        return spans
    first, last = min(span.start_ns for span in work), max(span.end_ns for span in work)
    out = [
        replace(span, start_ns=max(span.start_ns, first), end_ns=min(span.end_ns, last))
        for span in spans
        if span.kind != "wait" or (span.end_ns > first and span.start_ns < last)
    ]
    if state.group:
        return out  # ranks begin their steps when they can, not all together
    following = [span for span in occupying(state.spans.get(step + 1, []), devices) if span.kind != "wait"]
    for device in devices:
        ends = [span.end_ns for span in out if span.device == device]
        until = min([last, *(span.start_ns for span in following if span.device == device)])
        if ends and max(ends) < until:
            out.append(Span(device, 0, step, "wait", words.NEXT_STEP, max(ends), until))
    return out


def occupying(spans: Sequence[Span], devices: Sequence[str]) -> list[Span]:
    """The spans on the devices; a copy between two of them is there for both."""
    copies = [replace(span, device=span.peer) for span in spans if span.kind == "transfer" and span.peer in devices]
    return [span for span in spans if span.device in devices] + copies


def received(span: Span) -> bool:
    """Whether this is a copy on the lane of the device that it goes to."""
    return span.kind == "transfer" and span.device == span.peer


def merged(spans: Sequence[Span], limit: int) -> list[Span]:
    """At most about `limit` spans: neighbours on one device and of one kind become one, as few as need be."""
    out = sorted(spans, key=lambda span: (span.device, span.start_ns))
    whole = max((span.end_ns for span in out), default=0) - min((span.start_ns for span in out), default=0)
    gap_ns = max(1, whole // 4_000)
    while len(out) > limit and gap_ns < 2 * whole:
        joined: list[Span] = out[:1]
        for before, span in pairwise(out):
            last = joined[-1]
            same = (last.device, last.kind) == (span.device, span.kind) == (before.device, before.kind)
            if same and span.start_ns - last.end_ns <= gap_ns:
                name = last.name if last.name.endswith(" …") or last.name == span.name else f"{last.name} …"
                end = max(last.end_ns, span.end_ns)
                joined[-1] = replace(
                    last, name=name, end_ns=end, bytes=last.bytes + span.bytes, flops=last.flops + span.flops
                )
            else:
                joined.append(span)
        out = joined
        gap_ns *= 4
    return out


def bars(
    group: list[Span], lane: Mapping[str, float], first: int, unit: int, whole: int, theme: Theme, width: float = BAR
) -> dict[str, Any]:
    """A bar for each span, all of one kind; `lane` tells where the middle of a device's bars is."""
    kind = group[0].kind
    style = theming.kind_style(kind, theme)
    several = len({span.microbatch for span in group}) > 1
    rows = [
        (
            span.name or style.label,
            duration(span.start_ns - first),
            duration(span.duration_ns),
            f"<br>{human_bytes(span.bytes)}" if span.bytes else "",
            f"<br>{words.MICROBATCH.format(number=span.microbatch)}" if several else "",
        )
        for span in group
    ]
    return {
        "type": "bar",
        "orientation": "h",
        "base": [(span.start_ns - first) / unit for span in group],
        "x": [span.duration_ns / unit for span in group],
        "y": [lane.get(span.device, 0) for span in group],
        "width": width,
        "name": style.label,
        "meta": {"kind": kind},
        "marker": theming.marker(kind, theme),
        "text": [_label(span, whole) for span in group],
        "textposition": "inside",
        "insidetextanchor": "middle" if kind == "wait" else "start",
        "textangle": 0,
        "textfont": {"size": 11, "color": style.ink},
        "customdata": rows,
        "hovertemplate": words.SPAN_HOVER.format(kind=style.label) + "%{customdata[3]}%{customdata[4]}<extra></extra>",
    }


def _label(span: Span, whole: int) -> str:
    """A name for bars that may have room for it; Plotly hides what does not fit after all."""
    share = span.duration_ns / whole if whole else 0
    if span.kind == "wait":
        return words.WAITS if share > 0.12 else ""
    if span.kind in ("forward", "backward"):
        return f"<b>{span.name}</b>" if share > 0.01 else ""
    if share <= 0.03:
        return ""
    if span.kind == "collective":
        return span.name
    if span.kind == "transfer":
        # "reduce" of "reduce vgpu:1 → vgpu:0"; other transfers name their two ends only.
        purpose, *ends = span.name.split() or [""]
        return purpose if len(ends) == 3 else ""
    return ""


def track(index: float, end: float, color: str, width: float = BAR) -> dict[str, Any]:
    """The empty part of a lane."""
    half = width / 2
    return {
        "type": "rect",
        "x0": 0,
        "x1": end,
        "y0": index - half,
        "y1": index + half,
        "fillcolor": color,
        "line": {"width": 0},
        "layer": "below",
    }


def arrows(
    transfers: list[Span], lane: Mapping[str, float], first: int, unit: int, color: str, width: float = BAR
) -> list[dict[str, Any]]:
    """S-shaped curves from the lane that sends to the lane that receives, from a transfer's start to its end."""
    if not transfers or len(transfers) > MAX_ARROWS:
        return []
    x: list[float | None] = []
    y: list[float | None] = []
    tips: dict[str, tuple[list[float], list[float]]] = {"triangle-down": ([], []), "triangle-up": ([], [])}
    for span in transfers:
        down = 1 if lane[span.peer] > lane[span.device] else -1
        x0, x1 = (span.start_ns - first) / unit, (span.end_ns - first) / unit
        y0, y1 = lane[span.device] + down * width / 2, lane[span.peer] - down * width / 2
        for i in range(9):
            t = i / 8
            ease = t * t * (3 - 2 * t)
            x.append(x0 + (x1 - x0) * ease)
            y.append(y0 + (y1 - y0) * t)
        x.append(None)
        y.append(None)
        xs, ys = tips["triangle-down" if down > 0 else "triangle-up"]
        xs.append(x1)
        ys.append(y1)
    plain = {"type": "scatter", "hoverinfo": "skip", "showlegend": False}
    traces = [{**plain, "x": x, "y": y, "mode": "lines", "name": words.TRANSFERS, "line": {"color": color, "width": 2}}]
    for symbol, (xs, ys) in tips.items():
        if xs:
            tip = {"symbol": symbol, "size": 8, "color": color}
            traces.append({**plain, "x": xs, "y": ys, "mode": "markers", "name": words.ARRIVES, "marker": tip})
    return traces
