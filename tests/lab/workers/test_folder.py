"""Folders of runs: removed at their end, or by the next process when nobody was left to."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lab.workers.folder import Folder, sweep

pytestmark = pytest.mark.usefixtures("no_leaks")
HOLD = """
import time
from lab.workers.folder import Folder
folder = Folder()
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    hour_ago = time.time() - 3600
    os.utime(folder, (hour_ago, hour_ago))


def test_it_is_removed_with_all_that_is_in_it(root: Path) -> None:
    folder = Folder()
    assert folder.path.parent == root
    (folder.path / "board").write_text("x")
    folder.remove()
    assert list(root.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_nothing_else(root: Path) -> None:
    own = Folder()
    (root / "parallel-lab-course").mkdir()  # of the user's
    asked = [sys.executable, "-c", HOLD]
    holders = [
        subprocess.Popen(asked, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(root)})
        for _ in range(3)
    ]
    folders = []
    for holder in holders:
        assert holder.stdout is not None
        folders.append(Path(holder.stdout.readline().strip()))
    killed, young, alive = folders
    for holder in holders[:2]:
        holder.kill()
        holder.wait()
    for folder in (own.path, killed, alive, root / "parallel-lab-course"):
        age(folder)
    sweep(root)
    assert set(root.iterdir()) == {own.path, young, alive, root / "parallel-lab-course"}
    holders[2].kill()
    for holder in holders:
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    own.remove()


def test_a_full_disk_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        Folder()
    assert list(root.iterdir()) == []
