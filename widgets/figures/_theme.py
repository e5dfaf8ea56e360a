"""Colours, hatches and the base layout of every figure.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart by people with any colour vision; each kind
of span has a hatch besides, each device a dash, so that nothing rests on colour alone. Text keeps a contrast of 4.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from lab.events import Clock, SpanKind
from lab.state import RunState
from widgets.figures import words

Theme: TypeAlias = Literal["light", "dark"]
Spec: TypeAlias = dict[str, Any]
"""A figure as plain values, `{"data": [...], "layout": {...}}`: what Plotly draws, and quick to make."""
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif'
DARK_INK = "#14202b"
"""Text on the light Okabe-Ito colours, in both themes."""


@dataclass(frozen=True, slots=True)
class Palette:
    """What differs between light and dark. Every value is `#rrggbb`."""

    card: str
    ink: str
    soft: str
    """Axis labels, captions."""
    line: str
    """Grid lines."""
    track: str
    """The empty part of a lane."""
    wait: str
    wait_ink: str
    accent: str
    crossing: str
    """Crossing edges and their labels."""
    devices: tuple[str, ...]


PALETTES: dict[Theme, Palette] = {
    "light": Palette(
        card="#ffffff",
        ink="#17202b",
        soft="#56636f",
        line="#e3e7ec",
        track="#f1f3f6",
        wait="#d7dce2",
        wait_ink="#3c4854",
        accent="#0072b2",
        crossing="#00704f",
        devices=("#0072b2", "#c44f00", "#00805c", "#a8508a", "#9a6a00", "#287aa9", "#6b6200", "#4a4a4a"),
    ),
    "dark": Palette(
        card="#171e26",
        ink="#e8edf3",
        soft="#9aa8b7",
        line="#28323d",
        track="#1f2832",
        wait="#364350",
        wait_ink="#d5dde6",
        accent="#56b4e9",
        crossing="#2cc69a",
        devices=("#56b4e9", "#f2884b", "#2cc69a", "#de9cc4", "#e6b04a", "#8fd0f5", "#f0e442", "#c2c8cf"),
    ),
}
LAYER_FILLS = ("#56b4e9", "#e69f00", "#1fb98c", "#cc79a7", "#f0e442", "#e57a3c", "#a9b4c0")
"""For parts of a net, with text in `DARK_INK` on them."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "8px,3px", "3px,6px")


@dataclass(frozen=True, slots=True)
class KindStyle:
    """How a kind of span looks in every chart: its colour, and a hatch as the second sign."""

    color: str
    hatch: str
    """A Plotly pattern; empty is plain."""
    ink: str = DARK_INK
    label: str = ""
    """In the language of now."""


_KINDS: dict[SpanKind, KindStyle] = {
    "data": KindStyle("#f0e442", "|"),
    "forward": KindStyle("#56b4e9", ""),
    "backward": KindStyle("#e69f00", "/"),
    "transfer": KindStyle("#1fb98c", "-"),
    "collective": KindStyle("#e57a3c", "+"),
    "optimizer": KindStyle("#cc79a7", "x"),
    "other": KindStyle("#a9b4c0", "\\"),
    "wait": KindStyle("", ".", ""),
}


def kind_style(kind: SpanKind, theme: Theme) -> KindStyle:
    style = replace(_KINDS[kind], label=words.KINDS[kind])
    if kind == "wait":
        palette = PALETTES[theme]
        return replace(style, color=palette.wait, ink=palette.wait_ink)
    return style


def clock_name(clock: Clock) -> str:
    """`simulated clock`, as every title that goes with times says."""
    name: str = words.CLOCKS[clock]
    return name


