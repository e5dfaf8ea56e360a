"""The loss over steps: every batch faint, a smoothed line over it, and the test set where it was evaluated."""

from __future__ import annotations

import math
from typing import Any

from lab.state import RunState, Series
from widgets.figures import _theme as theming
from widgets.figures._theme import Spec, Theme

HEIGHT = 250
MAX_POINTS = 1_600
"""Of all traces of the figure together."""
WIDEST = 15
"""Most neighbours on either side that the smoothed line averages; fewer while the curve is short."""


def loss(state: RunState, theme: Theme = "light") -> Spec:
    """Loss per rank; the latest test accuracy stands in the title."""
    if not any(state.loss.values()):
        return theming.empty(
            theme, "Loss", HEIGHT, "No run yet" if state.started is None else "Waiting for the first step"
        )
    palette = theming.PALETTES[theme]
    traces: list[dict[str, Any]] = []
    ranks = sorted(state.loss)
    budget = max(40, MAX_POINTS // (2 * len(ranks)))
    for index, rank in enumerate(ranks):
        series = state.loss[rank]
        color = palette.devices[index % len(palette.devices)]
        who = f"rank {rank}, " if len(ranks) > 1 else ""
        x, raw, smooth = _thinned(series, budget)
        batches = {
            "type": "scatter",
            "x": x,
            "y": raw,
            "mode": "markers",
            "name": f"{who}each batch" if series.stride == 1 else f"{who}mean of {series.stride} batches",
            "marker": {"size": 3.5, "color": color, "opacity": 0.25},
            "hoverinfo": "skip",
        }
        line = {
            "type": "scatter",
            "x": x,
            "y": smooth,
            "mode": "lines",
            "name": f"{who}smoothed",
            "line": {"width": 2.4, "color": color, "dash": theming.DASHES[index % len(theming.DASHES)]},
            "hovertemplate": f"step %{{x:,}}<br>{who}smoothed loss %{{y:.4f}}<extra></extra>",
        }
        traces += [batches, line]
    if state.evaluations:
        traces.append(_tests(state, theme))
    figure = theming.base(
        theme,
        _title(state),
        HEIGHT,
        showlegend=True,
        hovermode="closest",
        xaxis={
            "title": {"text": "step"},
            **theming.up_to(_end(state)),
            "showgrid": False,
            "tickformat": ",d",
            "nticks": 6,
        },
        yaxis={"rangemode": "tozero", "nticks": 5},
    )
    return {**figure, "data": traces}


def _tests(state: RunState, theme: Theme) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [each.step for each in state.evaluations],
        "y": [each.loss for each in state.evaluations],
        "customdata": [f"{each.accuracy:.2%}" for each in state.evaluations],
        "mode": "markers",
        "name": "test set",
        "marker": {
            "size": 9,
            "symbol": "diamond",
            "color": "#e69f00",
            "line": {"width": 1, "color": theming.PALETTES[theme].ink},
        },
        "hovertemplate": "step %{x:,}<br>test loss %{y:.4f}<br>test accuracy %{customdata}<extra></extra>",
    }


def _title(state: RunState) -> str:
    if not state.evaluations:
        return "Loss"
    last = state.evaluations[-1]
    return f"Loss · test accuracy {last.accuracy:.1%} at step {last.step:,}"


def latest(state: RunState) -> float:
    """The smoothed loss now, averaged over ranks; NaN before the first step and once a batch's is not finite."""
    if state.last_loss is None or not math.isfinite(state.last_loss):
        return math.nan
    ends = [smoothed(series.y)[-1] for series in state.loss.values() if len(series)]
    return sum(ends) / len(ends) if ends else state.last_loss


def smoothed(values: list[float]) -> list[float]:
    """Mean of each point and its neighbours: unlike an exponential average it does not lag. NaN counts for none."""
    half = min(WIDEST, len(values) // 12)
    out = []
    for i in range(len(values)):
        # Each window on its own: running sums lose every loss that follows a huge one.
        good = [value for value in values[max(0, i - half) : i + half + 1] if math.isfinite(value)]
        out.append(_mean(good) if good else math.nan)
    return out


def _mean(values: list[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def _thinned(series: Series, limit: int) -> tuple[list[float], list[float | None], list[float | None]]:
    every = math.ceil(len(series) / limit)
    smooth = smoothed(series.y)
    kept = range(len(series) - 1, -1, -every)[::-1]
    return [series.x[i] for i in kept], [_or_gap(series.y[i]) for i in kept], [_or_gap(smooth[i]) for i in kept]


def _or_gap(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _end(state: RunState) -> float:
    """The axis ends at a round number of steps, so that it moves seldom, and at the run's end at the latest."""
    total = state.started.total_steps if state.started else 0
    nice: float = next(
        step for power in range(1, 12) for step in (10**power, 2 * 10**power, 5 * 10**power) if step >= state.step
    )
    return min(nice, total) if total >= state.step > 0 else nice
