"""RunState -> Plotly figures: one drawing for the notebook and the page.

Every figure takes a RunState and a theme, keeps below 2,000 points, shows a calm sentence while there is nothing to
draw, and names the clock that its times come from. `table` gives the numbers behind each, and
`spec` a figure as plain values: a page that redraws several times a second has no time for `graph_objects` to check it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.state import RunState
from widgets.figures import _breakdown, _buckets, _busy, _compare, _graph, _loss, _memory, _timeline, _traffic
from widgets.figures._busy import idle_share
from widgets.figures._compare import Compared
from widgets.figures._curves import CurveSet
from widgets.figures._curves import curves as curves_spec
from widgets.figures._curves import table as curves_table
from widgets.figures._loss import Curve, curve
from widgets.figures._loss import latest as smoothed_loss
from widgets.figures._table import Table, table
from widgets.figures._theme import PALETTES, Spec, Theme, clock_name
from widgets.figures._units import clock_time, duration, human_bytes, human_count

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lab.vgpu.recording import Recording

FIGURES = ("timeline", "loss", "breakdown", "busy", "buckets", "placement_graph", "traffic", "memory")
OF_RANKS = ("breakdown", "buckets")
"""Only for runs of several ranks, for which `breakdown` takes the place of `busy`."""
OF_STEP = ("timeline", "buckets", "traffic")
"""These show one step."""

__all__ = [
    "FIGURES",
    "OF_STEP",
    "PALETTES",
    "Compared",
    "Curve",
    "CurveSet",
    "Spec",
    "Table",
    "Theme",
    "applicable",
    "breakdown",
    "buckets",
    "busy",
    "clock_name",
    "clock_time",
    "comparison",
    "curve",
    "curves_spec",
    "curves_table",
    "duration",
    "human_bytes",
    "human_count",
    "idle_share",
    "loss",
    "memory",
    "placement_graph",
    "profile_memory",
    "profile_memory_spec",
    "profile_table",
    "profile_timeline",
    "profile_timeline_spec",
    "scaling",
    "scaling_table",
    "smoothed_loss",
    "spec",
    "table",
    "timeline",
    "traffic",
]


def applicable(state: RunState, several_ranks: bool = False) -> tuple[str, ...]:
    """The figures that say something about this run.

    Args:
        several_ranks: whether the run is going to have ranks, as long as they have not met.
    """
    group = several_ranks or state.group is not None
    left_out = {"busy"} if group else set(OF_RANKS)
    if not group and state.started is not None and len(state.device_names) == 1 and not state.traffic:
        left_out.add("traffic")
    return tuple(name for name in FIGURES if name not in left_out)


def spec(
    state: RunState, figure: str, theme: Theme = "light", step: int | None = None, earlier: Sequence[Curve] = ()
) -> Spec:
    """The figure of that name as plain values.

    Args:
        step: of the figures that show one step (`OF_STEP`).
        earlier: other runs, the latest first, whose loss stands faintly behind this one's.

    Raises:
        KeyError: when there is no figure of that name.
    """
    if figure in OF_STEP:
        return _DRAW_STEP[figure](state, theme, step)
    if figure == "loss":
        return _loss.loss(state, theme, earlier)
    return _DRAW[figure](state, theme)


def loss(state: RunState, theme: Theme = "light") -> go.Figure:
    """Loss over steps: batches faint, smoothed over them, each rank thin; test accuracy in the title."""
    return _checked(spec(state, "loss", theme))


def timeline(state: RunState, theme: Theme = "light", step: int | None = None) -> go.Figure:
    """What every device did in one step; the last complete one when `step` is None."""
    return _checked(spec(state, "timeline", theme, step))


def busy(state: RunState, theme: Theme = "light") -> go.Figure:
    """Each device's time by what it did, as shares of the whole run."""
    return _checked(spec(state, "busy", theme))


def breakdown(state: RunState, theme: Theme = "light") -> go.Figure:
    """Where each rank's time went: computation, communication hidden beside it or exposed, waiting."""
    return _checked(spec(state, "breakdown", theme))


def buckets(state: RunState, theme: Theme = "light", step: int | None = None) -> go.Figure:
    """Which gradients ride in which bucket, before and after the rebuild, and how long each took in one step."""
    return _checked(spec(state, "buckets", theme, step))


def traffic(state: RunState, theme: Theme = "light", step: int | None = None) -> go.Figure:
    """Bytes that each device sent to each other in one step; the last complete one when `step` is None."""
    return _checked(spec(state, "traffic", theme, step))


def memory(state: RunState, theme: Theme = "light") -> go.Figure:
    """Bytes in use on each device over time, with peak and capacity."""
    return _checked(spec(state, "memory", theme))


def placement_graph(state: RunState, theme: Theme = "light") -> go.Figure:
    """Layers left to right, a lane per device, crossing edges labelled with bytes per step."""
    return _checked(spec(state, "placement_graph", theme))


def scaling(states: Sequence[RunState], theme: Theme = "light") -> go.Figure:
    """Speed-up over ranks of several runs that differ in their world size, beside the ideal; `scaling_table` has its
    numbers."""
    from widgets.figures import _scaling

    return _checked(_scaling.scaling(states, theme))


def scaling_table(states: Sequence[RunState]) -> Table:
    """Step time, samples per second, speed-up and efficiency of several runs."""
    from widgets.figures import _scaling

    return _scaling.table(states)


def comparison(runs: Sequence[Compared], theme: Theme = "light") -> Spec:
    """Two runs beside each other: their losses, and where the time of their devices went."""
    return _compare.comparison(runs, theme)


def profile_timeline(
    profile: Recording, theme: Theme = "light", window_ms: tuple[float, float] | None = None
) -> go.Figure:
    """What every device and stream did in a profile of virtual GPUs; only from when to when, if asked."""
    return _checked(profile_timeline_spec(profile, theme, window_ms))


def profile_timeline_spec(
    profile: Recording, theme: Theme = "light", window_ms: tuple[float, float] | None = None
) -> Spec:
    """The same as plain values."""
    from widgets.figures import _profile

    return _profile.timeline(profile, theme, window_ms)


def profile_memory(profile: Recording, theme: Theme = "light") -> go.Figure:
    """What every device's memory was used for in a profile of virtual GPUs."""
    return _checked(profile_memory_spec(profile, theme))


def profile_memory_spec(profile: Recording, theme: Theme = "light") -> Spec:
    """The same as plain values."""
    from widgets.figures import _profile

    return _profile.memory(profile, theme)


def profile_table(profile: Recording) -> Table:
    """What each device of a profile did: the numbers behind both."""
    from widgets.figures import _profile

    return _profile.table(profile)


_DRAW = {
    "busy": _busy.busy,
    "breakdown": _breakdown.breakdown,
    "memory": _memory.memory,
    "placement_graph": _graph.placement_graph,
}
_DRAW_STEP = {"timeline": _timeline.timeline, "buckets": _buckets.buckets, "traffic": _traffic.traffic}


def _checked(figure: Spec) -> go.Figure:
    import plotly.graph_objects as go

    return go.Figure(figure).update_layout(template="none")
