"""Where the memory went: what each device's memory was used for in the course of a step, stacked.

Both axes are exact. The horizontal one is the order in which the host issued operations, not time: most memory is taken
within a moment of the host's, and a step would be a line at the end of a wait.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from lab.events import PURPOSES, MemoryTraced, Purpose
from lab.state import RunState
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._theme import Spec, Theme
from widgets.figures._units import byte_unit, human_bytes

Point: TypeAlias = tuple[int, Mapping[Purpose, int]]
"""What a device's memory is used for from a time on: nanoseconds, and bytes of every purpose."""
ROW = 122
MAX_ROWS = 4
"""Devices that are drawn: of more, the fullest. The table has them all."""
NEAR = 0.5
"""From this share of its capacity on, a device's capacity is drawn too."""
LISTED = 3
"""Purposes that the heading of a device names, the largest first."""
_HATCH = "rgba(255,255,255,0.6)"
_FILLS: dict[Purpose, tuple[str, str]] = {
    "parameters": ("#0072b2", ""),
    "gradients": ("#e69f00", "/"),
    "optimizer state": ("#cc79a7", "x"),
    "activations": ("#56b4e9", "."),
    "other": ("#a9b4c0", "\\"),
}
"""Colour and hatch; what a phase of a step makes has the colour of its spans."""


def traced(state: RunState, theme: Theme, title: str) -> Spec:
    """The steps of the run that were traced last."""
    traces = {device: state.memory_traces[device] for device in theming.lanes(state) if device in state.memory_traces}
    steps = sorted({trace.step for trace in traces.values()})
    points = {device: list(points_of(trace)) for device, trace in traces.items()}
    capacities = {device: trace.capacity for device, trace in traces.items()}
    return areas(points, capacities, theme, f"{title} · {words.BY_PURPOSE.format(step=steps[-1])}")


def points_of(trace: MemoryTraced) -> Iterator[Point]:
    for index, at_ns in enumerate(trace.times_ns):
        yield at_ns, {purpose: sizes[index] for purpose, sizes in trace.sizes.items()}


def peak_of(points: Sequence[Point]) -> Point:
    """The first of the points at which most is held."""
    return max(points, key=lambda point: sum(point[1].values()))


def areas(points: Mapping[str, Sequence[Point]], capacities: Mapping[str, int], theme: Theme, title: str) -> Spec:
    """A row of stacked areas for each device, with its peak and what that is made of.

    Args:
        points: device -> what it held, in the order of time; at least one point of one device.
        capacities: of the devices, in bytes; 0 where it is not known.
    """
    peaks = {device: sum(peak_of(found)[1].values()) for device, found in points.items()}
    fullest = sorted(points, key=lambda device: -peaks[device])[:MAX_ROWS]
    rows = [device for device in points if device in fullest]
    highest = max(peaks[device] for device in rows)
    near = {device: capacities[device] for device in rows if highest >= NEAR * capacities[device] > 0}
    scale, unit = byte_unit(max([highest, *near.values()]))
    times = sorted({at_ns for device in rows for at_ns, _ in points[device]})
    figure = theming.base(
        theme,
        title + (f", {words.FULLEST.format(count=MAX_ROWS)}" if len(points) > MAX_ROWS else ""),
        64 + ROW * max(2, len(rows)),
        showlegend=True,
        hovermode="closest",
        xaxis={
            "title": {"text": words.OPERATIONS},
            **theming.up_to(len(times)),
            "showgrid": False,
            "showticklabels": False,
            "anchor": f"y{len(rows)}" if len(rows) > 1 else "y",
        },
        annotations=[],
    )
    layout = figure["layout"]
    gap = 0.28 if len(rows) > 1 else 0.1
    height = 1 / len(rows)
    for row, device in enumerate(rows):
        number = "" if row == 0 else str(row + 1)
        top = 1 - row * height
        layout[f"yaxis{number}"] = {
            **layout["yaxis"],
            **theming.up_to(max([highest, *near.values()]) / scale * 1.04 or 1.0),
            "domain": [top - height * (1 if row == len(rows) - 1 else 0.94), top - height * gap],
            "ticksuffix": f" {unit}",
            "nticks": 4,
        }
        layout["annotations"].append(_heading(device, points[device], capacities[device], top, theme))
        places = list(_places(points[device], times))
        for purpose in PURPOSES:
            sizes = [sizes[purpose] for _, sizes in (*points[device], points[device][-1])]
            figure["data"].append(area(device, purpose, number, [*places, len(times)], sizes, scale, theme))
        figure["data"].append(_peak(device, points[device], places, number, scale, theme))
        if device in near:
            figure["data"].append(_capacity(device, near[device], len(times), number, scale, theme))
    return figure


