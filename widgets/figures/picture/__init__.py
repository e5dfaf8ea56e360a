"""A figure's picture without a browser: an SVG, painted from the same plain values that Plotly draws.

    picture.svg(figures.spec(state, "loss"))        # '<svg xmlns=...'

It knows what this package's figures use, and no more: lines, markers, stacked areas, bars, heat maps, rectangles,
notes, a legend, axes with titles and ticks. Whatever runs scripts shows Plotly's figure; where only outputs are kept (a
notebook opened again, nbconvert, a page without JavaScript) this is what is seen of it.
"""

from __future__ import annotations

import base64
from typing import Any

from widgets.figures._theme import FONT, Spec
from widgets.figures.picture.frame import Frame
from widgets.figures.picture.marks import notes, shapes
from widgets.figures.picture.svg import Hatches, element, text
from widgets.figures.picture.traces import paint

WIDTH = 760
"""Of a picture, in pixels."""

__all__ = ["WIDTH", "data_address", "svg"]


def svg(figure: Spec, width: int = WIDTH) -> str:
    """The figure as an SVG document.

    Args:
        figure: `{"data": [...], "layout": {...}}`, as this package's figures are.
        width: in pixels; the height is the layout's.
    """
    layout: dict[str, Any] = figure["layout"]
    frame = Frame(figure, width)
    hatches = Hatches()
    title = layout.get("title") or {}
    below = shapes(frame, "below")
    traces = [paint(frame, trace, hatches) for trace in figure["data"]]
    above = shapes(frame, "above")
    clip = "".join(element("clipPath", element("rect", **box.wider(6)), id=name) for name, box in frame.boxes.items())
    head = text(title["text"], frame.left_edge, 20, title.get("font", {}), weight=600) if title.get("text") else ""
    body = [frame.grid(), *below, *traces, *above, frame.axes(), *notes(frame), frame.legend(hatches), head]
    style = f"font-family:{FONT};background:transparent".replace('"', "'")
    return element(
        "svg",
        element("defs", hatches.defined() + clip) + "".join(body),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {frame.height:g}",
        width=width,
        height=frame.height,
        role="img",
        aria_label=title.get("text", ""),
        style=style,
    )


def data_address(document: str) -> str:
    """The picture as the address of an `<img>`, which also cleaners of foreign HTML let through."""
    return f"data:image/svg+xml;base64,{base64.b64encode(document.encode()).decode()}"
