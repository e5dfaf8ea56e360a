"""What each device did with its time, as shares that add up to one: the idle part is the bubble."""

from __future__ import annotations

from typing import Any

from lab.breakdown import of_device
from lab.events import SpanKind
from lab.state import RunState
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._theme import Spec, Theme

ORDER: tuple[SpanKind, ...] = ("data", "forward", "backward", "optimizer", "collective", "transfer", "wait")
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def busy(state: RunState, theme: Theme = "light") -> Spec:
    devices = [device for device in theming.lanes(state) if state.shares(device)]
    height = 140 + 40 * max(2, len(devices))
    if not devices:
        return theming.empty(
            theme, words.TITLES["busy"], height, words.NO_RUN if state.started is None else words.FIRST_STEP
        )
    shares = {device: state.shares(device) for device in devices}
    figure = theming.base(
        theme,
        words.TITLES["busy"] + theming.clock_note(state),
        height,
        barmode="stack",
        bargap=0.45,
        margin={"r": 24},  # room for half of the last label, which Plotly leaves out otherwise
        showlegend=True,
        xaxis={"range": [0, 1], "tickvals": TICKS, "tickformat": ".0%", "showgrid": False, "fixedrange": True},
        yaxis=theming.lane_axis(devices, theme),
    )
    for kind in ORDER:
        values = [shares[device].get(kind, 0.0) for device in devices]
        if any(values):
            figure["data"].append(_bars(kind, devices, values, theme))
    return figure


def _bars(kind: SpanKind, devices: list[str], values: list[float], theme: Theme) -> dict[str, Any]:
    style = theming.kind_style(kind, theme)
    return {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(devices))),
        "x": values,
        "name": style.label,
        "marker": theming.marker(kind, theme),
        "text": [f"{value:.0%}" if value >= 0.08 else "" for value in values],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "constraintext": "none",
        "textfont": {"size": 11, "color": style.ink},
        "customdata": devices,
        "hovertemplate": words.SHARE_HOVER.format(kind=style.label) + "<extra></extra>",
    }


def idle_share(state: RunState) -> float | None:
    """Mean share of waiting over the run's devices, for other ranks too; None before the first spans."""
    spent = [each for device in theming.lanes(state) if (each := of_device(state, device)) is not None]
    return sum(each.waiting for each in spent) / len(spent) if spent else None
