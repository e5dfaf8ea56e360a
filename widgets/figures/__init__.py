"""RunState -> Plotly figures: one drawing for the notebook and the page.

Every figure takes a RunState and a theme, keeps below 2,000 points, shows a calm sentence while there is nothing to
draw, and names the clock that its times come from. `table` gives the numbers behind each, and
`spec` a figure as plain values: a page that redraws several times a second has no time for `graph_objects` to check it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.state import RunState
from widgets.figures import _busy, _graph, _loss, _memory, _timeline
from widgets.figures._busy import idle_share
from widgets.figures._loss import latest as smoothed_loss
from widgets.figures._table import Table, table
from widgets.figures._theme import CLOCKS, PALETTES, Spec, Theme
from widgets.figures._units import clock_time, duration, human_bytes, human_count

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lab.vgpu.recording import Recording

FIGURES = ("timeline", "loss", "placement_graph", "busy", "memory")

__all__ = [
    "CLOCKS",
    "FIGURES",
    "PALETTES",
    "Spec",
    "Table",
    "Theme",
    "busy",
    "clock_time",
    "duration",
    "human_bytes",
    "human_count",
    "idle_share",
    "loss",
    "memory",
    "placement_graph",
    "profile_memory",
    "profile_timeline",
    "smoothed_loss",
    "spec",
    "table",
    "timeline",
]


def spec(state: RunState, figure: str, theme: Theme = "light", step: int | None = None) -> Spec:
    """The figure of that name as plain values; `step` chooses the timeline's.

    Raises:
        KeyError: when there is no figure of that name.
    """
    if figure == "timeline":
        return _timeline.timeline(state, theme, step)
    return _DRAW[figure](state, theme)


def loss(state: RunState, theme: Theme = "light") -> go.Figure:
    """Loss over steps per rank: batches faint, smoothed over them; test accuracy in the title."""
    return _checked(spec(state, "loss", theme))


def timeline(state: RunState, theme: Theme = "light", step: int | None = None) -> go.Figure:
    """What every device did in one step; the last complete one when `step` is None."""
    return _checked(spec(state, "timeline", theme, step))


def busy(state: RunState, theme: Theme = "light") -> go.Figure:
    """Each device's time by what it did, as shares of the whole run."""
    return _checked(spec(state, "busy", theme))


def memory(state: RunState, theme: Theme = "light") -> go.Figure:
    """Bytes in use on each device over time, with peak and capacity."""
    return _checked(spec(state, "memory", theme))


def placement_graph(state: RunState, theme: Theme = "light") -> go.Figure:
    """Layers left to right, a lane per device, crossing edges labelled with bytes per step."""
    return _checked(spec(state, "placement_graph", theme))


def profile_timeline(
    profile: Recording, theme: Theme = "light", window_ms: tuple[float, float] | None = None
) -> go.Figure:
    """What every device and stream did in a profile of virtual GPUs; only from when to when, if asked."""
    from widgets.figures import _profile

    return _checked(_profile.timeline(profile, theme, window_ms))


def profile_memory(profile: Recording, theme: Theme = "light") -> go.Figure:
    """What every device's memory was used for in a profile of virtual GPUs."""
    from widgets.figures import _profile

    return _checked(_profile.memory(profile, theme))


_DRAW = {"loss": _loss.loss, "busy": _busy.busy, "memory": _memory.memory, "placement_graph": _graph.placement_graph}


def _checked(figure: Spec) -> go.Figure:
    import plotly.graph_objects as go

    return go.Figure(figure).update_layout(template="none")
