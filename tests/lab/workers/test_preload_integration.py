"""A worker imports nothing that the forkserver could have loaded before: the reader would wait for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.experiment import Experiment

EXPERIMENTS = [
    Experiment(steps=1),
    Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, steps=1),
    Experiment(strategy="data_parallel", devices=["vgpu:0", "vgpu:1"], steps=1),
]
SCRIPT = """
import sys
import lab.workers.preload
loaded = set(sys.modules)
from pathlib import Path
from lab import training
from lab.experiment import Experiment
from lab.workers.board import Board
from lab.workers.control import Control
from lab.workers.group import Group, Seat
seat = Seat(0, 1, sys.argv[1], "gloo", 20.0)
board = Board(seat.board_path, 1, create=True)
training.Training("run", Group(seat), lambda batch: None, Control()).run(Experiment.from_json(sys.argv[2]))
print(*sorted(set(sys.modules) - loaded))
"""
MADE = "torch.vgpu"
"""A module that is made when virtual GPUs are, with its submodules, and in no file."""


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.strategy)
def test_a_run_finds_its_modules_loaded(experiment: Experiment, tmp_path: Path) -> None:
    asked = [sys.executable, "-c", SCRIPT, str(tmp_path), experiment.to_json()]
    ended = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    loaded = {name for name in ended.stdout.split() if name != MADE and not name.startswith(f"{MADE}.")}
    assert loaded == set()
