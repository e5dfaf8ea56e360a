"""The course as files: paired with its text, without outputs, each notebook built alike."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import pytest
from jupytext.compare import compare_notebooks

from lab import exercises
from tests.notebooks import books

SECTIONS = (
    "Predict",
    "The experiment",
    "What happened, in numbers",
    "In plain PyTorch",
    "Exercise",
    "Where to read on",
)

every_notebook = pytest.mark.parametrize("path", books.BOOKS, ids=books.NAMES)


def test_notebooks_and_texts_are_as_many() -> None:
    assert sorted(path.stem for path in (books.FOLDER / "text").glob("*.py")) == books.NAMES
    numbers = [name[:2] for name in books.NAMES]
    assert numbers == [f"{index:02d}" for index in range(len(numbers))]


@every_notebook
def test_a_notebook_equals_its_text(path: Path) -> None:
    text = jupytext.read(books.text_of(path))
    compare_notebooks(books.read(path), text, fmt="py:percent")


@every_notebook
def test_it_is_kept_without_outputs(path: Path) -> None:
    book = books.read(path)
    for cell in book.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    # Counted, as nbstripout does it, so that running a notebook and stripping it again changes nothing.
    assert [cell.id for cell in book.cells] == [str(index) for index in range(len(book.cells))]
    assert book.metadata.kernelspec.name == "python3"
    assert "widgets" not in book.metadata
    assert "language_info" not in book.metadata


@every_notebook
def test_it_begins_with_the_same_cell_for_colab(path: Path) -> None:
    model = books.read(books.BOOKS[0]).cells[1]
    cell = books.read(path).cells[1]
    assert cell.metadata.tags == ["setup"]
    assert cell.source == model.source


@every_notebook
def test_it_has_the_sections_of_a_lesson(path: Path) -> None:
    book = books.read(path)
    texts = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    assert re.match(rf"# {path.stem[:2]} · \S", texts[0])
    assert "**What you will see.**" in texts[0]
    assert re.search(r"\*\*Time:\*\* \d\d minutes", texts[0])
    titles = [line.removeprefix("## ") for text in texts for line in text.splitlines() if line.startswith("## ")]
    found = [section for section in SECTIONS if any(title.startswith(section) for title in titles)]
    assert found == list(SECTIONS)


@every_notebook
def test_the_teacher_has_notes_on_it(path: Path) -> None:
    title = books.read(path).cells[0].source.splitlines()[0].removeprefix("# ").split(":")[0]
    minutes = re.search(r"\*\*Time:\*\* (\d\d) minutes", books.read(path).cells[0].source)
    notes = (books.ROOT / "docs" / "teaching.md").read_text(encoding="utf-8").split("\n## ")
    (own,) = [section for section in notes if section.splitlines()[0] == title]
    parts = re.findall(r"^\*\*(Goals|Time|Misconceptions|Questions|Answers)", own, re.MULTILINE)
    assert parts == ["Goals", "Time", "Misconceptions", "Questions", "Answers"]
    assert minutes is not None
    assert f"**Time.** {minutes[1]} minutes" in own


@every_notebook
def test_its_settings_are_in_one_cell(path: Path) -> None:
    code = [cell for cell in books.read(path).cells if cell.cell_type == "code"]
    (place,) = [index for index, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", [])]
    values = books.values(code[place].source)
    assert values["HARDWARE"] == "auto"
    assert isinstance(values["STEPS"], int)
    for name in values:
        assert re.search(rf"\b{name}\b", code[place + 1].source), f"{name} is not read in the cell below the settings"
        others = [cell.source for index, cell in enumerate(code) if index != place]
        assert not [source for source in others if re.search(rf"^\s*{name}\s*=", source, re.MULTILINE)]
    own = [index for index, cell in enumerate(code) if re.search(r"course\.(devices|length)\(", cell.source)]
    assert [index for index in own if not code[index].source.startswith("%%ranks")] == [place + 1]


@every_notebook
def test_nothing_in_it_makes_a_folder_where_a_copy_is_saved(path: Path) -> None:
    """With jupytext at work, a notebook that names its pair brings it along."""
    assert "jupytext" not in books.read(path).metadata


@every_notebook
def test_every_exercise_has_a_check_and_a_reference_answer(path: Path) -> None:
    found = list(books.exercises(books.read(path)))
    assert found
    assert sorted(books.answers(path)) == sorted(exercise.name for exercise in found)
    for exercise in found:
        assert exercise.name.startswith(f"{path.stem[:2]}-")
        assert exercise.name in exercises.names()
        assert exercise.check.startswith(f'check("{exercise.name}", ')


def test_every_check_is_used() -> None:
    used = [exercise.name for path in books.BOOKS for exercise in books.exercises(books.read(path))]
    assert sorted(used) == sorted(exercises.names())
