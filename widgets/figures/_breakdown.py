"""Where each rank's time went: computation, communication beside it and alone, and waiting, as shares of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab import breakdown as measuring
from lab.breakdown import Breakdown
from lab.state import RunState
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._rank_timeline import label_of
from widgets.figures._theme import Spec, Theme

TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Part:
    field: str
    """Of `lab.breakdown.Breakdown`."""

    @property
    def label(self) -> str:
        name: str = words.PARTS[self.field][0]
        return name

    @property
    def about(self) -> str:
        sentence: str = words.PARTS[self.field][1]
        return sentence


PARTS = tuple(map(Part, ("data", "computing", "hidden", "exposed", "transfer", "awaited", "idle")))


def breakdown(state: RunState, theme: Theme = "light") -> Spec:
    """A bar per device of each rank; its parts add up to the time that the run has taken so far."""
    rows = rows_of(state)
    height = 170 + 40 * max(2, len(rows))
    if not rows:
        text = words.NO_RUN if state.started is None else words.FIRST_STEP
        return theming.empty(theme, words.TITLES["breakdown"], height, text)
    figure = theming.base(
        theme,
        words.TITLES["breakdown"] + theming.clock_note(state),
        height,
        barmode="stack",
        bargap=0.45,
        margin={"r": 24},
        showlegend=True,
        xaxis={"range": [0, 1], "tickvals": TICKS, "tickformat": ".0%", "showgrid": False, "fixedrange": True},
        yaxis=theming.lane_axis([name for name, _ in rows], theme),
    )
    for part in PARTS:
        values = [getattr(spent, part.field) for _, spent in rows]
        if any(values):
            figure["data"].append(_bars(part, [name for name, _ in rows], values, theme))
    return figure


def rows_of(state: RunState) -> list[tuple[str, Breakdown]]:
    """Every device's name, with its rank, and where its time went; empty before the first step."""
    found = [(label_of(state, device), measuring.of_device(state, device)) for device in theming.lanes(state)]
    return [(name, spent) for name, spent in found if spent is not None]


def _bars(part: Part, names: list[str], values: list[float], theme: Theme) -> dict[str, Any]:
    marker, ink = _look(part.field, theme)
    return {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(names))),
        "x": values,
        "name": part.label,
        "marker": marker,
        "text": [f"{value:.0%}" if value >= 0.08 else "" for value in values],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "constraintext": "none",
        "textfont": {"size": 11, "color": ink},
        "customdata": names,
        "hovertemplate": words.PART_HOVER.format(about=part.about) + "<extra></extra>",
    }


def _look(field: str, theme: Theme) -> tuple[dict[str, Any], str]:
    """The marker of a part, as in the timeline, and the colour of text on it."""
    if field == "data":
        return theming.marker("data", theme), theming.DARK_INK
    if field == "computing":
        return theming.marker("forward", theme), theming.DARK_INK
    if field == "hidden":
        marker, collective = theming.marker("forward", theme), theming.kind_style("collective", theme)
        hatch = {"shape": collective.hatch, "fgcolor": collective.color, "size": 7, "solidity": 0.3}
        return {**marker, "pattern": {**marker["pattern"], **hatch}}, theming.DARK_INK
    if field == "exposed":
        return theming.marker("collective", theme), theming.DARK_INK
    if field == "transfer":
        return theming.marker("transfer", theme), theming.DARK_INK
    waits = theming.marker("wait", theme)
    if field == "idle":
        waits = {**waits, "color": theming.PALETTES[theme].track, "pattern": {"shape": ""}}
    return waits, theming.PALETTES[theme].wait_ink
