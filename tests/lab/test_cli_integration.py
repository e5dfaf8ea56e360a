"""The command line with real runs: exit codes, Ctrl-C, closed pipes, a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

COMMAND = [sys.executable, "-m", "lab"]
LONG = ["run", "--net", "mlp", "--epochs", "1000"]
pytestmark = pytest.mark.usefixtures("no_leaks")


def done(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, as a shell starts it, so that Ctrl-C reaches all of it."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    family = psutil.Process(process.pid)
    try:
        yield process
        _, alive = psutil.wait_procs(_children(family), timeout=5)
        assert not alive
    finally:
        for each in [*_children(family), process]:
            each.kill()
        process.communicate(timeout=30)


def _children(family: psutil.Process) -> list[psutil.Process]:
    try:
        return family.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_for_line(process: subprocess.Popen[str], start: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return
    assert process.stderr is not None
    raise AssertionError(f"no line begins with {start!r}; stderr: {process.stderr.read()}")


def test_json_lines_of_a_split_net() -> None:
    ended = done(
        *("run", "--strategy", "model_parallel", "--devices", "vgpu:0,vgpu:1", "--steps", "3", "--json"),
        *("--place", "conv1=vgpu:0", "--place", "*=vgpu:1"),
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (events[0]["event"], events[-1]["event"], events[-1]["state"]) == ("RunStarted", "RunFinished", "finished")
    assert [event["step"] for event in events if event["event"] == "StepFinished"] == [0, 1, 2]
    assert {event["device"] for event in events if event["event"] == "Span"} >= {"vgpu:0", "vgpu:1"}
    (graph,) = (event["graph"] for event in events if event["event"] == "GraphTraced")
    crossing = [edge for edge in graph["edges"] if edge["crosses"]]
    # conv1's output is pooled to 12 × 12 before conv2 reads it.
    assert [(edge["forward_bytes"], edge["backward_bytes"]) for edge in crossing] == [(64 * 10 * 12 * 12 * 4,) * 2]


def test_a_finished_run_ends_with_a_summary() -> None:
    ended = done("run", "--net", "mlp", "--steps", "3")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(r"^Finished\nsteps +3 of 3", ended.stdout, re.MULTILINE)
    assert "MNIST" in ended.stdout


def test_a_loss_that_explodes_is_a_failure() -> None:
    ended = done("run", "--net", "mlp", "--lr", "1000", "--steps", "200")
    assert ended.returncode == 1
    assert "Failed" in ended.stdout
    assert re.search(r"^Failed: .*loss became (nan|inf)", ended.stderr, re.MULTILINE)


def test_bad_input_starts_nothing() -> None:
    ended = done("run", "--batch-size", "0", "--lr", "nan")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("parallel-lab: 2 problems:\n  - ")


def test_ctrl_c_stops_the_run_and_prints_the_summary() -> None:
    with running(*LONG) as process:
        wait_for_line(process, "step")
        pressed = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
        took = time.monotonic() - pressed
    assert process.returncode == 130
    assert re.search(r"^Stopped\nsteps", out, re.MULTILINE)
    assert err == ""
    assert took < 5


def test_a_second_ctrl_c_ends_at_once() -> None:
    with running(*LONG, "--json") as process:
        wait_for_line(process, '{"event": "StepFinished"')
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)  # two presses, not one
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == ""


def test_ctrl_c_while_it_starts() -> None:
    with running(*LONG) as process:
        time.sleep(0.6)  # Python has started; the worker has not
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err or process.returncode == -signal.SIGINT


@pytest.mark.parametrize("output", [[], ["--json"]], ids=["lines", "json"])
def test_a_reader_that_leaves_ends_the_run_quietly(output: list[str]) -> None:
    with running(*LONG, *output) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=60)
        assert process.stderr is not None
        err = process.stderr.read()
    assert process.returncode == 141
    assert err == ""


def test_a_terminal_gets_a_live_table() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "130", "LINES": "40"}
    with subprocess.Popen(
        [*COMMAND, "run", "--net", "mlp", "--strategy", "model_parallel", "--steps", "20"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:
            pass  # Linux: the other end is closed
        os.close(ours)
    text = shown.decode()
    assert process.returncode == 0
    for said in ("ETA", "vgpu:0", "waiting", "simulated", "MNIST", "Finished"):
        assert said in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("run --steps 2 >&-", 0),
        ("run --steps 2 --json >&- 2>&- <&-", 0),
        ("run --steps 2 > /dev/full", 1),
        ("run --steps 2 --json > /dev/full", 1),
        ("run --config /nowhere > /dev/full", 2),
        ("devices --json > /dev/full", 1),
        ("devices >&-", 0),
        ("--help > /dev/full", 1),
        ("--help | true; exit ${PIPESTATUS[0]}", 141),
        ("devices | true; exit ${PIPESTATUS[0]}", 141),
    ],
)
def test_output_that_goes_nowhere_is_said_by_the_exit_code(command: str, code: int) -> None:
    line = f"{shlex.join(COMMAND)} {command}"
    ended = subprocess.run(["bash", "-c", line], stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert ended.returncode == code
    told = "parallel-lab: the output cannot be written: No space left on device\n"
    assert ended.stderr == (told if code == 1 else ended.stderr)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("seconds", [1.5, 3.0])
def test_ctrl_c_while_the_run_starts_ends_it_soon(seconds: float) -> None:
    """The processes are still loading torch; none of them is left."""
    with running(*LONG) as process:
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        began = time.monotonic()
        process.wait(timeout=20)
        assert time.monotonic() - began < 4.0  # two seconds, on a machine with nothing else to do
    assert process.returncode in (130, -signal.SIGINT)
