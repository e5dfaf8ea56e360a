"""Memory of each device: what it was used for in a step where that was traced, or how much was in use over time."""

from __future__ import annotations

from typing import Any

from lab.state import RunState
from widgets.figures import _purposes, words
from widgets.figures import _theme as theming
from widgets.figures._theme import Spec, Theme
from widgets.figures._units import byte_unit, human_bytes, time_unit

HEIGHT = 220
MAX_POINTS = 1_200
"""Of all traces of the figure together."""


def memory(state: RunState, theme: Theme = "light") -> Spec:
    """What virtual GPUs held within a step. Without such traces, a line per device over the run and a dotted one at its
    peak; the legend says the capacity, which may be far above.
    """
    if state.memory_traces:
        return _purposes.traced(state, theme, words.TITLES["memory"])
    devices = [device for device in theming.lanes(state) if len(state.memory.get(device, _NOTHING).allocated)]
    if not devices:
        return theming.empty(
            theme, words.TITLES["memory"], HEIGHT, words.NO_RUN if state.started is None else words.FIRST_SAMPLE
        )
    unit, symbol = time_unit(max(state.memory[device].allocated.x[-1] for device in devices))
    highest = max(max(state.memory[device].peak, *state.memory[device].allocated.y) for device in devices)
    scale, name = byte_unit(highest)
    figure = theming.base(
        theme,
        words.TITLES["memory"] + theming.clock_note(state),
        HEIGHT,
        showlegend=True,
        hovermode="closest",
        xaxis={
            "title": {"text": words.TRAINING_TIME.format(symbol=symbol)},
            "showgrid": False,
            "rangemode": "tozero",
            "nticks": 6,
        },
        yaxis={**theming.up_to(highest / scale * 1.12 or 1.0), "ticksuffix": f" {name}", "nticks": 5},
    )
    for device in devices:
        used = state.memory[device]
        every = -(-len(used.allocated) * len(devices) // MAX_POINTS)
        x, y = used.allocated.x[::-1][::every][::-1], used.allocated.y[::-1][::every][::-1]
        most = (words.PEAK_AND_CAPACITY if used.capacity else words.PEAK_OF).format(
            peak=human_bytes(used.peak), capacity=human_bytes(used.capacity)
        )
        hover = words.MEMORY_HOVER.format(device=owner(device), unit=name, time_unit=symbol)
        color = theming.device_color(state, device, theme)
        trace: dict[str, Any] = {
            "type": "scatter",
            "x": [time / unit for time in x],
            "y": [value / scale for value in y],
            "mode": "lines" if len(x) > 1 else "markers",
            "name": f"{owner(device)}: {most}",
            "line": {"width": 2.2, "color": color, "dash": theming.device_dash(state, device), "shape": "hv"},
            "marker": {"color": color},
            "hovertemplate": f"{hover}<extra></extra>",
        }
        peak: dict[str, Any] = {
            "type": "scatter",
            "x": [0, max(time / unit for time in x)],
            "y": [used.peak / scale] * 2,
            "mode": "lines",
            "name": f"{device}, {words.PEAK}",
            "line": {"width": 1, "color": color, "dash": "dot"},
            "showlegend": False,
            "hovertemplate": f"{owner(device)}<br>{words.PEAK_OF.format(peak=human_bytes(used.peak))}<extra></extra>",
        }
        figure["data"] += [trace, peak]
    return figure


def owner(device: str) -> str:
    """Whose memory it is: on `cpu` the lab cannot tell tensors from the rest of its worker."""
    rank, _, name = device.rpartition(" · ")
    return f"{rank} · {words.WHOLE_PROCESS}".removeprefix(" · ") if name == "cpu" else device


_NOTHING = RunState().memory["nothing"]
