"""Notebooks that were run from top to bottom, each once in a test session, however many tests look at it."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from lab.course import LONG_VARIABLE
from lab.course.executing import execute
from tests.notebooks import books, numbers_table

MARK = "PARALLEL_LAB_TEST_RUN"
GONE_SECONDS = 15.0

_EVALUATE = """
import json as _json

_values = {{}}
for _expression in {expressions!r}:
    try:
        _values[_expression] = float(eval(_expression))
    except Exception as _error:
        _values[_expression] = repr(_error)
print(_json.dumps(_values))
"""


@dataclass(frozen=True)
class Executed:
    """A notebook in its short form, as it is kept, and then with the reference answers."""

    cells: list[NotebookNode]
    """The notebook's own."""
    solved: list[NotebookNode]
    """For each exercise the reference answer, and the check of it."""
    values: dict[str, float | str]
    """What the expressions of numbers.toml give in its variables, or the error that they raise."""


@functools.cache
def executed(path: Path) -> Executed:
    """Runs a notebook, and makes sure that nothing is left behind."""
    book = books.read(path)
    own = len(book.cells)
    expressions = sorted(numbers_table.expressions(path.stem[:2]))
    book.cells.append(new_code_cell(_EVALUATE.format(expressions=expressions)))
    answers = books.answers(path)
    for exercise in list(books.exercises(books.read(path))):
        book.cells += [new_code_cell(answers[exercise.name]), new_code_cell(exercise.check)]
    with marked() as environment, tempfile.TemporaryDirectory() as folder:
        execute(book, Path(folder), environment={**environment, LONG_VARIABLE: "0"})
    values = json.loads("".join(output["text"] for output in book.cells[own].outputs if output.get("name") == "stdout"))
    return Executed(book.cells[:own], book.cells[own + 1 :], values)


@contextlib.contextmanager
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
