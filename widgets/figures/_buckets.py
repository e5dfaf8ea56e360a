"""Which gradients ride in which bucket, in the order in which the buckets are sent, before and after the rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.events import Bucket, BucketsBuilt
from lab.state import RunState
from lab.timing.meetings import meetings
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._theme import Spec, Theme
from widgets.figures._units import byte_unit, duration, human_bytes

ROW_HEIGHT = 36
BETWEEN = 44
"""Pixels between the two layouts, for the heading of the second."""
ROOM = 1.8
"""The axis's end, in lengths of the longest bar: what stands beside it needs room."""
MAX_ROWS = 12
"""Buckets drawn; the table has them all."""
MAX_PARTS = 10
"""Parts of a bucket's bar; layers are joined by the part of the net that they belong to until so few are left."""
HATCHES = ("", "/", "x", "|", "\\", "-", "+", ".")


@dataclass(frozen=True, slots=True)
class Carried:
    """How a bucket's all-reduce went in one step, averaged over the ranks."""

    moving_ns: float
    """From when the last rank had come."""
    waited_ns: float
    """For the last rank."""


def buckets(state: RunState, theme: Theme = "light", step: int | None = None) -> Spec:
    """A bar per bucket, its parts the layers whose gradients it carries; times are those of `step`."""
    layouts = [layout for layout in state.layouts if layout.buckets]
    if not layouts:
        text = words.NO_RUN if state.started is None else words.FIRST_STEP
        return theming.empty(theme, words.TITLES["buckets"], 180, text)
    if len(layouts) == 2 and layouts[0].buckets == layouts[1].buckets:
        layouts = layouts[1:]
    step = state.timeline_step if step is None else step
    times = carried(state, step)
    rows = [min(MAX_ROWS, len(layout.buckets)) for layout in layouts]
    height = 112 + ROW_HEIGHT * sum(rows) + BETWEEN * (len(layouts) - 1)
    inner = height - 112
    largest = max(bucket.bytes for layout in layouts for bucket in layout.buckets)
    scale, symbol = byte_unit(largest)
    colours = _colours(layouts[0])
    count = len(layouts[-1].buckets)
    all_reduces = words.ALL_REDUCES if count > 1 else words.ALL_REDUCE
    title = f"{words.TITLES['buckets']} · {all_reduces.format(count=count)}"
    if times:
        title += f" · {words.TIMES_OF_STEP.format(step=step)}{theming.clock_note(state)}"
    figure = theming.base(theme, title, height, barmode="overlay", hovermode="closest", margin={"t": 60})
    notes: list[dict[str, Any]] = []
    for index, layout in enumerate(layouts):
        last = index == len(layouts) - 1
        suffix = "" if index == 0 else str(index + 1)
        high = 1.0 if index == 0 else ROW_HEIGHT * rows[1] / inner
        low = high - ROW_HEIGHT * rows[index] / inner
        shown = layout.buckets[:MAX_ROWS]
        ends = [_end(bucket, times.get(bucket.index) if last else None) for bucket in shown]
        figure["layout"][f"xaxis{suffix}"] = {
            **figure["layout"]["xaxis"],
            "showticklabels": last,
            "anchor": f"y{suffix}",
            "range": [0, largest / scale * ROOM],
            "ticksuffix": f" {symbol}",
            "nticks": 4,
            "showgrid": False,
            "fixedrange": True,
        }
        place = {"domain": [max(0.0, low), high], "anchor": f"x{suffix}", "range": [rows[index] - 0.5, -0.5]}
        axis = theming.lane_axis([words.BUCKET.format(index=bucket.index) for bucket in shown], theme)
        figure["layout"][f"yaxis{suffix}"] = {**figure["layout"]["yaxis"], **axis, **place}
        figure["data"] += [_parts(bucket, row, suffix, scale, colours, theme) for row, bucket in enumerate(shown)]
        for row, (bucket, text) in enumerate(zip(shown, ends, strict=True)):
            notes.append(_note(text, bucket.bytes / scale, row, suffix, theme))
        notes.append(_heading(_when(layout, len(layouts)), high, theme))
    figure["layout"]["annotations"] = notes
    return figure


