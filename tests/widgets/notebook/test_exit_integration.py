"""A script that has shown something ends when it has come to its end, and leaves no worker behind."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

BEGINNING = """
import lab
from widgets.notebook import LabPanel, LossView
from widgets.notebook.panel import VIEWS

if __name__ == "__main__":
"""
ENDINGS = {
    "a panel whose run goes on": """
    panel = LabPanel(lab.Experiment(steps=100_000), show=list(VIEWS))
    panel.start()
    panel.run.wait(until=lambda state: state.step > 0)
    print(*panel.run.pids)
""",
    "a panel whose run is over": """
    panel = LabPanel(lab.Experiment(steps=3))
    panel.finished()
    print(*panel.run.pids)
""",
    "a view, and a panel that was never started": """
    run = lab.start(lab.Experiment(steps=100_000))
    view, panel = LossView(run), LabPanel()
    run.wait(until=lambda state: state.step > 0)
    print(*run.pids)
    held = [view, panel]
    held.append(held)
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_ends(ending: str) -> None:
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", BEGINNING + ENDINGS[ending]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    workers = [psutil.Process(int(pid)) for pid in done.stdout.split() if psutil.pid_exists(int(pid))]
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
