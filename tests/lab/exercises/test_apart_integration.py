"""Calls in processes of their own: what they share, and how they end."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from lab.exercises import apart
from lab.exercises.grading import AnswerRaisedError, NotWrittenError, Wrong

_kept: list[int] = []


def remembers(value: int) -> int:
    _kept.append(value)
    return len(_kept)


def test_a_process_knows_nothing_of_what_another_has_done() -> None:
    with apart.process() as first, apart.process() as second:
        assert (first(remembers, 1), second(remembers, 1)) == (1, 1)
    assert not _kept


def test_tensors_travel_both_ways() -> None:
    with apart.process() as process:
        assert torch.equal(process(lambda x: 2 * x, torch.ones(3)), 2 * torch.ones(3))


def test_what_goes_wrong_there_is_told_here() -> None:
    with apart.process() as process:
        with pytest.raises(AnswerRaisedError, match=r"ZeroDivisionError.*in line .*1 / 0"):
            process(lambda: 1 / 0)
        with pytest.raises(NotWrittenError):
            process(lambda: ...)
        with pytest.raises(Wrong, match="A function is asked for"):
            process(3)
        with pytest.raises(Wrong, match="no process can give to another"):
            process(lambda: (each for each in ()))
        with pytest.raises(AnswerRaisedError, match="would end Python"):
            process(lambda: exit())
        with pytest.raises(Wrong, match="The process in which it ran has ended"):
            process(lambda: os._exit(3))


def test_what_cannot_travel_is_told_with_the_function_that_needs_it() -> None:
    lock = threading.Lock()

    def uses_a_lock() -> bool:
        return lock.locked()

    with apart.process() as process, pytest.raises(Wrong, match="does uses_a_lock use"):
        process(uses_a_lock)


def test_a_function_of_a_file_that_no_other_process_finds_travels(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("STEP = 2\n\ndef add(number):\n    return number + STEP\n")
    spec = importlib.util.spec_from_file_location("mine_alone", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mine_alone"] = module
    try:
        spec.loader.exec_module(module)
        with apart.process() as process:
            assert process(module.add, 1) == 3
    finally:
        del sys.modules["mine_alone"]


class Refuses:
    """What cannot be made again there."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_what_cannot_be_made_there_is_told_and_the_process_goes_on() -> None:
    with apart.process() as process:
        with pytest.raises(Wrong, match="cannot be made there: ValueError"):
            process(str, Refuses())
        assert process(str, 3) == "3"


def test_one_that_does_not_return_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 0.5)
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(Wrong, match="has still not returned"), apart.process() as process:
        process(time.sleep, 60)
    assert not [each for each in set(psutil.Process().children(recursive=True)) - before if each.name() == "sleep"]
