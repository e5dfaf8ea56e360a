"""A fresh copy of a notebook, beside the one that was written in."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab import cli
from lab.course import files, resetting
from lab.errors import LabError


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A student's copy, with notebook 05 changed."""
    folder = tmp_path / "mine"
    files.copy(folder)
    (folder / "05-microbatches.ipynb").write_text("a day's work")
    return folder


def course(name: str) -> bytes:
    return files.content(files.folder() / name)


@pytest.mark.parametrize("word", ["05", "5", "05-microbatches", "05-microbatches.ipynb", "mine/05-microbatches.ipynb"])
def test_it_is_known_by_its_number_and_by_its_name(mine: Path, word: str) -> None:
    assert resetting.reset([word], mine) == [resetting.Reset("05-microbatches.ipynb", "05-microbatches-yours-1.ipynb")]
    assert (mine / "05-microbatches.ipynb").read_bytes() == course("05-microbatches.ipynb")
    assert (mine / "05-microbatches-yours-1.ipynb").read_text() == "a day's work"


def test_nothing_is_ever_overwritten(mine: Path) -> None:
    (mine / "05-microbatches-yours-1.ipynb").write_text("older")
    for day in range(3):
        (mine / "05-microbatches.ipynb").write_text(f"day {day}")
        resetting.reset(["05"], mine)
    found = [path.read_text() for path in sorted(mine.glob("05-microbatches-yours-*"))]
    assert found == ["older", "day 0", "day 1", "day 2"]
    assert [path.name for path in mine.iterdir() if path.name.startswith(".copying")] == []


def test_what_is_fresh_stays_and_what_is_gone_comes_back(mine: Path) -> None:
    (mine / "07-what-is-hard.ipynb").unlink()
    before = len(list(mine.iterdir()))
    assert resetting.reset(["03", "7", "03"], mine) == [
        resetting.Reset("03-ddp-inside.ipynb", None, fresh=False),
        resetting.Reset("07-what-is-hard.ipynb", None),
    ]
    assert len(list(mine.iterdir())) == before + 1
    # It is the course's own again, and so it is brought up to date with the others.
    resetting.reset(["05"], mine)
    assert files.copy(mine).kept == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("12", "'12' is no notebook of the course: write a number from 00 to 09"),
        ("05-microbatch", "did you mean '05-microbatches'"),
        ("", "'' is no notebook"),
        ("²", "'²' is no notebook"),
    ],
)
def test_a_word_that_means_none_is_said(mine: Path, word: str, said: str) -> None:
    with pytest.raises(LabError, match=said):
        resetting.reset(["05", word], mine)
    assert (mine / "05-microbatches.ipynb").read_text() == "a day's work"


def test_a_folder_that_has_no_course_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="there is no folder"):
        resetting.reset(["05"], tmp_path / "nowhere")
    with pytest.raises(LabError, match="there is no notebook of the course in"):
        resetting.reset(["05"], tmp_path)
    with pytest.raises(LabError, match="where the course itself lies"):
        resetting.reset(["05"], files.folder())


def test_a_full_disk_leaves_everything_as_it_was(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name for path in mine.iterdir()}

    def full(*arguments: object, **settings: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fdopen", full)
    with pytest.raises(LabError, match=r"cannot renew .*05-microbatches\.ipynb: No space left on device"):
        resetting.reset(["05"], mine)
    assert {path.name for path in mine.iterdir()} == before
    assert (mine / "05-microbatches.ipynb").read_text() == "a day's work"


def test_the_command_resets_and_opens_nothing(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine)  # in the course's own folder no --dir is needed
    result = CliRunner().invoke(cli.app, ["notebooks", "--reset", "5,02", "--reset", "09"])
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "05-microbatches.ipynb is new; yours is 05-microbatches-yours-1.ipynb now.",
        "02-data-parallelism.ipynb is the course's own already: nothing was changed.",
        "09-how-to-choose.ipynb is the course's own already: nothing was changed.",
    ]
    result = CliRunner().invoke(cli.app, ["notebooks", "--reset", "55", "--dir", str(mine)])
    assert result.exit_code == 1
    assert "'55' is no notebook" in result.output
