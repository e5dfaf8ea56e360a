"""The course's notebooks as tests see them: their cells, their exercises, and the reference answers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

from lab.exercises.grading import MIME

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
BOOKS = sorted(FOLDER.glob("[0-9][0-9]-*.ipynb"))
NAMES = [path.stem for path in BOOKS]


@dataclass(frozen=True)
class Exercise:
    """A blank cell and the cell that checks it, right below."""

    name: str
    blank: str
    check: str


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def text_of(path: Path) -> Path:
    return path.parent / "text" / f"{path.stem}.py"


def exercises(book: NotebookNode) -> Iterator[Exercise]:
    for cell, below in zip(book.cells, [*book.cells[1:], None], strict=True):
        if "exercise" in cell.metadata.get("tags", []):
            assert below is not None, f"nothing checks {cell.source}"
            yield Exercise(cell.metadata["name"], cell.source, below.source)


def answers(path: Path) -> dict[str, str]:
    """Exercise -> the source of its reference answer."""
    written = path.parent / "answers" / f"{path.stem[:2]}.py"
    if not written.exists():
        return {}
    cells = jupytext.read(written, fmt="py:percent").cells
    return {cell.metadata["name"]: cell.source for cell in cells if cell.cell_type == "code" and cell.source}


def verdicts(cell: NotebookNode) -> list[dict[str, Any]]:
    """What the checks in a cell that was run have said."""
    return [output["data"][MIME] for output in cell.get("outputs", []) if MIME in output.get("data", {})]


def values(source: str) -> dict[str, Any]:
    """Variable -> value of a cell that does nothing else than set some to literals."""
    statements = ast.parse(source).body
    assert all(isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name) for each in statements), source
    return {each.targets[0].id: ast.literal_eval(each.value) for each in statements}