def marker(kind: SpanKind, theme: Theme, radius: int = 4) -> dict[str, Any]:
    """The marker of a bar of that kind."""
    style = kind_style(kind, theme)
    hatch = "rgba(20,32,43,0.16)" if kind == "wait" and theme == "light" else "rgba(255,255,255,0.5)"
    if kind == "wait" and theme == "dark":
        hatch = "rgba(255,255,255,0.12)"
    return {
        "color": style.color,
        "cornerradius": radius,
        "line": {"width": 1, "color": PALETTES[theme].card},
        "pattern": {"shape": style.hatch, "fgcolor": hatch, "size": 6, "solidity": 0.22, "fillmode": "overlay"},
    }


def device_color(state: RunState, device: str, theme: Theme) -> str:
    colors = PALETTES[theme].devices
    return colors[_device_index(state, device) % len(colors)]


def device_dash(state: RunState, device: str) -> str:
    return DASHES[_device_index(state, device) % len(DASHES)]


def _device_index(state: RunState, device: str) -> int:
    names = lanes(state)
    return names.index(device) if device in names else len(names)


def lanes(state: RunState) -> list[str]:
    """The run's devices in their order. The host has no lane unless it is one of them: it only feeds the others."""
    return list(state.device_names)


def simulated(state: RunState) -> bool:
    return state.started is not None and state.started.clock == "virtual"


def clock_note(state: RunState) -> str:
    """Ends every title that goes with times: which clock they are from."""
    return f" · {clock_name(state.started.clock)}" if state.started else ""


def base(theme: Theme, title: str, height: int, **layout: Any) -> Spec:
    """A figure without traces in the house's look. The view keeps its zoom over updates (`uirevision`)."""
    palette = PALETTES[theme]
    axis = {
        "gridcolor": palette.line,
        "zerolinecolor": palette.line,
        "linecolor": palette.line,
        "tickfont": {"size": 11, "color": palette.soft},
        "title": {"font": {"size": 11, "color": palette.soft}, "standoff": 6},
        "zeroline": False,
        "automargin": True,
    }
    look = {
        "title": {
            "text": title,
            "font": {"size": 13, "color": palette.ink},
            "x": 0,
            "xref": "paper",
            "y": 0.98,
            "yanchor": "top",
        },
        "font": {"family": FONT, "size": 12, "color": palette.ink},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "height": height,
        "autosize": True,
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "xaxis": axis,
        "yaxis": axis,
        "showlegend": False,
        "legend": {
            "orientation": "h",
            "x": 0,
            "xref": "container",
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "traceorder": "normal",
            "font": {"size": 11, "color": palette.soft},
            "itemsizing": "constant",
        },
        "hoverlabel": {
            "bgcolor": palette.card,
            "bordercolor": palette.soft,
            "font": {"color": palette.ink, "size": 12},
            "align": "left",
        },
        "uirevision": "keep",
    }
    return {"data": [], "layout": merge(look, layout)}


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`old` with `new` laid over it, dictionaries within dictionaries too."""
    out = dict(old)
    for key, value in new.items():
        out[key] = merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def up_to(end: float) -> dict[str, Any]:
    """An axis from 0 to `end`. Plotly keeps the reader's zoom only while the range that we ask for stays the same, so
    this asks for an automatic range and says what it must hold."""
    return {"autorange": True, "autorangeoptions": {"include": [0, end], "clipmin": 0, "clipmax": end}}


def lane_axis(state_lanes: list[str], theme: Theme) -> dict[str, Any]:
    """A vertical axis with a lane per device, the first on top."""
    return {
        "tickvals": list(range(len(state_lanes))),
        "ticktext": [f"{device}  " for device in state_lanes],
        "range": [max(2, len(state_lanes)) - 0.5, -0.5],
        "showgrid": False,
        "fixedrange": True,
        "tickfont": {"size": 12, "color": PALETTES[theme].ink},
    }


def empty(theme: Theme, title: str, height: int, text: str) -> Spec:
    """A calm figure that says why there is nothing to see yet."""
    hidden = {"visible": False, "range": [0, 1], "fixedrange": True}
    font = {"size": 13, "color": PALETTES[theme].soft}
    note = {"text": text, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False, "font": font}
    return base(theme, title, height, xaxis=hidden, yaxis=hidden, annotations=[note])
