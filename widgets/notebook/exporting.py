"""Notebooks to pages that need no network: formulas as MathML, no script but the figures', light and dark.

    jupyter nbconvert --execute --to widgets.notebook.exporting.PageExporter mine.ipynb

gives such a page of any notebook, with pictures for the figures.
"""

from __future__ import annotations

import copy
import html
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

WIDGET = "application/vnd.jupyter.widget-view+json"
TEMPLATE = Path(__file__).parent / "static" / "page.html.j2"


class PageExporter(HTMLExporter):  # type: ignore[misc]
    """As JupyterLab shows it, on its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            template_name="lab",
            template_file=TEMPLATE.name,
            extra_loaders=[FileSystemLoader(TEMPLATE.parent)],
            embed_images=True,
            **settings,
        )

    def from_notebook_node(self, nb: Any, resources: Any = None, **settings: Any) -> tuple[str, Any]:
        """Widgets are left out, for which a front end would be fetched; what they leave below themselves stays."""
        nb = copy.deepcopy(nb)
        nb.metadata.pop("widgets", None)
        for cell in nb.cells:
            for output in cell.get("outputs", []):
                output.get("data", {}).pop(WIDGET, None)
        page: tuple[str, Any] = super().from_notebook_node(nb, resources, **settings)
        return page

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """As nbconvert's own, with the formulas set."""
        renderer = _Renderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            embed_images=self.embed_images,
            path=context.get("resources", {}).get("metadata", {}).get("path", ""),
            anchor_link_text=self.anchor_link_text,
        )
        return str(MarkdownWithMath(renderer=renderer).render(source))


class _Renderer(IPythonRenderer):  # type: ignore[misc]
    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


def mathml(latex: str, display: str) -> str:
    """The formula as MathML, which browsers set themselves; as it was typed, if it cannot be read."""
    from latex2mathml.converter import convert

    try:
        return str(convert(latex.strip(), display=display))
    except Exception:  # noqa: BLE001 - what the library raises for a formula has no class in common
        return f"<code>{html.escape(latex)}</code>"
