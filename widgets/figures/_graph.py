"""The placement graph: layers as boxes from left to right, a lane per device, the edges that cross drawn thick."""

from __future__ import annotations

from typing import Any

from lab.state import RunState
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._layout import Box, Layout, Line, layout
from widgets.figures._theme import Spec, Theme
from widgets.figures._units import human_bytes, human_count

TALLEST = 560
"""Height in pixels that many lanes share, while each keeps room for upright names."""
COPY_ROWS = 0.4
"""Height of the lane of a device that holds a copy of the net, in rows of boxes."""
NARROW = 8
"""With more columns, boxes turn tall and their names upright."""


def placement_graph(state: RunState, theme: Theme = "light") -> Spec:
    """Folds large nets to about sixteen boxes; hovering one, or the middle of an edge, says what it carries."""
    if state.graph is None or not state.graph.nodes:
        reason = words.NO_RUN if state.started is None else words.TRACING
        return theming.empty(theme, words.TITLES["placement_graph"], 250, reason)
    plan = layout(state.graph)
    order = theming.lanes(state)
    used = [device for device in order if device in plan.rows]
    devices = used + sorted(set(plan.rows) - set(used))
    upright = plan.columns > NARROW
    tops: dict[str, float] = {}
    top = 0.0
    for device in devices:
        tops[device] = top
        top += plan.rows[device] + 0.2
    copies = [device for device in order if state.placed and device in state.placed.copies]
    for device in copies:
        tops[device] = top
        top += COPY_ROWS
    lane_px = max(66.0, min(112.0 if upright else 84.0, TALLEST / top))
    height = round(50 + lane_px * max(2.0, top))
    places = [(float(box.column), tops[box.device] + 0.68 + box.row) for box in plan.boxes]
    tall = 0.7 if upright else 0.5
    boxes = []
    for device in devices:
        members = [i for i, box in enumerate(plan.boxes) if box.device == device]
        boxes.append(_boxes(plan, members, places, theming.device_color(state, device, theme), theme, tall, upright))
    edges, notes = _edges(plan, places, theme, 0.4, tall / 2)
    shapes = []
    for device in [*devices, *copies]:
        color = theming.device_color(state, device, theme)
        bottom = tops[device] + (COPY_ROWS if device in copies else plan.rows[device] + 0.2)
        shapes.append(_region(plan.columns, tops[device] + 0.04, bottom - 0.04, color, theme))
        notes.append(
            {
                "text": f"<b>{device}</b>{_holding(state, device, device in copies)}",
                "x": -0.62,
                "y": tops[device] + 0.2,
                "xanchor": "left",
                "yanchor": "middle",
                "showarrow": False,
                "font": {"size": 11, "color": color},
            }
        )
    hidden = {"visible": False, "showgrid": False}
    figure = theming.base(
        theme,
        f"{words.TITLES['placement_graph']}{_basis(state)}",
        height,
        barmode="overlay",
        hovermode="closest",
        margin={"l": 4, "r": 4, "t": 34, "b": 4},
        shapes=shapes,
        annotations=notes,
        xaxis={**hidden, "range": [-0.72, plan.columns - 0.28]},
        yaxis={**hidden, "range": [top, -0.02]},
    )
    return {**figure, "data": boxes + edges}


def _basis(state: RunState) -> str:
    """What the figure's bytes are: known before the run, from shapes; and what a step moved in their place."""
    forecast = state.forecast_bytes
    if forecast is None or not (forecast or state.crossed_bytes):
        return ""
    if state.crossed_bytes is None:
        return f" · {words.FORECAST}"
    measured = human_bytes(state.crossed_bytes)
    return f" · {words.FORECAST_AND_MEASURED.format(forecast=human_bytes(forecast), measured=measured)}"


def _holding(state: RunState, device: str, copy: bool) -> str:
    """What is to be said of a device's lane besides its name."""
    if copy:
        return f"   {words.A_COPY}"
    if state.group is None:
        return ""
    devices = state.started.devices if state.started else ()
    own = [info.name for info in devices if info.rank == 0]
    if device not in own or len(own) == 1:
        ranks = state.group.world_size
        return f"   {words.ONE_HOLDS if ranks == 1 else words.EACH_HOLDS.format(count=ranks)}"
    # The other ranks put the same layers on their own devices, in the same places.
    place = own.index(device)
    others = [[info.name for info in devices if info.rank == rank] for rank in range(1, state.group.world_size)]
    named = ", ".join(names[place] for names in others if place < len(names))
    return f"   {words.OTHER_RANKS.format(devices=named)}"


