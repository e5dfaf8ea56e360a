"""The course's devices and length, and the copy that never loses what a student wrote."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import lab
from lab import cli, course, course_commands, vgpu
from lab.course import files, settings
from lab.errors import DeviceError, LabError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many GPUs torch seems to find."""
    found = [0]
    monkeypatch.setattr(settings, "_gpus", lambda: found[0])
    return found


@pytest.mark.parametrize(
    ("here", "count", "hardware", "expected"),
    [
        (0, 1, "auto", ("vgpu:0",)),
        (0, 3, "auto", ("vgpu:0", "vgpu:1", "vgpu:2")),
        (1, 1, "auto", ("cuda:0",)),
        (1, 2, "auto", ("vgpu:0", "vgpu:1")),
        (4, 2, "auto", ("cuda:0", "cuda:1")),
        (4, 2, "virtual", ("vgpu:0", "vgpu:1")),
        (2, 2, "gpu", ("cuda:0", "cuda:1")),
        (4, 2, "cuda:3, cuda:1", ("cuda:3", "cuda:1")),
        (0, 1, "vgpu:2,vgpu:0", ("vgpu:2",)),
    ],
)
def test_devices_are_those_of_the_machine_or_virtual(
    gpus: list[int], here: int, count: int, hardware: str, expected: tuple[str, ...]
) -> None:
    gpus[0] = here
    assert course.devices(count, hardware) == expected
    virtual = [name for name in expected if name.startswith("vgpu")]
    for name in virtual:  # they can be used at once
        assert torch.ones(2, device=name).sum().item() == 2
    if virtual:
        assert vgpu.current().device_count >= len(virtual)


@pytest.mark.parametrize(
    ("count", "hardware", "words"),
    [
        (2, "gpu", "wants 2 GPUs and torch finds 1: HARDWARE = 'auto'"),
        (2, "cuda:0", "wants 2 devices and HARDWARE = 'cuda:0' names 1"),
        (1, "cuda:7", "'cuda:7' is not here: torch finds 1 GPUs"),
        (1, "tpu:0", "'tpu:0' is no device"),
        (1, "atuo", "did you mean 'auto'"),
        (0, "auto", "at least 1"),
    ],
)
def test_a_setting_that_cannot_be_is_a_sentence(gpus: list[int], count: int, hardware: str, words: str) -> None:
    gpus[0] = 1
    with pytest.raises(DeviceError, match=words):
        course.devices(count, hardware)


