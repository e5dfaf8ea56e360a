"""What recording costs ranks: `ddp` with everything recorded, against a bare `torchrun` script of the same training.

    python -m tests.benchmarks.ddp_throughput [--nets net,resnet18] [--pairs 15] [--seconds 1] [--explain]

Both train with two ranks on the CPU, with the same data in memory, the same batches and as many threads. They take
turns of about a second, the others waiting without computing meanwhile, so that whatever else the machine does falls on
all. The bar is 0.97 of the script's throughput; `processor time` compares what the ranks computed in all, which other
programs disturb less. Workers keep the memory that a step frees (`lab.workers.launch.WORKER_ENVIRONMENT`), where a
script may give it back and take it again page by page; how it does with the workers' settings is told as well.
`--explain` adds a run whose collectives are checked against each other, as those of a run that is started again after
it failed; it is not held to the bar.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

import lab
from lab.events import StepFinished
from lab.workers.launch import WORKER_ENVIRONMENT
from tests.benchmarks.common import print_table

WORLD_SIZE = 2
WARM_UP = 20
"""Steps of both before anything is measured."""
SCRIPT = Path(__file__).with_name("ddp_script.py")


class Ours:
    """A run that is paused between its turns."""

    def __init__(self, net: str, *, explain: bool = False) -> None:
        self.run = lab.Run(
            lab.Experiment(net=net, data="mnist", strategy="ddp", world_size=WORLD_SIZE, epochs=1000), explain=explain
        )
        self._events = iter(self.run)
        self._paused_at(WARM_UP)
        self._pids = self.run.pids

    def _paused_at(self, step: int) -> list[StepFinished]:
        """Trains until `step` and a little on, and waits for the pause; the steps meanwhile."""
        finished: list[StepFinished] = []
        for event in self._events:
            if isinstance(event, StepFinished) and event.rank == 0:
                finished.append(event)
                if event.step == step:
                    self.run.pause()
            elif type(event).__name__ == "Paused":
                return finished
        raise RuntimeError(f"the run ended: {self.run.state.failure}")

    def turn(self, steps: int) -> tuple[float, float]:
        """Seconds a step, and the ranks' processor seconds a step."""
        before = _processor_seconds(self._pids)
        self.run.resume()
        finished = self._paused_at(self.run.state.step + steps)
        used = _processor_seconds(self._pids) - before
        taken = (finished[-1].end_ns - finished[0].end_ns) / 1e9
        return taken / (len(finished) - 1), used / len(finished)

    def close(self) -> None:
        self.run.close()


class Bare:
    """The script under torchrun, which trains as many steps as it is told by a line."""

    def __init__(self, net: str, settings: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._asks, self._tells = Path(self._folder.name, "asks"), Path(self._folder.name, "tells")
        for pipe in (self._asks, self._tells):
            os.mkfifo(pipe)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD_SIZE}"]
        threads = max(1, len(os.sched_getaffinity(0)) // WORLD_SIZE)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        environment.update(settings or {})
        self._process = subprocess.Popen(
            [*command, str(SCRIPT), net, str(self._asks), str(self._tells)], env=environment
        )
        self._asking, self._told = self._asks.open("w"), self._tells.open()
        self._pids = [int(pid) for pid in self._told.readline().split()]
        self.turn(WARM_UP)

    def turn(self, steps: int) -> tuple[float, float]:
        before = _processor_seconds(self._pids)
        print(steps, file=self._asking, flush=True)
        taken = float(self._told.readline())
        return taken / steps, (_processor_seconds(self._pids) - before) / steps

    def close(self) -> None:
        print(0, file=self._asking, flush=True)
        self._process.wait()
        self._asking.close()
        self._told.close()
        self._folder.cleanup()


def _processor_seconds(pids: Any) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def compare(net: str, pairs: int, seconds: float, *, explain: bool) -> list[list[str]]:
    contestants: dict[str, Bare | Ours] = {
        "torchrun script": Bare(net),
        "the script, with our settings": Bare(net, WORKER_ENVIRONMENT),
        "ddp, recorded": Ours(net),
    }
    if explain:
        contestants["ddp, explained"] = Ours(net, explain=True)
    try:
        steps = max(5, round(seconds / contestants["torchrun script"].turn(10)[0]))
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for number in range(pairs):
            for name in sorted(contestants, reverse=bool(number % 2)):
                taken[name].append(contestants[name].turn(steps))
    finally:
        for contestant in contestants.values():
            contestant.close()
    bare = taken["torchrun script"]
    rows = []
    for name, own in taken.items():
        ratios = sorted(b[0] / a[0] for a, b in zip(own, bare, strict=True))
        work = statistics.median(b[1] for b in bare) / statistics.median(a[1] for a in own)
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows.append(
            [
                f"{net}: {name}",
                f"{statistics.median(a[0] for a in own) * 1e3:.3f} ms",
                f"{middle:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{work:.3f}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default="net,resnet18")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--explain", action="store_true")
    given = parser.parse_args()
    rows = [
        row for net in given.nets.split(",") for row in compare(net, given.pairs, given.seconds, explain=given.explain)
    ]
    print_table(
        f"Throughput of {WORLD_SIZE} ranks, global batch 64, {given.pairs} pairs of turns; bar: 0.970",
        ["training", "median step", "throughput", "middle half", "processor time"],
        rows,
    )


if __name__ == "__main__":
    main()
