"""The panel's controls as they all look: a label, and a field as wide as there is room."""

from __future__ import annotations

from typing import Any

from ipywidgets import BoundedIntText, Dropdown, FloatText, IntText, Layout

STYLE = {"description_width": "90px"}


def choice(label: str, options: list[tuple[str, Any]], value: Any) -> Dropdown:
    """The first option where the value is none of them."""
    known = value if any(value == each for _, each in options) else options[0][1]
    return Dropdown(options=options, value=known, description=label, style=STYLE, layout=wide())


def whole(label: str, value: int) -> IntText:
    return IntText(value, description=label, style=STYLE, layout=wide())


def bounded(label: str, value: int, least: int, most: int) -> BoundedIntText:
    return BoundedIntText(value, min=least, max=max(most, value), description=label, style=STYLE, layout=wide())


def number(label: str, value: float, step: float) -> FloatText:
    return FloatText(value, description=label, step=step, style=STYLE, layout=wide())


def wide() -> Layout:
    return Layout(width="100%", margin="0")


def longer(*controls: Any) -> None:
    """Gives labels of several words their room."""
    for control in controls:
        control.style.description_width = "136px"


def show(widget: Any, visible: bool) -> None:
    widget.layout.display = None if visible else "none"
