"""How long a user waits: for the import, for the first step, for Stop, and for word of a killed worker.

    python -m tests.benchmarks.latency [--times 5]

The first run, which starts the forkserver and may unpack data, is left out. Figures are medians on the wall clock.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

import lab
from lab.events import StepFinished
from tests.benchmarks.common import print_table

ENDLESS = lab.Experiment(epochs=1000)
SPAWN_ATTEMPTS = 10
RANKS = lab.Experiment(strategy="ddp", world_size=2, steps=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    first_step(lab.Experiment(steps=1))
    measured: list[tuple[str, str, Callable[[], float]]] = [
        ("import lab", "0.30 s", import_seconds),
        ("warm start to the first step, single", "0.15 s", lambda: first_step(lab.Experiment(steps=1))),
        (
            "warm start to the first step, model parallel",
            "0.15 s",
            lambda: first_step(lab.Experiment(strategy="model_parallel", steps=1)),
        ),
        ("Stop to the end of the run", "1.00 s", lambda: until_done(lab.Run.stop)),
        ("killed worker to the end of the run", "1.00 s", lambda: until_done(kill_worker)),
    ]
    rows = [
        [name, f"{statistics.median(measure() for _ in range(times)):.3f} s", bar] for name, bar, measure in measured
    ]
    rows += against_spawn(times)
    print_table(f"Latencies, medians of {times}", ["what", "seconds", "bar"], rows)


def against_spawn(times: int) -> list[list[str]]:
    """The start of two ranks, in turns with that of a script which uses `torch.multiprocessing.spawn`."""
    pairs = [(first_step(RANKS), spawn_seconds()) for _ in range(times)]
    pairs = [pair for pair in pairs if not math.isnan(pair[1])] or pairs
    ours, spawned = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [spawn / own for own, spawn in pairs]
    return [
        ["warm start to the first step, 2 ranks", f"{ours:.3f} s", "0.200 s"],
        ["the same by a script with mp.spawn", f"{spawned:.3f} s", ""],
        ["  times as long", f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})", "15.0"],
    ]


def spawn_seconds() -> float:
    """From `spawn` to the end of the first step of two ranks. The script is repeated when it fails, which is said: a
    rank of gloo's may abort when the other has left already."""
    command = [sys.executable, "-m", "tests.benchmarks.spawn_script"]
    for attempt in range(1, SPAWN_ATTEMPTS + 1):
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode == 0:
            return float(ended.stdout)
        last = (ended.stderr.strip().splitlines() or ["without a word"])[-1]
        print(f"the script with mp.spawn failed (attempt {attempt} of {SPAWN_ATTEMPTS}): {last}", file=sys.stderr)
    return math.nan


def import_seconds() -> float:
    """Of `import lab` in an interpreter of its own."""
    code = "import time; began = time.perf_counter(); import lab; print(time.perf_counter() - began)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def first_step(experiment: lab.Experiment) -> float:
    began = time.perf_counter()
    with lab.start(experiment) as run:
        next(event for event in run if isinstance(event, StepFinished))
        return time.perf_counter() - began


def until_done(end: Callable[[lab.Run], object]) -> float:
    """Seconds from ending a run that trains to its being done."""
    with lab.start(ENDLESS) as run:
        next(event for event in run if isinstance(event, StepFinished))
        began = time.perf_counter()
        end(run)
        run.wait()
        return time.perf_counter() - began


def kill_worker(run: lab.Run) -> None:
    """Kills the process that trains: of this process's family, the last to start."""
    family = psutil.Process().children(recursive=True)
    max(family, key=psutil.Process.create_time).kill()


if __name__ == "__main__":
    main()
