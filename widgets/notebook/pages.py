"""The course as pages to read: every notebook run from top to bottom, with its figures as they were at the end.

for page in render(lab.course.files.notebooks(), Path("site")):
    print(page.path, page.seconds)
"""

from __future__ import annotations

import html
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lab.course import files
from lab.course.executing import CELL_SECONDS, LONG_CELL_SECONDS, execute, read
from lab.course.settings import long_form
from lab.errors import LabError
from widgets.notebook.keeping import MIME, PLOTLY
from widgets.notebook.staying import BELOW

_LAST_CELL = "from widgets.notebook.keeping import Kept\nKept()"


@dataclass(frozen=True, slots=True)
class Page:
    """A notebook that has been run and written."""

    path: Path
    title: str
    seconds: float
    """That its cells took."""


def render(notebooks: Sequence[Path], folder: Path) -> Iterator[Page]:
    """Runs the notebooks one after the other and writes a page of each, and an `index.html`.

    Raises:
        LabError: when a notebook does not run to its end, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PLOTLY).write_bytes((resources.files("plotly") / "package_data" / PLOTLY).read_bytes())
        if any(b"](../docs/" in notebook.read_bytes() for notebook in notebooks):
            files.bring_companions(folder)
        pages = []
        for notebook in notebooks:
            pages.append(_render(notebook, folder))
            yield pages[-1]
        (folder / "index.html").write_text(_index(pages), encoding="utf-8")
    except OSError as error:
        raise LabError(f"cannot write the pages to {folder}: {error.strerror or error}") from error


def _render(notebook: Path, folder: Path) -> Page:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError
    from nbformat.v4 import new_code_cell

    from widgets.notebook.exporting import PageExporter

    book = read(notebook)
    book.cells.append(new_code_cell(_LAST_CELL))
    working = Path(tempfile.mkdtemp(prefix="parallel-lab-"))
    try:
        seconds = execute(book, working, LONG_CELL_SECONDS if long_form() else CELL_SECONDS)
    except (CellExecutionError, CellTimeoutError) as error:
        raise LabError(f"{notebook.name} does not run to its end: {error}") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
    freeze(book)
    for cell in book.cells:
        cell.source = cell.source.replace("](../docs/", "](docs/") if cell.cell_type == "markdown" else cell.source
    body, _ = PageExporter().from_notebook_node(book, resources={"metadata": {"name": notebook.stem}, "plotly": PLOTLY})
    path = folder / f"{notebook.stem}.html"
    path.write_text(body, encoding="utf-8")
    return Page(path, book.cells[0].source.splitlines()[0].removeprefix("# "), seconds)


def freeze(book: Any) -> None:
    """Puts what widgets showed at the end in the place of the widgets, and takes away the cell that told it.

    What they leave below themselves for viewers without widgets goes: it would be seen twice.
    """
    from widgets.notebook.exporting import WIDGET

    last = book.cells.pop()
    kept = next((output["data"][MIME] for output in last.outputs if MIME in output.get("data", {})), {})
    for cell in book.cells:
        if "outputs" in cell:
            cell.outputs = [each for each in cell.outputs if BELOW not in each.get("data", {}).get("text/html", "")]
        for output in cell.get("outputs", []):
            view = output.get("data", {}).pop(WIDGET, None)
            if view is not None:
                output["data"]["text/html"] = kept.get(view["model_id"], "") or output["data"].get("text/html", "")
    book.metadata.pop("widgets", None)


def _index(pages: Sequence[Page]) -> str:
    items = "".join(f'<li><a href="{page.path.name}">{html.escape(page.title)}</a></li>' for page in pages)
    style = "body{font:16px/1.6 system-ui;max-width:40em;margin:3em auto;padding:0 1em;color-scheme:light dark}"
    head = f'<meta charset="utf-8"><title>Parallel Lab: the course</title><style>{style} ul{{list-style:none}}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>The course</h1><ul>{items}</ul></body></html>'
