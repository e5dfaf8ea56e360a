"""Bars, lines, areas, markers and heat maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from widgets.figures.picture.extent import Trace, reach
from widgets.figures.picture.frame import Frame
from widgets.figures.picture.svg import Hatches, dashed, element, symbol, text, width_of

LEAST_BAR = 0.6
"""Pixels: what is shorter still happened."""


def paint(frame: Frame, trace: Trace, hatches: Hatches) -> str:
    if trace["type"] == "bar":
        return _bars(frame, trace, hatches)
    if trace["type"] == "heatmap":
        return _heat(frame, trace)
    return element("g", _scatter(frame, trace, hatches), opacity=trace.get("opacity"))


def _at(value: Any, index: int, otherwise: Any = None) -> Any:
    """Of a list its part; one value is everybody's."""
    return value[index] if isinstance(value, (list, tuple)) else otherwise if value is None else value


def _bars(frame: Frame, trace: Trace, hatches: Hatches) -> str:
    xaxis, yaxis = trace.get("xaxis", "x"), trace.get("yaxis", "y")
    level = trace.get("orientation") == "h"
    low, high = reach(frame.data, frame.layout)[next(i for i, each in enumerate(frame.data) if each is trace)]
    marker, font = trace.get("marker") or {}, trace.get("textfont") or {}
    edge, pattern = marker.get("line") or {}, marker.get("pattern") or {}
    places = trace["y"] if level else trace["x"]
    bars, labels = [], []
    for index, place in enumerate(places):
        half = (trace.get("width") or 1 - frame.layout.get("bargap", 0.2)) / 2
        if level:
            x0, x1 = sorted((frame.x(low[index], xaxis), frame.x(high[index], xaxis)))
            y0, y1 = sorted((frame.y(place - half, yaxis), frame.y(place + half, yaxis)))
            x1 = max(x1, x0 + LEAST_BAR) if high[index] > low[index] else x1
        else:
            x0, x1 = sorted((frame.x(place - half, xaxis), frame.x(place + half, xaxis)))
            y0, y1 = sorted((frame.y(low[index], yaxis), frame.y(high[index], yaxis)))
        wide, tall = x1 - x0, y1 - y0
        if wide <= 0 or tall <= 0:
            continue
        fill = hatches.fill(_at(marker.get("color"), index), pattern, str(_at(pattern.get("shape"), index, "")))
        thin = edge.get("width", 0) if min(wide, tall) > 3 else 0
        round_ = min(marker.get("cornerradius", 0), wide / 2, tall / 2)
        look = {"stroke": edge.get("color") if thin else None, "stroke_width": thin or None}
        bars.append(element("rect", x=x0, y=y0, width=wide, height=tall, rx=round_ or None, fill=fill, **look))
        said = str(_at(trace.get("text"), index, "") or "")
        if said:
            labels.append(_inside(said, (x0, y0, wide, tall), trace, font))
    return element("g", "".join(bars), clip_path=frame.clip(trace)) + "".join(labels)


def _inside(said: str, box: tuple[float, float, float, float], trace: Trace, font: dict[str, Any]) -> str:
    """A bar's text, if it has room."""
    x, y, wide, tall = box
    size = font.get("size", 11)
    angle = trace.get("textangle") or 0
    room, across = (tall, wide) if angle else (wide, tall)
    if width_of(said, size) > room - 4 or size > across + 2:
        return ""
    middle = y + tall / 2 + size * 0.36
    if angle:
        return text(said, x + wide / 2 + size * 0.36, y + tall / 2, font, anchor="middle", angle=angle)
    if trace.get("insidetextanchor") == "start":
        return text(said, x + 4, middle, font)
    return text(said, x + wide / 2, middle, font, anchor="middle")


