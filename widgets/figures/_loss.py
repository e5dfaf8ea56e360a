"""The loss over steps: every batch faint, a smoothed line over it, and the test set where it was evaluated;
earlier runs behind them, as far as the axis goes."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.state import RunState, Series
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._theme import Spec, Theme

HEIGHT = 250
MAX_POINTS = 1_600
"""Of all traces of the figure together."""
WIDEST = 15
"""Most neighbours on either side that the smoothed line averages; fewer while the curve is short."""

CURVE_POINTS = 160
"""Of the curve of a run that is over."""
GHOST_DASHES = ("dot", "dash", "dashdot")


@dataclass(frozen=True, slots=True)
class Curve:
    """The smoothed loss of another run."""

    label: str
    steps: tuple[float, ...]
    losses: tuple[float | None, ...]


def curve(state: RunState, label: str = "") -> Curve:
    """A run's smoothed loss, thinned."""
    if not len(state.mean_loss):
        return Curve(label, (), ())
    steps, _, losses = _thinned(state.mean_loss, CURVE_POINTS)
    return Curve(label, tuple(steps), tuple(losses))


def loss(state: RunState, theme: Theme = "light", earlier: Sequence[Curve] = ()) -> Spec:
    """The loss of the whole batch, and of each rank's share of it; the latest test accuracy stands in the title.

    Args:
        earlier: other runs, the latest first, drawn as ghosts.
    """
    if not any(state.loss.values()):
        return theming.empty(
            theme, words.TITLES["loss"], HEIGHT, words.NO_RUN if state.started is None else words.FIRST_STEP
        )
    palette = theming.PALETTES[theme]
    ranks = sorted(state.loss)
    budget = max(40, MAX_POINTS // (2 + len(ranks)))
    several = len(ranks) > 1
    traces = [_ghost(each, age, _end(state), theme) for age, each in enumerate(earlier) if len(each.steps) > 1][::-1]
    if several:
        traces += [_rank(state.loss[rank], rank, budget, theme) for rank in ranks]
    if len(state.mean_loss):
        traces += _whole(state.mean_loss, budget, palette.ink if several else palette.devices[0], several)
    if state.evaluations:
        traces.append(_tests(state, theme))
    figure = theming.base(
        theme,
        _title(state),
        HEIGHT,
        showlegend=True,
        hovermode="closest",
        xaxis={
            "title": {"text": words.STEP_AXIS},
            **theming.up_to(_end(state)),
            "showgrid": False,
            "tickformat": ",d",
            "nticks": 6,
        },
        yaxis={"rangemode": "tozero", "nticks": 5},
    )
    return {**figure, "data": traces}


def _ghost(of: Curve, age: int, end: float, theme: Theme) -> dict[str, Any]:
    """A run of before, up to where the axis ends now: a longer one must not press this one into a corner."""
    kept = bisect_right(of.steps, end)
    return {
        "type": "scatter",
        "x": list(of.steps[:kept]),
        "y": list(of.losses[:kept]),
        "mode": "lines",
        "name": of.label,
        "line": {
            "width": 1.6,
            "color": theming.PALETTES[theme].soft,
            "dash": GHOST_DASHES[age % len(GHOST_DASHES)],
        },
        "opacity": max(0.35, 0.7 - 0.15 * age),
        "hovertemplate": words.SMOOTHED_HOVER.format(of=of.label) + "<extra></extra>",
    }


def _rank(series: Series, rank: int, budget: int, theme: Theme) -> dict[str, Any]:
    """A thin line: the loss of the rank's own share of the batch."""
    x, _, smooth = _thinned(series, budget)
    color = theming.PALETTES[theme].devices[rank % len(theming.PALETTES[theme].devices)]
    return {
        "type": "scatter",
        "x": x,
        "y": smooth,
        "mode": "lines",
        "name": f"rank {rank}",
        "line": {"width": 1.1, "color": color, "dash": theming.DASHES[rank % len(theming.DASHES)]},
        "hovertemplate": words.SMOOTHED_HOVER.format(of=f"rank {rank}") + "<extra></extra>",
    }


def _whole(series: Series, budget: int, color: str, several: bool) -> list[dict[str, Any]]:
    """The loss of the whole batch: every batch faint, a bold line over them."""
    x, raw, smooth = _thinned(series, budget)
    name = words.MEAN_OF_RANKS if several else words.SMOOTHED
    batches = {
        "type": "scatter",
        "x": x,
        "y": raw,
        "mode": "markers",
        "name": words.EACH_BATCH if series.stride == 1 else words.MEAN_OF_BATCHES.format(count=series.stride),
        "marker": {"size": 3.5, "color": color, "opacity": 0.25},
        "hoverinfo": "skip",
    }
    line = {
        "type": "scatter",
        "x": x,
        "y": smooth,
        "mode": "lines",
        "name": name,
        "line": {"width": 2.6, "color": color},
        "hovertemplate": words.SMOOTHED_HOVER.format(of=name) + "<extra></extra>",
    }
    return [batches, line]


def _tests(state: RunState, theme: Theme) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [each.step for each in state.evaluations],
        "y": [each.loss for each in state.evaluations],
        "customdata": [f"{each.accuracy:.2%}" for each in state.evaluations],
        "mode": "markers",
        "name": words.TEST_SET,
        "marker": {
            "size": 9,
            "symbol": "diamond",
            "color": "#e69f00",
            "line": {"width": 1, "color": theming.PALETTES[theme].ink},
        },
        "hovertemplate": words.TEST_HOVER.format() + "<extra></extra>",
    }


def _title(state: RunState) -> str:
    if not state.evaluations:
        return str(words.TITLES["loss"])
    last = state.evaluations[-1]
    return f"{words.TITLES['loss']} · {words.TESTED.format(accuracy=last.accuracy, step=last.step)}"


def latest(state: RunState) -> float:
    """The smoothed loss of the whole batch now; NaN before the first step and once a batch's is not finite."""
    if state.last_loss is None or not math.isfinite(state.last_loss):
        return math.nan
    values = state.mean_loss.y
    return smoothed(values, [len(values) - 1])[0] if values else state.last_loss


def smoothed(values: Sequence[float], at: Iterable[int] | None = None) -> list[float]:
    """Mean of each point and its neighbours: unlike an exponential average it does not lag. NaN counts for none.

    Args:
        at: the places that are wanted; all if left out.
    """
    half = min(WIDEST, len(values) // 12)
    whole = all(map(math.isfinite, values))
    out = []
    for i in range(len(values)) if at is None else at:
        # Each window on its own: running sums lose every loss that follows a huge one.
        good = values[max(0, i - half) : i + half + 1]
        if not whole:
            good = [value for value in good if math.isfinite(value)]
        out.append(_mean(good) if good else math.nan)
    return out


def _mean(values: Sequence[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def _thinned(series: Series, limit: int) -> tuple[list[float], list[float | None], list[float | None]]:
    every = math.ceil(len(series) / limit)
    kept = range(len(series) - 1, -1, -every)[::-1]
    smooth = smoothed(series.y, kept)
    return [series.x[i] for i in kept], [_or_gap(series.y[i]) for i in kept], [_or_gap(value) for value in smooth]


def _or_gap(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _end(state: RunState) -> float:
    """The axis ends at a round number of steps, so that it moves seldom, and at the run's end at the latest."""
    total = state.started.total_steps if state.started else 0
    nice: float = next(
        step for power in range(1, 12) for step in (10**power, 2 * 10**power, 5 * 10**power) if step >= state.step
    )
    return min(nice, total) if total >= state.step > 0 else nice