def _boxes(
    plan: Layout,
    members: list[int],
    places: list[tuple[float, float]],
    color: str,
    theme: Theme,
    tall: float,
    upright: bool,
) -> dict[str, Any]:
    """Bars, because they have rounded corners in pixels and hold their text."""
    palette = theming.PALETTES[theme]
    boxes = [plan.boxes[i] for i in members]
    return {
        "type": "bar",
        "x": [places[i][0] for i in members],
        "base": [places[i][1] - tall / 2 for i in members],
        "y": [tall] * len(members),
        "width": 0.8,
        "name": boxes[0].device if boxes else "",
        "meta": {"layers": [[node.name for node in box.nodes] for box in boxes]},
        "marker": {
            "color": palette.card,
            "cornerradius": 8,
            "line": {"width": 2, "color": color},
            "pattern": {"shape": ""},
        },
        "text": [_name(box, upright) for box in boxes],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": -90 if upright else 0,
        "constraintext": "none",
        "textfont": {"size": 11, "color": palette.ink},
        "customdata": [_about(box) for box in boxes],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _name(box: Box, upright: bool) -> str:
    limit = 13 if upright else 11
    label = box.label if len(box.label) <= limit else box.label[: limit - 1] + "…"
    return label if box.nodes[0].kind in ("input", "loss", "join") else f"<b>{label}</b>"


def _about(box: Box) -> str:
    node = box.nodes[-1]
    what = words.LAYERS.format(count=box.layers) if len(box.nodes) > 1 else node.module or node.kind
    lines = [words.ON_DEVICE.format(layer=box.label, device=box.device), what]
    if box.parameters:
        lines.append(words.PARAMETERS.format(count=box.parameters))
    if box.forward_flops:
        lines.append(words.FORWARD_FLOPS.format(flops=human_count(box.forward_flops)))
    if node.output_shape:
        shape = " × ".join(map(str, node.output_shape))
        lines.append(words.OUTPUT.format(shape=shape, size=human_bytes(node.output_bytes)))
    return "<br>".join(lines)


def edge_label(forward_bytes: int, backward_bytes: int) -> str:
    """`368.6 kB ⇄` when as much comes back; else what goes each way."""
    if forward_bytes == backward_bytes:
        return f"{human_bytes(forward_bytes)} ⇄"
    if not backward_bytes:
        return f"{human_bytes(forward_bytes)} →"
    return f"{human_bytes(forward_bytes)} → · ← {human_bytes(backward_bytes)}"


def _edges(
    plan: Layout, places: list[tuple[float, float]], theme: Theme, half: float, tall: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    palette = theming.PALETTES[theme]
    traces, notes = [], []
    crossing = [line for line in plan.lines if line.crosses]
    quiet = len(crossing) > 6
    for crosses, width, color in ((False, 1.5, palette.soft), (True, 4, palette.crossing)):
        x: list[float | None] = []
        y: list[float | None] = []
        mids: list[tuple[float, float, str]] = []
        joins: list[tuple[Box, Box]] = []
        for line in (line for line in plan.lines if line.crosses == crosses):
            points = _curve(line, plan, places, half, tall)
            x += [point[0] for point in points] + [None]
            y += [point[1] for point in points] + [None]
            middle = points[len(points) // 2]
            label = edge_label(line.forward_bytes, line.backward_bytes)
            mids.append(
                (
                    *middle,
                    f"{plan.boxes[line.source].label} → {plan.boxes[line.target].label}"
                    f"<br>{words.PER_STEP.format(size=label)}",
                )
            )
            joins.append((plan.boxes[line.source], plan.boxes[line.target]))
            if crosses and not quiet:
                notes.append(_byte_label(middle, label, theme))
        if not mids:
            continue
        name = words.CROSSES if crosses else words.STAYS
        line_style = {"width": width, "color": color}
        traces.append(
            {"type": "scatter", "x": x, "y": y, "mode": "lines", "name": name, "line": line_style, "hoverinfo": "skip"}
        )
        traces.append(
            {
                "type": "scatter",
                "x": [mid[0] for mid in mids],
                "y": [mid[1] for mid in mids],
                "customdata": [mid[2] for mid in mids],
                "mode": "markers",
                "name": name,
                "meta": {
                    "ends": [[[node.name for node in box.nodes] for box in pair] for pair in joins],
                    "devices": [[box.device for box in pair] for pair in joins],
                },
                "marker": {"size": 12, "opacity": 0, "color": color, "symbol": "diamond" if crosses else "circle"},
                "hovertemplate": "%{customdata}<extra></extra>",
            }
        )
    return traces, notes


def _curve(
    line: Line, plan: Layout, places: list[tuple[float, float]], half: float, tall: float
) -> list[tuple[float, float]]:
    """From the right side of one box to the left side of another; an edge that skips columns bows around the boxes."""
    (x0, y0), (x1, y1) = places[line.source], places[line.target]
    apart = plan.boxes[line.target].column - plan.boxes[line.source].column
    steps = 12
    if apart > 1 and plan.boxes[line.source].device == plan.boxes[line.target].device:
        # A residual edge: over the boxes between, from top to top.
        rise = min(0.16, 0.05 * apart)
        ya, yb = y0 - tall, y1 - tall
        return [
            (x0 + (x1 - x0) * t, ya + (yb - ya) * t - 4 * rise * t * (1 - t))
            for t in (i / steps for i in range(steps + 1))
        ]
    xa, xb = x0 + half, x1 - half
    if y0 == y1:
        return [(xa, y0), ((xa + xb) / 2, y0), (xb, y1)]
    if line.crosses:
        # Room for the curve: it leaves from and lands on the side that faces the other lane.
        down = 1 if y1 > y0 else -1
        xa, ya, xb, yb = x0, y0 + down * tall, x1, y1 - down * tall
        return [
            (xa + (xb - xa) * t * t * (3 - 2 * t), ya + (yb - ya) * t) for t in (i / steps for i in range(steps + 1))
        ]
    return [(xa + (xb - xa) * t, y0 + (y1 - y0) * t * t * (3 - 2 * t)) for t in (i / steps for i in range(steps + 1))]


def _byte_label(middle: tuple[float, float], label: str, theme: Theme) -> dict[str, Any]:
    palette = theming.PALETTES[theme]
    return {
        "text": f"<b>{label}</b>",
        "x": middle[0],
        "y": middle[1],
        "showarrow": False,
        "bgcolor": palette.card,
        "borderpad": 2,
        "font": {"size": 11, "color": palette.crossing},
    }


def _region(columns: int, y0: float, y1: float, color: str, theme: Theme) -> dict[str, Any]:
    return {
        "type": "rect",
        "x0": -0.7,
        "x1": columns - 0.3,
        "y0": y0,
        "y1": y1,
        "fillcolor": color,
        "opacity": 0.08 if theme == "light" else 0.13,
        "line": {"width": 0},
        "layer": "below",
    }