def _scatter(frame: Frame, trace: Trace, hatches: Hatches) -> str:
    xaxis, yaxis = trace.get("xaxis", "x"), trace.get("yaxis", "y")
    mode, line, marker = trace.get("mode", "lines"), trace.get("line") or {}, trace.get("marker") or {}
    drawn = []
    if trace.get("stackgroup"):
        drawn.append(_area(frame, trace, hatches))
    points = [
        None if x is None or y is None else (frame.x(x, xaxis), frame.y(y, yaxis))
        for x, y in zip(trace["x"], trace["y"], strict=True)
    ]
    points = [point if point and all(map(math.isfinite, point)) else None for point in points]
    if "lines" in mode and not trace.get("stackgroup"):
        path = " ".join(_path(run, line.get("shape")) for run in _runs(points))
        look = {"stroke": line.get("color"), "stroke_width": line.get("width", 2), "stroke_linejoin": "round"}
        dash = dashed(line.get("dash"))
        stroke = element("path", d=path, fill="none", stroke_dasharray=dash, **look) if path else ""
        drawn.append(element("g", stroke, clip_path=frame.clip(trace)))
    if "markers" in mode and marker.get("opacity") != 0:
        edge = marker.get("line") or {}
        every = max(1, len(points) // marker["maxdisplayed"]) if marker.get("maxdisplayed") else 1
        look = {"fill_opacity": marker.get("opacity"), "stroke": edge.get("color"), "stroke_width": edge.get("width")}
        drawn += [
            symbol(marker.get("symbol", "circle"), *point, marker.get("size", 6), fill=marker.get("color"), **look)
            for point in points[::every]
            if point
        ]
    if "text" in mode:
        font = trace.get("textfont") or frame.layout.get("font") or {}
        below = "bottom" in trace.get("textposition", "")
        drawn += [
            text(str(_at(trace.get("text"), index, "")), point[0] + 8, point[1] + (18 if below else -8), font)
            for index, point in enumerate(points)
            if point
        ]
    return "".join(drawn)


def _runs(points: list[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    """What lies between gaps."""
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
        elif run:
            yield run
            run = []


def _path(points: list[tuple[float, float]], shape: str | None) -> str:
    (x, y), *others = points
    steps = [f"M{x:.1f},{y:.1f}"]
    steps += [f"H{x:.1f}V{y:.1f}" if shape == "hv" else f"L{x:.1f},{y:.1f}" for x, y in others]
    return "".join(steps)


def _area(frame: Frame, trace: Trace, hatches: Hatches) -> str:
    """Between what is below it in its stack and its own top."""
    xaxis, yaxis = trace.get("xaxis", "x"), trace.get("yaxis", "y")
    low, high = reach(frame.data, frame.layout)[next(i for i, each in enumerate(frame.data) if each is trace)]
    if low == high:
        return ""
    xs = [frame.x(x, xaxis) for x in trace["x"]]
    stepped = (trace.get("line") or {}).get("shape") == "hv"
    top, bottom = (_corners(xs, [frame.y(value, yaxis) for value in ends], stepped) for ends in (high, low))
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*top, *reversed(bottom)])
    line = trace.get("line") or {}
    fill = hatches.fill(trace["fillcolor"], trace.get("fillpattern"))
    shape = element("polygon", points=outline, fill=fill, stroke=line.get("color"), stroke_width=line.get("width"))
    return element("g", shape, clip_path=frame.clip(trace))


def _corners(xs: list[float], ys: list[float], stepped: bool) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for x, y in zip(xs, ys, strict=True):
        if stepped and points:
            points.append((x, points[-1][1]))
        points.append((x, y))
    return points


def _heat(frame: Frame, trace: Trace) -> str:
    gap, font = trace.get("xgap", 0), trace.get("textfont") or {}
    low, high = trace.get("zmin", 0), trace.get("zmax") or 1
    (_, first), (_, last) = trace["colorscale"]
    drawn = []
    for row, y in enumerate(trace["y"]):
        for column, x in enumerate(trace["x"]):
            value = trace["z"][row][column]
            if value is None:
                continue
            x0, x1 = sorted((frame.x(x - 0.5), frame.x(x + 0.5)))
            y0, y1 = sorted((frame.y(y - 0.5), frame.y(y + 0.5)))
            size = {"x": x0 + gap / 2, "y": y0 + gap / 2, "width": x1 - x0 - gap, "height": y1 - y0 - gap}
            drawn.append(element("rect", fill=_mixed(first, last, (value - low) / ((high - low) or 1)), **size))
            said = trace["text"][row][column]
            if said and width_of(said, font.get("size", 11)) < x1 - x0:
                drawn.append(text(said, (x0 + x1) / 2, (y0 + y1) / 2 + 4, font, anchor="middle"))
    return "".join(drawn)


def _mixed(first: str, last: str, share: float) -> str:
    parts = zip(bytes.fromhex(first[1:]), bytes.fromhex(last[1:]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in parts)
