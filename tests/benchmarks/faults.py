"""The fault table: what goes wrong, whom the lab blames, how long that takes, and what is left behind.

    python -m tests.benchmarks.faults [--where cpu vgpu placed] [--world-size 2] [--victim 1] [--runs 50]

Each fault is let loose in a run that trains; seconds go from then to the end of the run, all processes gone. A rank
that hangs or never joins is found after the run's `timeout_s`, 2 s here; one that leaves the group raises a second
later. Then come runs one after another, and what has grown with them.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import psutil

import lab
from lab.faults import KINDS, REGISTRY, FaultKind
from tests.benchmarks.common import print_table
from tests.lab.workers.cases import UNHEARD, WHERE, experiment, names

LASTING_SECONDS = 2.0
"""For which a run goes on that survives its fault."""
AMOUNTS = {"straggle": ":0:4", "delay": ":0:40", "throttle": ":0:2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", nargs="+", default=["cpu", "placed"], choices=WHERE)
    parser.add_argument("--world-size", type=int, default=2)
    parser.add_argument("--victim", type=int, default=1)
    parser.add_argument("--runs", type=int, default=50)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with lab.start(experiment("cpu", steps=1)) as run:
            run.result()
        tempfile.tempdir = folder  # from here on, so that what multiprocessing keeps is not in it
        for where in chosen.where:
            rows = [row(kind, where, chosen.world_size, chosen.victim, Path(folder)) for kind in KINDS]
            title = f"Rank {chosen.victim} of {chosen.world_size} ({where})"
            print_table(title, ["fault", "blamed", "right", "seconds", "leaks"], rows)
        one_after_another(chosen.runs, Path(folder))
        tempfile.tempdir = None


def row(kind: FaultKind, where: str, world_size: int, victim: int, folder: Path) -> list[str]:
    """Lets one fault loose."""
    before = left(folder)
    live = REGISTRY[kind].live
    faults = [] if live else [f"{kind}:{victim}"]
    settings = {"epochs": 1000, "timeout_s": 2 if kind in UNHEARD else 20, "faults": faults}
    began = time.perf_counter()
    with lab.start(experiment(where, world_size, **settings)) as run:
        if live:
            while run.state.step < 5 and not run.wait(0.01):
                pass
            began = time.perf_counter()
            run.inject(f"{kind}:{victim}{AMOUNTS.get(kind, '')}")
        if REGISTRY[kind].ends_run:
            run.wait()
            seconds = f"{time.perf_counter() - began:.2f}"
            failure = run.state.failure
            blamed, right = f"rank {failure.rank}: {failure.cause}", names(failure, kind, victim)
        else:
            late, seconds = None, "-"
            while late is None and time.perf_counter() - began < LASTING_SECONDS:
                time.sleep(0.05)
                late = run.state.straggler
            if late is not None:
                seconds = f"{time.perf_counter() - began:.2f}"
            blamed = str(late) if late else "nobody: the run goes on, and all wait alike"
            # On the virtual clock a slow link slows the whole ring.
            right = late.rank == victim if late else where != "cpu" and kind != "straggle"
    return [kind, blamed, "yes" if right else "NO", seconds, ", ".join(sorted(left(folder) - before)) or "none"]


def left(folder: Path) -> set[str]:
    """Everything of this process that can be left behind, but for what the forkserver keeps."""
    deadline = time.monotonic() + 2
    while True:
        alive = {f"thread {thread.name}" for thread in threading.enumerate()}
        alive |= {f"process {child.pid}" for child in psutil.Process().children(recursive=True)}
        alive |= {f"folder {path.name}" for path in folder.glob("parallel-lab-*")}
        alive.add(f"{psutil.Process().num_fds()} descriptors")
        if len(alive) <= 4 or time.monotonic() > deadline:
            return alive
        time.sleep(0.05)


def one_after_another(runs: int, folder: Path) -> None:
    this = psutil.Process()

    def counts() -> tuple[int, int, int, int, float]:
        children = len(this.children(recursive=True))
        return children, threading.active_count(), this.num_fds(), len(left(folder)), this.memory_info().rss / 1e6

    before = counts()
    began = time.perf_counter()
    for _ in range(runs):
        with lab.start(experiment("cpu", steps=1)) as run:
            run.result()
    seconds = (time.perf_counter() - began) / max(1, runs)
    after = counts()
    what = ("processes", "threads", "descriptors", "kept in all", "resident MB")
    rows = [[name, f"{a:.0f}", f"{b:.0f}"] for name, a, b in zip(what, before, after, strict=True)]
    print_table(f"{runs} runs of 2 ranks, {seconds:.2f} s each", ["what", "before", "after"], rows)


if __name__ == "__main__":
    main()
