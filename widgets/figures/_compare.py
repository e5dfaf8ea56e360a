"""Two runs beside each other: their losses on one pair of axes, and where the time of their devices went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.breakdown import Breakdown
from lab.events import SpanKind
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._loss import Curve
from widgets.figures._theme import Spec, Theme

ROW, LEAST = 26, 250
PARTS: tuple[tuple[str, SpanKind], ...] = (("busy", "forward"), ("communicating", "transfer"), ("waiting", "wait"))
"""Field of `lab.breakdown.Breakdown`, and the kind of span whose look it takes."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What the figure shows of a run."""

    curve: Curve
    devices: dict[str, Breakdown]


def comparison(runs: Sequence[Compared], theme: Theme = "light") -> Spec:
    """The first run has a solid line, the second a dashed one with diamonds."""
    rows = [(run.curve.label, device, spent) for run in runs for device, spent in run.devices.items()]
    gaps = sum(bool(run.devices) for run in runs) - 1
    height = max(LEAST, 90 + ROW * (len(rows) + max(0, gaps)))
    if not any(run.curve.steps for run in runs):
        return theming.empty(theme, words.TITLES["compare"], height, words.NO_TWO_RUNS)
    figure = theming.base(
        theme,
        words.TITLES["compare"],
        height,
        barmode="stack",
        bargap=0.3,
        margin={"r": 24},  # room for half of the last label
        showlegend=True,
        hovermode="closest",
        xaxis={
            "title": {"text": words.STEP_AXIS},
            "domain": [0, 0.46],
            "rangemode": "tozero",
            "showgrid": False,
            "tickformat": ",d",
            "nticks": 5,
        },
        yaxis={"title": {"text": words.SMOOTHED_LOSS}, "rangemode": "tozero", "nticks": 5},
    )
    layout = figure["layout"]
    places = _places(runs)
    layout["xaxis2"] = {
        **layout["xaxis"],
        "title": {**layout["xaxis"]["title"], "text": words.SHARE_OF_TIME},
        "domain": [0.6, 1],
        "range": [0, 1],
        "tickformat": ".0%",
        "tickvals": [0, 0.25, 0.5, 0.75, 1],
        "fixedrange": True,
        "anchor": "y2",
    }
    layout["yaxis2"] = {
        **layout["yaxis"],
        "title": {"text": ""},
        "rangemode": "normal",
        "tickvals": places,
        "ticktext": [f"{label} · {device}  " for label, device, _ in rows],
        "range": [max(places, default=0) + 0.6, -0.6],
        "showgrid": False,
        "fixedrange": True,
        "anchor": "x2",
    }
    figure["data"] = [_line(run.curve, index, theme) for index, run in enumerate(runs)]
    figure["data"] += [_bars(part, rows, places, theme) for part in PARTS]
    return figure


def _places(runs: Sequence[Compared]) -> list[float]:
    """A row for each device, and room between the runs."""
    places: list[float] = []
    for run in runs:
        start = places[-1] + 1.6 if places else 0.0
        places += [start + index for index in range(len(run.devices))]
    return places


def _line(curve: Curve, index: int, theme: Theme) -> dict[str, Any]:
    color = theming.PALETTES[theme].devices[index]
    return {
        "type": "scatter",
        "x": list(curve.steps),
        "y": list(curve.losses),
        "mode": "lines+markers" if index else "lines",
        "name": curve.label,
        "line": {"width": 2.2, "color": color, "dash": theming.DASHES[index]},
        "marker": {"symbol": "diamond", "size": 7, "color": color, "maxdisplayed": 8},
        "hovertemplate": f"{curve.label}<br>{words.LOSS_HOVER.format()}<extra></extra>",
    }


def _bars(
    part: tuple[str, SpanKind], rows: Sequence[tuple[str, str, Breakdown]], places: Sequence[float], theme: Theme
) -> dict[str, Any]:
    field, kind = part
    label = words.COMPARED[field]
    values = [getattr(spent, field) for _, _, spent in rows]
    return {
        "type": "bar",
        "orientation": "h",
        "xaxis": "x2",
        "yaxis": "y2",
        "y": list(places),
        "x": values,
        "name": label,
        "marker": theming.marker(kind, theme),
        "text": [f"{value:.0%}" if value >= 0.1 else "" for value in values],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "constraintext": "none",
        "textfont": {"size": 11, "color": theming.kind_style(kind, theme).ink},
        "customdata": [f"{run}, {device}" for run, device, _ in rows],
        "hovertemplate": f"{words.SHARE_HOVER.format(kind=label)}<extra></extra>",
    }
