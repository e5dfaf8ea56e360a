"""Curves over what several runs differ in: step time over microbatches, loss over steps for several settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from widgets.figures import _theme as theming
from widgets.figures._table import Table
from widgets.figures._theme import Spec, Theme
from widgets.figures._units import significant

HEIGHT = 300
MAX_MARKERS = 40
"""A line of more points is drawn without markers."""
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "hexagon")


@dataclass(frozen=True, slots=True)
class CurveSet:
    """Lines over the same x.

    Raises:
        ValueError: when a line has another number of points than x.
    """

    title: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    """Name -> a value for each x; NaN is a gap."""
    x_title: str = ""
    y_title: str = ""
    log_x: bool = False
    log_y: bool = False

    def __post_init__(self) -> None:
        for name, line in self.lines.items():
            if len(line) != len(self.x):
                raise ValueError(f"line {name!r} has {len(line)} points, but x has {len(self.x)}")


def curves(drawn: CurveSet, theme: Theme = "light") -> Spec:
    """Each line has a colour, a dash and a marker of its own."""
    palette = theming.PALETTES[theme]
    figure = theming.base(
        theme,
        drawn.title,
        HEIGHT,
        showlegend=len(drawn.lines) > 1,
        hovermode="closest",
        xaxis={"title": {"text": drawn.x_title}, "showgrid": False, **_ticks(drawn)},
        yaxis={
            "title": {"text": drawn.y_title},
            **({"type": "log"} if drawn.log_y else {"rangemode": "tozero"}),
            "nticks": 6,
        },
    )
    mode = "lines+markers" if len(drawn.x) <= MAX_MARKERS else "lines"
    for index, (name, line) in enumerate(drawn.lines.items()):
        color = palette.devices[index % len(palette.devices)]
        dash = theming.DASHES[index % len(theming.DASHES)]
        figure["data"].append(
            {
                "type": "scatter",
                "x": list(drawn.x),
                "y": list(line),
                "mode": mode,
                "name": name,
                "line": {"width": 2.2, "color": color, "dash": dash},
                "marker": {"size": 8, "symbol": SYMBOLS[index % len(SYMBOLS)], "color": color},
                "hovertemplate": f"{name}<br>{drawn.x_title} %{{x:,}}<br>%{{y:.4g}}<extra></extra>",
            }
        )
    return figure


def table(drawn: CurveSet) -> Table:
    """A row for each x."""
    rows = [
        (_plain(x), *(significant(line[index], 4) for line in drawn.lines.values())) for index, x in enumerate(drawn.x)
    ]
    step = max(1, len(rows) // 60)
    return Table((drawn.x_title or "x", *drawn.lines), rows[::step])


def _plain(x: float) -> str:
    """`10,000,000`, and not `1e+07`."""
    return f"{x:,.0f}" if x == round(x) else f"{x:g}"


def _ticks(drawn: CurveSet) -> dict[str, object]:
    """On a logarithmic axis with few points, a tick for each of them."""
    if not drawn.log_x:
        return {}
    ticks: dict[str, object] = {"type": "log"}
    if len(drawn.x) <= 12:
        ticks |= {"tickvals": list(drawn.x), "ticktext": [_plain(x) for x in drawn.x]}
    return ticks
