"""What is neither trace nor axis: rectangles, lines and notes."""

from __future__ import annotations

from typing import Any

from widgets.figures.picture.frame import Frame
from widgets.figures.picture.svg import LINE, dashed, element, lines_of, text, width_of


def shapes(frame: Frame, layer: str) -> list[str]:
    """Those of a layer, `below` the traces or `above` them."""
    return [_shape(frame, each) for each in frame.layout.get("shapes") or [] if each.get("layer", "above") == layer]


def _shape(frame: Frame, shape: dict[str, Any]) -> str:
    (x0, y0), (x1, y1) = (_place(frame, shape[f"x{end}"], shape[f"y{end}"], shape) for end in (0, 1))
    line = shape.get("line") or {}
    look = {"stroke": line.get("color"), "stroke_width": line.get("width"), "opacity": shape.get("opacity")}
    if shape["type"] == "line":
        return element("line", x1=x0, y1=y0, x2=x1, y2=y1, stroke_dasharray=dashed(line.get("dash")), **look)
    size = {"x": min(x0, x1), "y": min(y0, y1), "width": abs(x1 - x0), "height": abs(y1 - y0)}
    return element("rect", fill=shape.get("fillcolor"), rx=3, **size, **look)


def _place(frame: Frame, x: float, y: float, of: dict[str, Any]) -> tuple[float, float]:
    xref, yref = of.get("xref", "x"), of.get("yref", "y")
    on_paper = frame.paper(x, y)
    return (
        on_paper[0] if xref == "paper" else frame.x(x, xref),
        on_paper[1] if yref == "paper" else frame.y(y, yref),
    )


def notes(frame: Frame) -> list[str]:
    """The annotations: text at a place."""
    return [_note(frame, each) for each in frame.layout.get("annotations") or []]


def _note(frame: Frame, note: dict[str, Any]) -> str:
    x, y = _place(frame, note["x"], note["y"], note)
    x, y = x + note.get("xshift", 0), y - note.get("yshift", 0)
    font = {**(frame.layout.get("font") or {}), **(note.get("font") or {})}
    size = font.get("size", 12)
    lines = lines_of(note["text"])
    anchor = {"left": "start", "right": "end"}.get(note.get("xanchor", ""), "middle")
    tall = len(lines) * size * LINE
    top = {"top": y, "bottom": y - tall}.get(note.get("yanchor", ""), y - tall / 2)
    drawn = ""
    if note.get("bgcolor"):
        wide, pad = width_of(note["text"], size), note.get("borderpad", 1)
        left = {"start": x, "end": x - wide}.get(anchor, x - wide / 2)
        size_of = {"x": left - pad, "y": top - pad, "width": wide + 2 * pad, "height": tall + 2 * pad}
        drawn = element("rect", fill=note["bgcolor"], **size_of)
    return drawn + text(note["text"], x, top + size * 1.02, font, anchor=anchor)
