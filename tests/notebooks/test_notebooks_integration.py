"""Every notebook from top to bottom, as a student who runs all of it sees it, and then with the reference answers."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from nbformat.v4 import new_code_cell

from lab.course import LONG_VARIABLE
from lab.course.executing import LONG_CELL_SECONDS, execute
from tests.notebooks import books

MARK = "PARALLEL_LAB_TEST_RUN"
GONE_SECONDS = 15.0


@pytest.fixture
def marked() -> Iterator[dict[str, str]]:
    """Variables for a kernel by which all that it starts can be found, also what outlives it; nothing may."""
    mark = uuid.uuid4().hex
    yield {MARK: mark, "PYTHONPATH": str(books.ROOT)}
    deadline = time.monotonic() + GONE_SECONDS
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        process.kill()
    assert not left, f"left behind: {left}"


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


@pytest.mark.parametrize("path", books.BOOKS, ids=books.NAMES)
def test_it_runs_and_its_exercises_can_be_solved(path: Path, marked: dict[str, str], tmp_path: Path) -> None:
    book = books.read(path)
    found = list(books.exercises(book))
    answers = books.answers(path)
    asked = len(book.cells)
    for exercise in found:
        book.cells += [new_code_cell(answers[exercise.name]), new_code_cell(exercise.check)]
    execute(book, tmp_path, environment={**marked, LONG_VARIABLE: "0"})

    blank = [verdict for cell in book.cells[:asked] for verdict in books.verdicts(cell)]
    assert [verdict["exercise"] for verdict in blank] == [exercise.name for exercise in found]
    assert "right" not in [verdict["outcome"] for verdict in blank]
    assert all(len(verdict["sentence"]) > 20 for verdict in blank)
    solved = [verdict for cell in book.cells[asked:] for verdict in books.verdicts(cell)]
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
