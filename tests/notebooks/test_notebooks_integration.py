"""Every notebook from top to bottom, as a student who runs all of it sees it, and then with the reference answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell

from lab.course import LONG_VARIABLE
from lab.course.executing import LONG_CELL_SECONDS, execute
from tests.notebooks import books
from tests.notebooks.executed import executed, marked


@pytest.fixture(name="marked")
def _marked() -> Iterator[dict[str, str]]:
    with marked() as environment:
        yield environment


@pytest.mark.parametrize("path", books.BOOKS, ids=books.NAMES)
def test_it_runs_and_its_exercises_can_be_solved(path: Path) -> None:
    found = list(books.exercises(books.read(path)))
    run = executed(path)

    blank = [verdict for cell in run.cells for verdict in books.verdicts(cell)]
    assert [verdict["exercise"] for verdict in blank] == [exercise.name for exercise in found]
    assert "right" not in [verdict["outcome"] for verdict in blank]
    assert all(len(verdict["sentence"]) > 20 for verdict in blank)
    solved = [verdict for cell in run.solved for verdict in books.verdicts(cell)]
    assert [(verdict["exercise"], verdict["outcome"]) for verdict in solved] == [(e.name, "right") for e in found], [
        verdict["sentence"] for verdict in solved
    ]


@pytest.mark.parametrize("path", books.BOOKS, ids=books.NAMES)
def test_its_settings_can_be_set_from_outside(path: Path, marked: dict[str, str], tmp_path: Path) -> None:
    """As papermill does it: a cell below the one that is tagged `parameters`."""
    book = books.read(path)
    (place,) = [index for index, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", [])]
    injected = new_code_cell('HARDWARE = "vgpu:3,vgpu:1,vgpu:2,vgpu:0"\nSTEPS = 3')
    asked = new_code_cell("print(globals().get('device') or ','.join(devices), length)")
    book.cells = [*book.cells[: place + 1], injected, book.cells[place + 1], asked]
    execute(book, tmp_path, environment={**marked, LONG_VARIABLE: "0"})
    (said,) = book.cells[-1].outputs
    names, length = said["text"].split(maxsplit=1)
    assert "vgpu:3,vgpu:1,vgpu:2,vgpu:0".startswith(names)
    assert length.strip() == "{'steps': 3}"


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("path", books.BOOKS, ids=books.NAMES)
def test_its_long_form_runs(path: Path, marked: dict[str, str], tmp_path: Path) -> None:
    execute(books.read(path), tmp_path, LONG_CELL_SECONDS, {**marked, LONG_VARIABLE: "1"})