def _places(points: Sequence[Point], times: Sequence[int]) -> Iterator[float]:
    """Where points stand among all devices' times; several at one time share the room up to the next."""
    for at_ns, group in groupby(points, key=lambda point: point[0]):
        together = len(list(group))
        for index in range(together):
            yield bisect_left(times, at_ns) + index / together


def _heading(device: str, points: Sequence[Point], capacity: int, top: float, theme: Theme) -> dict[str, Any]:
    """`vgpu:0 · peak 4.5 MB of 2.0 GB: 49% activations, 45% other`."""
    sizes = peak_of(points)[1]
    total = sum(sizes.values())
    largest = sorted((purpose for purpose in PURPOSES if sizes[purpose]), key=lambda purpose: -sizes[purpose])
    shares = {each: sizes[each] / total for each in largest[:LISTED]}
    parts = ", ".join(f"{share:.0%} {words.PURPOSES[each]}" for each, share in shares.items() if share >= 0.01)
    most = words.PEAK_AND_CAPACITY if capacity else words.PEAK_OF
    peak = most.format(peak=human_bytes(total), capacity=human_bytes(capacity))
    return {
        "text": f"<b>{device}</b> · {peak}" + (f": {parts}" if parts else ""),
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": top,
        "yref": "paper",
        "yanchor": "top",
        "showarrow": False,
        "font": {"size": 11, "color": theming.PALETTES[theme].ink},
    }


def area(
    device: str,
    purpose: Purpose,
    number: str,
    places: Sequence[float],
    sizes: Sequence[int],
    scale: float,
    theme: Theme,
) -> dict[str, Any]:
    """What a device's memory is used for from each place to the next.

    Args:
        number: of the vertical axis: empty for the first, then "2", "3" and so on.
        places: along the horizontal axis.
        sizes: in bytes, one for each place.
        scale: bytes in a unit of the vertical axis.
    """
    color, hatch = _FILLS[purpose]
    return {
        "type": "scatter",
        "x": list(places),
        "y": [size / scale for size in sizes],
        "yaxis": f"y{number}",
        "mode": "lines",
        "line": {"width": 0.6, "color": theming.PALETTES[theme].card, "shape": "hv"},
        "stackgroup": device,
        "fillcolor": color,
        "fillpattern": {"shape": hatch, "bgcolor": color, "fgcolor": _HATCH, "size": 6, "solidity": 0.2},
        "name": words.PURPOSES[purpose],
        "legendgroup": purpose,
        "showlegend": not number,
        "text": [human_bytes(size) for size in sizes],
        "hovertemplate": f"{device}, {words.PURPOSES[purpose]}: %{{text}}<extra></extra>",
    }


def _peak(
    device: str, points: Sequence[Point], places: list[float], number: str, scale: float, theme: Theme
) -> dict[str, Any]:
    top = peak_of(points)
    made_of = "<br>".join(
        f"{human_bytes(top[1][purpose])} {words.PURPOSES[purpose]}" for purpose in PURPOSES if top[1][purpose]
    )
    palette = theming.PALETTES[theme]
    return {
        "type": "scatter",
        "x": [places[list(points).index(top)]],
        "y": [sum(top[1].values()) / scale],
        "yaxis": f"y{number}",
        "mode": "markers",
        "marker": {
            "symbol": "triangle-down",
            "size": 9,
            "color": palette.ink,
            "line": {"width": 1, "color": palette.card},
        },
        "cliponaxis": False,
        "name": words.PEAK,
        "legendgroup": "peak",
        "showlegend": not number,
        "hovertemplate": f"{device}, {words.PEAK}<br>{made_of}<extra></extra>",
    }


def _capacity(device: str, capacity: int, end: int, number: str, scale: float, theme: Theme) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [0, end],
        "y": [capacity / scale] * 2,
        "yaxis": f"y{number}",
        "mode": "lines",
        "line": {"width": 1.4, "color": theming.PALETTES[theme].soft, "dash": "dash"},
        "name": words.CAPACITY,
        "legendgroup": "capacity",
        "showlegend": not number,
        "hovertemplate": f"{device}, {words.CAPACITY} {human_bytes(capacity)}<extra></extra>",
    }