def carried(state: RunState, step: int | None) -> dict[int, Carried]:
    """Bucket -> how long its all-reduce took in that step; empty while no step is whole."""
    found: dict[int, list[tuple[int, int]]] = {}
    for meeting in meetings(state.spans.get(step, [])) if step is not None else []:
        number = meeting.span.name.removeprefix("bucket ")
        if number.isdecimal():
            pair = meeting.span.end_ns - meeting.joined_ns, meeting.waited_ns
            found.setdefault(int(number), []).append(pair)
    return {index: Carried(*map(_mean, zip(*pairs, strict=True))) for index, pairs in sorted(found.items())}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def layers_of(bucket: Bucket) -> list[str]:
    """The layers whose parameters it carries, in their order."""
    return list(dict.fromkeys(_layer(name) for name in bucket.parameters))


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter


def _colours(layout: BucketsBuilt) -> dict[str, int]:
    """Layer -> its number, the same in both layouts, so that one sees where it went."""
    layers = dict.fromkeys(layer for bucket in layout.buckets for layer in layers_of(bucket))
    return {layer: number for number, layer in enumerate(layers)}


def _groups(bucket: Bucket) -> list[tuple[str, list[str]]]:
    """(label, parameters) of the parts of its bar: neighbours of one layer, or of one part of a large net."""
    for depth in range(max(name.count(".") for name in bucket.parameters), -1, -1):
        groups: list[tuple[str, list[str]]] = []
        for name in bucket.parameters:
            label = ".".join(_layer(name).split(".")[: depth or 1])
            if groups and groups[-1][0] == label:
                groups[-1][1].append(name)
            else:
                groups.append((label, [name]))
        if len(groups) <= MAX_PARTS:
            return groups
    return [(f"{layers_of(bucket)[0]} … {layers_of(bucket)[-1]}", list(bucket.parameters))]


def _parts(
    bucket: Bucket, row: int, suffix: str, scale: float, colours: dict[str, int], theme: Theme
) -> dict[str, Any]:
    palette, groups = theming.PALETTES[theme], _groups(bucket)
    sizes = dict(zip(bucket.parameters, bucket.sizes, strict=False))
    equal = bucket.bytes / len(bucket.parameters)
    widths = [sum(sizes.get(name, equal) for name in names) / scale for _, names in groups]
    numbers = [colours.get(_layer(names[0]), 0) for _, names in groups]
    fills, name = theming.LAYER_FILLS, words.BUCKET.format(index=bucket.index)
    return {
        "type": "bar",
        "orientation": "h",
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
        "base": [sum(widths[:index]) for index in range(len(groups))],
        "x": widths,
        "y": [row] * len(groups),
        "width": 0.62,
        "name": name,
        "marker": {
            "color": [fills[number % len(fills)] for number in numbers],
            "cornerradius": 4,
            "line": {"width": 1, "color": palette.card},
            "pattern": {
                "shape": [HATCHES[number // len(fills) % len(HATCHES)] for number in numbers],
                "fgcolor": "rgba(255,255,255,0.5)",
                "size": 6,
                "solidity": 0.22,
                "fillmode": "overlay",
            },
        },
        "text": [f"<b>{label}</b>" for label, _ in groups],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "textfont": {"size": 11, "color": theming.DARK_INK},
        "customdata": ["<br>".join(names[:8] + (["…"] if len(names) > 8 else [])) for _, names in groups],
        "hovertemplate": f"<b>{name}</b>, {human_bytes(bucket.bytes)}<br>%{{customdata}}<extra></extra>",
    }


def _end(bucket: Bucket, went: Carried | None) -> str:
    size = f"<b>{human_bytes(bucket.bytes)}</b>"
    if went is None:
        return size
    waited = f"<br>{words.AFTER_WAITING.format(time=duration(went.waited_ns))}"
    took: str = words.BUCKET_TOOK.format(size=size, time=duration(went.moving_ns))
    return took + (waited if went.waited_ns >= 0.1 * went.moving_ns else "")


def _when(layout: BucketsBuilt, count: int) -> str:
    if count == 1:
        return str(words.EVERY_STEP)
    if layout.step == 0:
        return str(words.BEFORE_GRADIENTS)
    return str(words.AS_GRADIENTS_COME.format(step=layout.step))


def _note(text: str, x: float, row: int, suffix: str, theme: Theme) -> dict[str, Any]:
    return {
        "text": text,
        "x": x,
        "y": row,
        "xref": f"x{suffix}",
        "yref": f"y{suffix}",
        "xanchor": "left",
        "xshift": 6,
        "align": "left",
        "showarrow": False,
        "font": {"size": 11, "color": theming.PALETTES[theme].ink},
    }


def _heading(text: str, y: float, theme: Theme) -> dict[str, Any]:
    font = {"size": 12, "color": theming.PALETTES[theme].soft}
    place = {"x": 0, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 4}
    return {"text": text, **place, "showarrow": False, "font": font}
