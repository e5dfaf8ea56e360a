"""What an exception means, in a sentence and an advice."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import NoReturn

import pytest

import lab
from lab.errors import RunError


def test_a_full_disk_ends_the_run_with_what_to_do(monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    def full(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/parallel-lab-x")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with lab.start(lab.Experiment(steps=1)) as run, pytest.raises(RunError, match="No space left on device") as caught:
        run.result(timeout=60)
    assert "free some space" in str(caught.value)
