"""Speed-up over ranks, beside the ideal: what several runs that differ in their world size say together."""

from __future__ import annotations

from collections.abc import Sequence

from lab.scaling import scaling as measured
from lab.state import RunState
from widgets.figures import _theme as theming
from widgets.figures._table import Table
from widgets.figures._theme import Spec, Theme
from widgets.figures._units import duration

TITLE = "Scaling"
HEIGHT = 300


def scaling(states: Sequence[RunState], theme: Theme = "light") -> Spec:
    """Speed-up of each run over that of the fewest ranks, with its efficiency, and the line of full efficiency."""
    rows = measured(states)
    if not rows:
        return theming.empty(theme, TITLE, HEIGHT, "No run yet")
    palette = theming.PALETTES[theme]
    sizes, speedups = [row.world_size for row in rows], [row.speedup for row in rows]
    ideal = [size / sizes[0] for size in sizes]
    note = next((theming.clock_note(state) for state in states if state.started), "")
    figure = theming.base(
        theme,
        f"{TITLE}{note}",
        HEIGHT,
        showlegend=True,
        xaxis={"title": {"text": "ranks, sharing the same global batch"}, "tickvals": sizes, "showgrid": False},
        yaxis={"title": {"text": "speed-up"}, "rangemode": "tozero", "ticksuffix": "×", "nticks": 6},
    )
    figure["data"] = [
        {
            "type": "scatter",
            "x": sizes,
            "y": ideal,
            "mode": "lines",
            "name": "every rank pulls its full weight",
            "line": {"width": 1.5, "color": palette.soft, "dash": "dash"},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "x": sizes,
            "y": speedups,
            "mode": "lines+markers+text",
            "name": "measured, with efficiency",
            "line": {"width": 2.4, "color": palette.accent},
            "marker": {"size": 9, "symbol": "diamond", "color": palette.accent},
            "text": [f"{row.speedup:.2f}× ({row.efficiency:.0%})" for row in rows],
            "textposition": "bottom right",
            "cliponaxis": False,
            "customdata": [(duration(row.step_seconds * 1e9), f"{row.samples_per_second:,.0f}") for row in rows],
            "hovertemplate": "%{x} ranks<br>%{customdata[0]} per step, %{customdata[1]} samples/s<extra></extra>",
        },
    ]
    return figure


def table(states: Sequence[RunState]) -> Table:
    """The numbers behind the figure."""
    rows = [
        (
            str(row.world_size),
            duration(row.step_seconds * 1e9),
            f"{row.samples_per_second:,.0f}",
            f"{row.speedup:.2f}×",
            f"{row.efficiency:.0%}",
        )
        for row in measured(states)
    ]
    return Table(("ranks", "step time", "samples/s", "speed-up", "efficiency"), rows)
