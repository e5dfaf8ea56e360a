"""Fixtures for the notebook's widgets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import lab
from lab.experiment import Experiment
from tests.widgets.notebook.slow_run import SlowRun, until


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SlowRun]]:
    """The panel starts these in place of real ones."""
    started: list[SlowRun] = []

    def start(experiment: Experiment, net: Any = None) -> SlowRun:
        started.append(SlowRun(experiment))
        return started[-1]

    monkeypatch.setattr(lab, "start", start)
    monkeypatch.setattr("widgets.notebook.panel._warm_up", lambda: None)
    yield started
    for run in started:
        run.stop()
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("lab-")])
