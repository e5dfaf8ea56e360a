"""What widgets show, as plain HTML, where no kernel answers any more: for a page of a notebook that has been run, and
for what stays of them in the notebook itself.
"""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

from ipywidgets import HTML, Accordion, Box, RadioButtons, Widget

from lab.six_steps import NAMES
from widgets.figures import Theme, picture
from widgets.notebook.controls import Controls
from widgets.notebook.drawing import Drawing
from widgets.notebook.step_through import StepThrough

MIME = "application/vnd.parallel-lab.kept+json"
PLOTLY = "plotly.min.js"
"""Beside the page."""
BESIDE = 560
"""Width in pixels of the picture of a figure that stands beside others."""
THEMES: tuple[Theme, ...] = ("light", "dark")
_numbers = itertools.count()


class Kept:
    """The output of a last cell: every widget of this kernel that is shown somewhere, by its model's id."""

    def _repr_mimebundle_(self, **settings: Any) -> dict[str, Any]:
        return {"text/plain": "kept", MIME: dict(kept())}


def kept() -> Iterator[tuple[str, str]]:
    from ipywidgets.widgets import widget

    for model, each in list(widget._instances.items()):
        if isinstance(each, (Drawing, Box, HTML)):
            yield model, as_html(each)


def still(widget: Any) -> str:
    """What the widget shows now, its figures as pictures."""
    return as_html(widget, lambda figure: figure.painted(BESIDE))


def as_html(widget: Widget, drawn: Callable[[Drawing], str] | None = None) -> str:
    """What the widget shows now. Controls and buttons, which would do nothing, are left out.

    Args:
        drawn: how its figures are shown; by Plotly, when the page is opened, if left out.
    """
    match widget:
        case Drawing():
            return (drawn or figure)(widget)
        case HTML():
            return f"<div>{widget.value}</div>" if widget.value else ""
        case RadioButtons():
            return "<br>".join(
                f"{'◉' if option == widget.value else '○'} {html.escape(str(option))}" for option in widget.options
            )
        case StepThrough():
            return _all_steps(widget)
        case Controls():
            return ""
        case Accordion():
            closed = zip(widget.titles, (as_html(each, drawn) for each in widget.children), strict=True)
            return "".join(
                f"<details><summary>{html.escape(title)}</summary>{inside}</details>" for title, inside in closed
            )
        case Box():
            columns = getattr(widget.layout, "grid_template_columns", None)
            if columns and drawn is None:
                drawn = _beside
            inside = "".join(as_html(each, drawn) for each in widget.children)
            style = f"display:grid;grid-gap:10px;grid-template-columns:{columns}" if columns else ""
            return f'<div style="{html.escape(style)}">{inside}</div>' if inside else ""
        case _:
            return ""


def _all_steps(lesson: StepThrough) -> str:
    """What its reader sees click by click, one below the other. The lesson itself stays where its reader is."""
    known = getattr(lesson, "_all_steps", None)
    if known is not None and known[0] == lesson.parameter.value:
        return str(known[1])
    said = []
    anew = StepThrough(lesson._experiment, lesson._net, lesson.parameter.value)
    try:
        for _ in NAMES:
            anew.advance()
            said.append(anew.said.value)
    finally:
        anew.close()
    lesson._all_steps = lesson.parameter.value, "<hr>".join(said)
    return "<hr>".join(said)


def _beside(view: Drawing) -> str:
    return figure(view, BESIDE)


def figure(view: Drawing, width: int = picture.WIDTH) -> str:
    """Drawn by Plotly, light or dark as its reader wants it, when the page is opened. Until then, and where there are
    no scripts, a picture stands in its place."""
    specs = {theme: view.in_theme(theme) for theme in THEMES}
    layout = specs["light"]["layout"]
    pictures = {theme: picture.data_address(picture.svg(spec, width)) for theme, spec in specs.items()}
    name = f"parallel-lab-{next(_numbers)}"
    # "</" would end the script.
    arguments = {
        theme: json.dumps([spec["data"], spec["layout"]]).replace("</", "<\\/") for theme, spec in specs.items()
    }
    title = html.escape((layout.get("title") or {}).get("text") or "")
    style = f"min-width:0;min-height:{layout.get('height', 300)}px"
    # Not before the whole page is laid out: a figure takes the width that there is when it is drawn.
    draw = f"""addEventListener("load", () => {{
  if (!window.Plotly) return;
  const place = document.getElementById({json.dumps(name)});
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const draw = () => Plotly.react(place, ...(dark.matches ? {arguments["dark"]} : {arguments["light"]}),
    {{displayModeBar: false, responsive: true}});
  place.replaceChildren();
  draw();
  dark.addEventListener("change", draw);
}})"""
    return (
        f'<div id="{name}" role="img" aria-label="{title}" style="{style}"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{pictures["dark"]}">'
        f'<img src="{pictures["light"]}" alt="{title}" style="max-width:100%"></picture></div>'
        f"<script>{draw}</script>"
    )
