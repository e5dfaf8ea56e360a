"""Locks in real kernels: kept in memory, in the notebook's file and in the user's state folder, and never mixed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from lab.insight.lock_files import FOLDER_VARIABLE
from lab.insight.locks import MIME
from tests.widgets.notebook.kernel import Kernel, Said, kernel

pytestmark = pytest.mark.timeout(300)
IMPORT = "from widgets.notebook import Predict"
ASK = 'predict = Predict("How long?", unit="ms")\npredict'
STATE = "(predict.locked, predict.answer)"


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook with a cell that asks, as Jupyter's server would name it to its kernel."""
    path = tmp_path / "book.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ASK, id="asks")]), path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "state"))
    return path


@pytest.fixture
def session(book: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kernels that are started now are that notebook's."""
    monkeypatch.setenv("JPY_SESSION_NAME", str(book))
    return str(book)


def ask(running: Kernel, cell: str = "asks", source: str = ASK) -> Said:
    running.run(IMPORT)
    said = running.run(source, cell)
    assert said.error == ""
    return said


def save(book: Path, said: Said, cell: str = "asks") -> None:
    """Puts a cell's outputs into the notebook's file, as a front end does."""
    notebook = nbformat.read(book, 4)
    outputs = [nbformat.v4.new_output("display_data", data) for data in said.displayed]
    next(each for each in notebook.cells if each.id == cell).outputs = outputs
    nbformat.write(notebook, book)


def test_a_lock_survives_the_cell_the_kernel_and_the_state_folder(book: Path, session: str) -> None:
    with kernel() as running:
        ask(running)
        assert running.run("predict.lock('8')").error == ""
        again = ask(running)
        assert running.run(STATE).result == "(True, 8.0)"
        assert running.run("predict.lock(9)").error == "LabError: your answer is locked already: 8 ms"
    with kernel() as running:  # restarted before a save
        ask(running)
        assert running.run(STATE).result == "(True, 8.0)"
    save(book, again)
    for kept in (book.parent / "state" / "predictions").iterdir():
        kept.unlink()
    with kernel() as running:  # the file alone
        said = ask(running)
        assert running.run(STATE).result == "(True, 8.0)"
        assert any(data.get(MIME, {}).get("answer") == 8.0 for data in said.displayed)


def test_asked_anew_the_earlier_lock_is_gone_for_good(book: Path, session: str) -> None:
    anew = 'predict = Predict("How long?", unit="ms", anew=True)\npredict'
    with kernel() as running:
        ask(running)
        running.run("predict.lock(8)")
        save(book, ask(running))
        ask(running, source=anew)
        assert running.run(STATE).result == "(False, None)"
        running.run("predict.lock(9)")
        ask(running)  # `anew` is taken out again
        assert running.run(STATE).result == "(True, 9.0)"
    with kernel() as running:  # the file still holds the 8 of before
        ask(running)
        assert running.run(STATE).result == "(True, 9.0)"


def test_other_questions_cells_units_and_options_have_locks_of_their_own(book: Path, session: str) -> None:
    four = 'guesses = {n: Predict(f"Which in {n}?", kind="choice", options=["x", "y"]) for n in "ABCD"}'
    twice = 'one, two = Predict("How long?", unit="ms"), Predict("How long?", unit="ms")'
    with kernel() as running:
        ask(running)
        running.run("predict.lock(8)")
        ask(running, "copied")  # a copy of the cell, with another name
        assert running.run(STATE).result == "(False, None)"
        ask(running, "four", four)
        running.run("guesses['B'].lock('y')")
        ask(running, "four", four)
        assert running.run("[each.answer for each in guesses.values()]").result == "[None, 'y', None, None]"
        ask(running, "twice", twice)
        running.run("two.lock(3)")
        ask(running, "twice", twice)
        assert running.run("one.answer, two.answer").result == "(None, 3.0)"
        ask(running, source=ASK.replace('"ms"', '"s"'))
        assert running.run(STATE).result == "(False, None)"
        assert "Your earlier answer, 8 ms, was to another unit" in running.run("predict.said.value").result
        ask(running)
        assert running.run(STATE).result == "(True, 8.0)"


def test_an_edited_cell_keeps_its_lock_and_a_vanished_one_passes_it_on(book: Path, session: str) -> None:
    with kernel() as running:
        ask(running)
        running.run("predict.lock(8)")
        ask(running, source=f"# edited\n{ASK}")
        assert running.run(STATE).result == "(True, 8.0)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ASK, id="pasted")])
    book.write_text(nbformat.writes(notebook))
    with kernel() as running:
        ask(running, "pasted")
        assert running.run(STATE).result == "(True, 8.0)"


def test_where_a_notebook_is_only_run_nothing_is_written(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with kernel() as running:
        ask(running)
        running.run("predict.lock(8)")
        ask(running)  # the kernel itself does know
        assert running.run(STATE).result == "(True, 8.0)"
    assert not (book.parent / "state").exists()


def test_a_kernel_that_a_notebooks_kernel_starts_is_not_that_notebooks(book: Path, session: str) -> None:
    nested = (
        "import nbformat\nfrom nbclient import NotebookClient\n"
        f"inner = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell({IMPORT!r} + '\\n' + {ASK!r} + "
        "'\\npredict.lock(8); print(predict.answer)')])\n"
        "import threading\n"
        "thread = threading.Thread(target=lambda: NotebookClient(inner, kernel_name='python3').execute())\n"
        "thread.start(); thread.join()\ninner.cells[0].outputs[-1]['text']"
    )
    with kernel() as running:
        assert running.run(nested).result == r"'8.0\n'"
    assert not (book.parent / "state").exists()
