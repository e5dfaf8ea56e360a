"""What widgets show, as plain HTML: for a page of a notebook that has been run, where no kernel answers any more."""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Iterator
from typing import Any

from ipywidgets import HTML, Accordion, Box, RadioButtons, Widget

from lab.six_steps import NAMES
from widgets.notebook.controls import Controls
from widgets.notebook.step_through import StepThrough
from widgets.notebook.views import View

MIME = "application/vnd.parallel-lab.kept+json"
PLOTLY = "plotly.min.js"
"""Beside the page."""
_numbers = itertools.count()


class Kept:
    """The output of a last cell: every widget of this kernel that is shown somewhere, by its model's id."""

    def _repr_mimebundle_(self, **settings: Any) -> dict[str, Any]:
        return {"text/plain": "kept", MIME: dict(kept())}


def kept() -> Iterator[tuple[str, str]]:
    from ipywidgets.widgets import widget

    for model, each in list(widget._instances.items()):
        if isinstance(each, (View, Box, HTML)):
            yield model, as_html(each)


def as_html(widget: Widget) -> str:
    """What the widget shows now. Controls and buttons, which would do nothing, are left out."""
    match widget:
        case View():
            return _figure(widget)
        case HTML():
            return f"<div>{widget.value}</div>" if widget.value else ""
        case RadioButtons():
            return "<br>".join(html.escape(str(option)) for option in widget.options)
        case StepThrough():
            return _all_steps(widget)
        case Controls():
            return ""
        case Accordion():
            closed = zip(widget.titles, map(as_html, widget.children), strict=True)
            return "".join(
                f"<details><summary>{html.escape(title)}</summary>{inside}</details>" for title, inside in closed
            )
        case Box():
            inside = "".join(map(as_html, widget.children))
            columns = getattr(widget.layout, "grid_template_columns", None)
            style = f"display:grid;grid-gap:10px;grid-template-columns:{columns}" if columns else ""
            return f'<div style="{html.escape(style)}">{inside}</div>' if inside else ""
        case _:
            return ""


def _all_steps(lesson: StepThrough) -> str:
    """What its reader sees click by click, one below the other."""
    lesson.restart()
    said = []
    for _ in NAMES:
        lesson.advance()
        said.append(lesson.said.value)
    return "<hr>".join(said)


def _figure(view: View) -> str:
    """Drawn by Plotly when the page is opened; the numbers behind it are there without it."""
    view.refresh(everything=True)
    drawn = json.loads(view.figure or "null")
    if not drawn:
        return ""
    name = f"parallel-lab-{next(_numbers)}"
    layout = drawn["layout"]
    # "</" would end the script.
    arguments = json.dumps([drawn["data"], layout]).replace("</", "<\\/")
    title = html.escape((layout.get("title") or {}).get("text") or "")
    style = f"min-width:0;height:{layout.get('height', 300)}px"
    # Not before the whole page is laid out: a figure takes the width that there is when it is drawn.
    draw = f"Plotly.newPlot({json.dumps(name)}, ...{arguments}, {{displayModeBar: false, responsive: true}})"
    return (
        f'<div id="{name}" role="img" aria-label="{title}" style="{style}"></div>'
        f'<script>addEventListener("load", () => {draw})</script>'
    )
