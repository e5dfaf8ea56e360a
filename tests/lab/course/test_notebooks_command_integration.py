"""The command that opens JupyterLab: what ends it ends JupyterLab too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_the_command_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("RUNTIME", "CONFIG", "DATA")}
    command = subprocess.Popen(
        [sys.executable, "-m", "lab", "notebooks", "--dir", str(tmp_path / "course"), "--no-browser"],
        env={**os.environ, **folders, "JUPYTER_PORT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        runtime = tmp_path / "RUNTIME"
        deadline = time.monotonic() + 90
        while not list(runtime.glob("jpserver-*.json")):  # written when it serves
            assert time.monotonic() < deadline, "JupyterLab did not start"
            assert command.poll() is None
            time.sleep(0.2)
        started = psutil.Process(command.pid).children(recursive=True)
        assert started
        command.send_signal(number)
        command.wait(30)
        _, alive = psutil.wait_procs(started, timeout=30)
        assert alive == []
    finally:
        if command.poll() is None:
            for child in psutil.Process(command.pid).children(recursive=True):
                child.kill()
            command.kill()
            command.wait(10)
