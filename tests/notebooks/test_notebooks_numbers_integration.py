"""Every number in the course's prose is held against what its cells compute.

What prose.py calls a claim must be printed by a cell of the notebook; the rest stands in its code, or in numbers.toml
with an expression in the notebook's own variables, or with a reason. A sentence whose number has gone stale fails here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.notebooks import books, numbers_table, prose
from tests.notebooks.executed import Executed, executed
from tests.notebooks.prose import Number

NOTES = books.ROOT / "docs" / "teaching.md"

every_notebook = pytest.mark.parametrize("path", books.BOOKS, ids=books.NAMES)


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """Name and readable text: each cell of prose, and the notebook's section of the teacher's notes."""
    for index, cell in enumerate(books.read(path).cells):
        if cell.cell_type == "markdown":
            yield f"cell {index}", prose.readable(cell.source)
    sections = NOTES.read_text(encoding="utf-8").split("\n## ")[1:]
    (own,) = [section for section in sections if section.startswith(path.stem[:2])]
    yield "docs/teaching.md", prose.readable("## " + own)


def outputs(run: Executed) -> Iterator[str]:
    for cell in run.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                yield output.text
            elif output.output_type in ("execute_result", "display_data"):
                yield output.data.get("text/plain", "")
                yield re.sub(r"<[^>]*>", " ", output.data.get("text/html", ""))


def counts(run: Executed) -> set[str]:
    """The numbers in the notebook's code and in what it prints, as they are written."""
    code = [cell.source.replace("_", "") for cell in run.cells if cell.cell_type == "code"]
    return set(re.findall(r"\d+", " ".join([*code, *outputs(run)])))


@every_notebook
def test_numbers_in_prose_are_what_cells_compute(path: Path) -> None:
    run = executed(path)
    entries = numbers_table.entries(path.stem[:2])
    said, counted = prose.printed(outputs(run)), counts(run)
    wrong, used = [], set()
    for place, text in texts(path):
        excused: set[Number] = set()
        for entry, found in prose.covered(text, entries):
            used.add(entry)
            excused |= set(found)
            if entry.expressions is None:
                continue
            assert len(found) == len(entry.expressions), f"{entry.text!r} has the numbers {[n.digits for n in found]}"
            for number, expression in zip(found, entry.expressions, strict=True):
                value = run.values[expression]
                if isinstance(value, str) or not number.is_about(value):
                    wrong.append(f"{place}: {entry.text!r} says {number.digits}, and {expression} is {value}")
        wrong += [
            f"{place}: no cell computes {f'{number.digits} {number.unit}'.strip()} in "
            f"'...{text[max(0, number.start - 50) : number.end + 30]}...'"
            for number in prose.unsupported(text, said, counted)
            if number not in excused
        ]
    assert not wrong, "\n".join(["", *wrong])
    assert [entry.text for entry in entries if entry not in used] == [], "nobody says this any more"


@every_notebook
def test_a_number_that_went_stale_would_be_found(path: Path) -> None:
    """The test above is worth as much as it refuses: most of what cells support, were it 7% off or a digit."""
    run = executed(path)
    said, counted = prose.printed(outputs(run)), counts(run)
    held = [
        number
        for _, text in texts(path)
        for number in prose.numbers(text)
        if number.claims and number.unit and prose.supported(number, said, counted)
    ]
    off = [max(1.07 * number.value, number.value + 10.0**-number.decimals) for number in held]
    stale = [replace(number, digits=f"{value:.{number.decimals}f}") for number, value in zip(held, off, strict=True)]
    passing = [number for number in stale if prose.supported(number, said, counted)]
    assert len(passing) <= max(2, 0.25 * len(stale)), [f"{number.digits} {number.unit}" for number in passing]


def test_the_notes_give_each_notebooks_minutes() -> None:
    rows = re.findall(r"^\| (\d\d) [^|]+\| (\d+) \|", NOTES.read_text(encoding="utf-8"), re.MULTILINE)
    said = [re.search(r"\*\*Time:\*\* (\d+) minutes", books.read(path).cells[0].source) for path in books.BOOKS]
    assert [minutes for _, minutes in rows] == [match[1] for match in said if match]