def test_the_long_form_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(course.LONG_VARIABLE, raising=False)
    assert course.length(steps=60, epochs=2) == {"steps": 60}
    monkeypatch.setenv(course.LONG_VARIABLE, "1")
    assert course.length(steps=60, epochs=2) == {"epochs": 2}
    assert lab.Experiment(**course.length(steps=60, epochs=2)).epochs == 2
    monkeypatch.setenv(course.LONG_VARIABLE, "0")
    assert not course.long_form()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course of two notebooks in place of the real one."""
    folder = tmp_path / "course"
    folder.mkdir()
    (folder / "00-a.ipynb").write_text("a1")
    (folder / "01-b.ipynb").write_text("b1")
    (folder / "README.md").write_text("not copied")
    monkeypatch.setattr(files, "folder", lambda: folder)
    return folder


def test_a_copy_has_every_notebook(small: Path, tmp_path: Path) -> None:
    mine = tmp_path / "deep" / "mine"
    assert files.copy(mine).new == ["00-a.ipynb", "01-b.ipynb"]
    assert sorted(path.name for path in mine.iterdir()) == [".parallel-lab.json", "00-a.ipynb", "01-b.ipynb"]
    assert (mine / "00-a.ipynb").read_text() == "a1"
    assert files.copy(mine).same == ["00-a.ipynb", "01-b.ipynb"]


def test_what_a_student_changed_is_kept_and_the_rest_brought_up_to_date(small: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    files.copy(mine)
    (mine / "00-a.ipynb").write_text("my own")
    for name in ("00-a", "01-b"):
        (small / f"{name}.ipynb").write_text("newer")
    copied = files.copy(mine)
    assert (copied.kept, copied.updated) == (["00-a.ipynb"], ["01-b.ipynb"])
    assert (mine / "00-a.ipynb").read_text() == "my own"
    assert (mine / "01-b.ipynb").read_text() == "newer"
    said = "\n".join(files.told(copied, mine))
    assert "1 brought up to date" in said
    assert "Kept 00-a.ipynb, which you have changed" in said
    assert f"--dir {mine} --reset 00`" in said
    # Also the time after, when the record knows the newer ones.
    assert files.copy(mine).kept == ["00-a.ipynb"]
    assert (mine / "00-a.ipynb").read_text() == "my own"


@pytest.mark.parametrize("record", ["", "not json", "[1]", '{"00-a.ipynb": 3}'])
def test_without_a_record_everything_there_is_the_students(small: Path, tmp_path: Path, record: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "00-a.ipynb").write_text("of mine")
    (mine / files.RECORD).write_text(record)
    copied = files.copy(mine)
    assert (copied.kept, copied.new) == (["00-a.ipynb"], ["01-b.ipynb"])
    assert (mine / "00-a.ipynb").read_text() == "of mine"


def test_a_folder_that_cannot_be_written_to_is_a_sentence(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot copy the course to"):
        files.copy(tmp_path / "file")
    with pytest.raises(LabError, match="where the course itself lies"):
        files.copy(small)


def test_the_real_course_is_found() -> None:
    names = [path.name for path in files.notebooks()]
    assert names[0] == "00-tour.ipynb"
    for path in files.notebooks():
        assert json.loads(path.read_text(encoding="utf-8"))["nbformat"] == 4


def test_what_the_notebooks_link_to_comes_along(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    files.copy(mine)
    links = [
        (path, link)
        for path in [*mine.glob("*.ipynb"), *mine.rglob("*.md")]
        for link in re.findall(r"\]\((?![a-z]+:|#)([^)\s]+)\)", path.read_text(encoding="utf-8"))
    ]
    assert {"docs/virtual-gpus.md", "docs/examples/resnet50_split.py"} <= {link for _, link in links}
    assert [(path.name, link) for path, link in links if not (path.parent / link.partition("#")[0]).is_file()] == []


def test_the_package_has_what_is_copied_and_no_answers(tmp_path: Path) -> None:
    """By the patterns that the wheel is built with."""
    root = files.folder().parent
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for name in files.companions():
        assert any(name == path or name.startswith(f"{path}/") for path in wheel["only-include"]), name
    assert wheel["exclude"] == ["notebooks/*", "!notebooks/*.ipynb"]
    assert set(wheel["sources"].values()) == {"lab/course/notebooks", "lab/course/docs"}
    assert "force-include" not in wheel


@pytest.mark.parametrize(("user", "more"), [(1000, []), (0, ["--allow-root"])])
def test_the_command_copies_and_opens_jupyterlab(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, more: list[str]
) -> None:
    opened: list[tuple[list[str], Path]] = []

    class Ended:
        returncode = 0

    def run(command: list[str], cwd: Path, check: bool) -> Ended:
        opened.append((command, cwd))
        return Ended()

    monkeypatch.setattr(course_commands.subprocess, "run", run)
    monkeypatch.setattr(course_commands.os, "geteuid", lambda: user, raising=False)
    mine = tmp_path / "mine"
    runner = CliRunner()
    result = runner.invoke(cli.app, ["notebooks", "--dir", str(mine), "--no-open"])
    assert (result.exit_code, opened) == (0, [])
    assert "2 new" in result.output
    result = runner.invoke(cli.app, ["notebooks", "--dir", str(mine), "--no-browser"])
    assert result.exit_code == 0
    command, folder = opened[0]
    assert command[1:] == ["-m", "jupyterlab", "00-a.ipynb", "--no-browser", *more]
    assert folder == mine


def test_the_command_says_what_cannot_be(small: Path) -> None:
    result = CliRunner().invoke(cli.app, ["notebooks", "--dir", str(small), "--no-open"])
    assert result.exit_code == 1
    assert "copy it to another folder with --dir" in result.output


def test_the_command_misses_jupyterlab(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course_commands.importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(cli.app, ["notebooks", "--dir", str(tmp_path / "mine")])
    assert result.exit_code == 1
    assert "pip install jupyterlab" in result.output
