"""Which of several locks counts, and what is kept of them in a notebook's file and in the user's state folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lab.course import files, resetting
from lab.insight import lock_files
from lab.insight.locks import MIME, Asked, Earlier, earlier, from_json

MS = Asked("How long?", "number", "ms", ())
CHOICE = Asked("Which?", "choice", "", ("a", "b"))


def test_a_question_and_its_answer_survive_json() -> None:
    for asked in (MS, CHOICE, MS.with_answer(8.0, 5.0), CHOICE.with_answer("b", 5.0)):
        assert from_json(json.loads(json.dumps(asked.to_json()))) == asked


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2}, {"question": 3}, {"options": "ab"}, {"options": [1, 2]}, {"answer": "8"}, {"answer": True},
        {"locked_s": "now"}, {"locked_s": float("nan")}, {"place": "first"}, {"kind": "guess"}, {"kind": "choice"},
        {"cell": None},
    ],
)  # fmt: skip
def test_what_somebody_else_wrote_is_left_out(changes: dict[str, Any]) -> None:
    good = MS.with_answer(8.0, 5.0).to_json()
    assert from_json(good) is not None
    assert from_json({**good, **changes}) is None
    assert from_json([good]) is None


def test_an_answer_that_is_no_option_is_left_out() -> None:
    assert from_json({**CHOICE.with_answer("b", 5.0).to_json(), "answer": "c"}) is None


def test_the_first_lock_in_time_counts() -> None:
    first, second = MS.with_answer(8.0, 5.0), MS.with_answer(9.0, 6.0)
    assert earlier(MS, [second, first, MS]).lock == first
    assert earlier(MS, [MS]) == Earlier()


def test_asked_anew_only_later_locks_count() -> None:
    anew = Asked("How long?", "number", "ms", (), began_s=5.5)
    first, second = MS.with_answer(8.0, 5.0), MS.with_answer(9.0, 6.0)
    assert earlier(MS, [first, anew, second]) == Earlier(second, None, 5.5)
    assert earlier(MS, [first, anew]) == Earlier(None, None, 5.5)


def test_an_answer_in_another_unit_or_to_other_options_does_not_count() -> None:
    seconds = Asked("How long?", "number", "s", ())
    lock = MS.with_answer(8.0, 5.0)
    assert earlier(seconds, [lock]) == Earlier(None, lock, 0.0)
    again = seconds.with_answer(1.0, 9.0)
    assert earlier(seconds, [lock, again]) == Earlier(again, None, 0.0)
    more = Asked("Which?", "choice", "", ("a", "b", "c"))
    assert earlier(more, [CHOICE.with_answer("b", 5.0)]).lock is None


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty notebook, and a state folder of its own."""
    monkeypatch.setenv(lock_files.FOLDER_VARIABLE, str(tmp_path / "state"))
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "book.ipynb")
    return tmp_path / "book.ipynb"


def test_a_notebooks_outputs_hold_them(book: Path) -> None:
    lock = MS.with_answer(8.0, 5.0)
    data = {MIME: lock.to_json(), "text/html": "<b>"}
    cell = nbformat.v4.new_code_cell("ask()", outputs=[nbformat.v4.new_output("display_data", data)])
    other = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text="x")])
    nbformat.write(nbformat.v4.new_notebook(cells=[other, cell, nbformat.v4.new_markdown_cell("# a")]), book)
    found = lock_files.in_notebook(book)
    assert found.asked == (lock,)
    assert found.cells == {cell.id, other.id}
    assert found.sources == {lock_files.digest("ask()"), lock_files.digest("1")}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"cells": 3}', '{"cells": [3, {"cell_type": "code", "outputs": [4]}]}']
)
def test_a_file_that_is_no_notebook_holds_nothing(book: Path, text: str) -> None:
    book.write_text(text)
    assert lock_files.in_notebook(book).asked == ()
    assert lock_files.in_notebook(book.parent / "not-there.ipynb").asked == ()
    assert lock_files.in_notebook(None).asked == ()


def test_the_state_folder_remembers_by_the_notebooks_path(book: Path) -> None:
    assert lock_files.remembered(book) == []
    lock_files.remember(book, MS.with_answer(8.0, 5.0))
    lock_files.remember(book, CHOICE.with_answer("a", 6.0))
    assert lock_files.remembered(book) == [MS.with_answer(8.0, 5.0), CHOICE.with_answer("a", 6.0)]
    book.write_text(book.read_text() + "\n")  # saved: the same file
    assert len(lock_files.remembered(book)) == 2
    assert lock_files.remembered(book.with_name("other.ipynb")) == []
    [kept] = (book.parent / "state" / "predictions").iterdir()
    assert json.loads(kept.read_text())["notebook"] == str(book)


def test_a_fresh_copy_at_the_same_path_has_no_locks(book: Path) -> None:
    lock_files.remember(book, MS.with_answer(8.0, 5.0))
    book.rename(book.with_name("earlier.ipynb"))  # so that its inode is not free to be used again
    nbformat.write(nbformat.v4.new_notebook(), book)
    assert lock_files.remembered(book) == []
    lock_files.remember(book, MS.with_answer(9.0, 6.0))
    assert [each.answer for each in lock_files.remembered(book)] == [9.0]


def test_it_can_be_told_to_forget(book: Path) -> None:
    lock_files.remember(book, MS.with_answer(8.0, 5.0))
    lock_files.forget(book)
    assert lock_files.remembered(book) == []
    lock_files.forget(book)


def test_a_notebook_that_is_reset_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lock_files.FOLDER_VARIABLE, str(tmp_path / "state"))
    files.copy(tmp_path / "course")
    book, other = tmp_path / "course" / "05-microbatches.ipynb", tmp_path / "course" / "04-model-parallelism.ipynb"
    for each in (book, other):
        lock_files.remember(each, MS.with_answer(8.0, 5.0))
    resetting.reset(["05"], tmp_path / "course")  # nothing has been saved in it: the file stays
    assert lock_files.remembered(book) == []
    assert len(lock_files.remembered(other)) == 1


def test_what_was_locked_before_asking_anew_is_dropped(book: Path) -> None:
    lock_files.remember(book, MS.with_answer(8.0, 5.0))
    anew = Asked("How long?", "number", "ms", (), began_s=7.0)
    lock_files.remember(book, anew)
    assert lock_files.remembered(book) == [anew]


def test_a_damaged_or_unwritable_state_folder_loses_nothing_else(book: Path) -> None:
    lock_files.remember(book, MS.with_answer(8.0, 5.0))
    [kept] = (book.parent / "state" / "predictions").iterdir()
    kept.write_text("{")
    assert lock_files.remembered(book) == []
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("in the way")
    lock_files.remember(book, MS.with_answer(8.0, 5.0))  # no error: the notebook's own file has to do
    assert lock_files.remembered(book) == []
