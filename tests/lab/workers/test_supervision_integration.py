"""Ranks are never left alone, nor in anybody's way: whatever happens to their parent, or to what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import lab
from lab import backlog
from lab.events import ParametersSummed, RunFinished, RunStarted, Span, StepFinished
from tests.lab.workers.cases import experiment

pytestmark = pytest.mark.usefixtures("no_leaks")
PATIENCE = 60.0


class Parent:
    """A script in an interpreter of its own, which starts a run and says the process numbers of its ranks."""

    def __init__(self, folder: Path, body: str) -> None:
        self.runs = folder / "runs"
        self.runs.mkdir()
        script = folder / "script.py"
        script.write_text(textwrap.dedent(body), encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TMPDIR": str(self.runs)},
            start_new_session=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def left(self) -> list[str]:
        """Folders of runs."""
        return [path.name for path in self.runs.glob("parallel-lab-*")]

    def close(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait()


TRAINING = """
    import sys, time
    import lab

    def start():
        run = lab.start(lab.Experiment(strategy="ddp", world_size=2, epochs=1000))
        while run.state.step < 3:
            time.sleep(0.01)
        print(*run.pids, flush=True)
        return run

    if __name__ == "__main__":
        run = start()
"""


@pytest.fixture
def parent(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Parent]:
    started = Parent(tmp_path, TRAINING + request.param)
    yield started
    started.close()


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def until(true: object, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.02)
    return bool(true())  # type: ignore[operator]


@pytest.mark.parametrize("parent", ["        time.sleep(600)\n"], indirect=True)
def test_a_killed_parent_leaves_no_rank_and_no_folder(parent: Parent) -> None:
    ranks = [psutil.Process(int(pid)) for pid in parent.line().split()]
    assert len(ranks) == 2
    assert len(parent.left()) == 1
    family = parent.family()
    parent.process.kill()
    assert gone([*ranks, *family])
    assert until(lambda: not parent.left())


@pytest.mark.parametrize(
    "parent",
    [
        """
        try:
            print("ready", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            print(run.done, flush=True)
        step = run.state.step
        while run.state.step < step + 3:
            time.sleep(0.01)
        run.close()
        print(run.result().state, flush=True)
"""
    ],
    indirect=True,
)
def test_an_interrupt_reaches_the_user_and_not_the_ranks(parent: Parent) -> None:
    """Ctrl-C goes to the whole process group; what becomes of the run is for its parent to say."""
    ranks = [psutil.Process(int(pid)) for pid in parent.line().split()]
    assert parent.line() == "ready"
    os.killpg(parent.process.pid, signal.SIGINT)
    assert parent.line() == "False"
    assert parent.line() == "stopped"
    assert gone(ranks)
    assert until(lambda: not parent.left())


@pytest.mark.parametrize(
    "parent",
    [
        """
        import os
        if len(sys.argv) == 1:  # as a notebook's kernel does it: another program in the same process
            os.execv(sys.executable, [sys.executable, __file__, "again"])
        run.close()
        print(run.result().state, flush=True)
"""
    ],
    indirect=True,
)
def test_a_process_that_becomes_another_program_leaves_no_rank_of_the_first(parent: Parent) -> None:
    first = [psutil.Process(int(pid)) for pid in parent.line().split()]
    second = [psutil.Process(int(pid)) for pid in parent.line().split()]
    assert not {process.pid for process in first} & {process.pid for process in second}
    assert parent.line() == "stopped"
    assert gone([*first, *second])
    assert until(lambda: not parent.left())


def test_two_runs_of_several_ranks_at_once_do_not_mix() -> None:
    def losses(run: lab.Run) -> dict[tuple[int, int], float]:
        return {(event.step, event.rank): event.loss for event in run if isinstance(event, StepFinished)}

    def of(seed: int) -> lab.Experiment:
        return experiment("cpu", steps=4, seed=seed)

    with lab.start(of(1)) as one, lab.start(of(2)) as two:
        together = losses(one), losses(two)
    for seed, found in zip((1, 2), together, strict=True):
        with lab.start(of(seed)) as alone:
            assert losses(alone) == found


def test_a_run_outlives_the_thread_that_started_it() -> None:
    """A page starts runs from threads that end at once."""
    started: list[lab.Run] = []
    thread = threading.Thread(target=lambda: started.append(lab.start(experiment("cpu", steps=5))))
    thread.start()
    thread.join()
    [run] = started
    assert run.result(PATIENCE).steps == 5
    run.close()


def test_many_runs_one_after_another_grow_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    this = psutil.Process()

    def go(times: int) -> tuple[int, int, int]:
        for _ in range(times):
            with lab.start(experiment("cpu", steps=1)) as run:
                run.result(PATIENCE)
        return this.num_fds(), threading.active_count(), len(list(tmp_path.iterdir()))

    before = go(3)
    resident = this.memory_info().rss
    assert go(17) == before
    assert this.memory_info().rss - resident < 20e6


def test_ranks_that_print_ten_megabytes_are_not_held_up(tmp_path: Path) -> None:
    body = """
        import os
        import torch
        from torch import nn
        import lab

        class Loud(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(784, 10)
                self.said = False
            def forward(self, x):
                if x.device.type != "meta" and not self.said:
                    self.said = True
                    for _ in range(10):
                        os.write(2, b"x" * 999_999 + b"\\n")
                return self.fc(x.flatten(1))

        if __name__ == "__main__":
            print(lab.start(lab.Experiment(strategy="ddp", world_size=2, steps=2), net=Loud).result().steps)
        """
    script, errors = tmp_path / "script.py", tmp_path / "errors"
    script.write_text(textwrap.dedent(body), encoding="utf-8")
    with errors.open("wb") as file:
        done = subprocess.run(
            [sys.executable, script], stdout=subprocess.PIPE, stderr=file, timeout=PATIENCE * 2, check=False
        )
    assert done.stdout.strip() == b"2"
    assert errors.stat().st_size >= 2 * 10_000_000


def test_a_flood_of_events_from_eight_ranks_loses_nothing_that_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads: spans and checksums give way, but `state` knows every step, and the last words come."""
    limit = 400
    monkeypatch.setattr(backlog, "MAX_EVENTS", limit)
    most = 0
    steps = 25
    with lab.start(experiment("cpu", 8, steps=steps)) as run:
        while not run.wait(0.01):
            most = max(most, len(run._backlog))
        assert run.result().state == "finished"
    assert run.state.step == steps
    assert {rank: len(series) for rank, series in run.state.loss.items()} == dict.fromkeys(range(8), steps)
    assert most <= limit + 8 * 64
    left = list(run)
    assert isinstance(left[0], RunStarted)
    assert isinstance(left[-1], RunFinished)


def test_a_slow_reader_holds_up_reports_and_not_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that takes an event now and then gets all of them; the ranks are done long before it is."""
    monkeypatch.setattr(backlog, "MAX_EVENTS", 20)
    steps, most, left = 30, 0, 0
    seen: list[object] = []
    with lab.start(experiment("cpu", 4, steps=steps)) as run:
        for event in run:
            seen.append(event)
            most = max(most, len(run._backlog))
            if all(position.phase == "done" for position in run.positions()):
                left = left or steps * 4 - sum(isinstance(event, StepFinished) for event in seen)
            time.sleep(0.001)
    finished = [event for event in seen if isinstance(event, StepFinished)]
    assert sorted((event.step, event.rank) for event in finished) == [(s, r) for s in range(steps) for r in range(4)]
    sums = [event for event in seen if isinstance(event, ParametersSummed)]
    assert len(sums) == steps * 4
    spans = [event for event in seen if isinstance(event, Span) and event.kind == "collective"]
    assert len(spans) >= steps * 4
    assert run.state.finished.dropped_spans == 0
    assert most < 20 + 2_000  # one batch beyond the limit at most
    assert left > 0  # steps that the loop had not seen when all ranks were done
