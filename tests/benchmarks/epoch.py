"""What a whole run costs: an epoch of `single` on MNIST, against a plain in-memory PyTorch loop over the same batches.

    python -m tests.benchmarks.epoch [--pairs 3] [--steps 938]

Each in a process of its own, with as many threads and the same OpenMP setting, one after the other; the figure is the
median of the pairs' ratios of training time (starting, loading and evaluating left out on both sides). The bar is 1.1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import lab
from lab.events import StepFinished
from lab.workers.launch import WORKER_ENVIRONMENT
from tests.benchmarks.common import PlainLoop, print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=938)
    parser.add_argument("--plain", action="store_true", help="run the plain loop in this process and print its seconds")
    arguments = parser.parse_args()
    if arguments.plain:
        print(plain(arguments.steps))
        return
    lab_run(3)  # starts the forkserver and unpacks the data
    rows, ratios = [], []
    for pair in range(arguments.pairs):
        ours = lab_run(arguments.steps)
        command = [sys.executable, "-m", "tests.benchmarks.epoch", "--plain", "--steps", str(arguments.steps)]
        environment = {**WORKER_ENVIRONMENT, **os.environ}
        theirs = float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        ratios.append(ours / theirs)
        rows.append([str(pair + 1), f"{theirs:.2f} s", f"{ours:.2f} s", f"{ours / theirs:.3f}"])
    rows.append(["median", "", "", f"{statistics.median(ratios):.3f}"])
    print_table(
        f"Training time of {arguments.steps} steps: Net, MNIST", ["pair", "plain loop", "lab run", "ratio"], rows
    )
    print("bar: 1.100")


def lab_run(steps: int) -> float:
    """Seconds of training in a run of the lab's, by the wall clock."""
    with lab.start(lab.Experiment(steps=steps)) as run:
        return sum(event.seconds for event in run if isinstance(event, StepFinished))


def plain(steps: int) -> float:
    """Seconds of the same training in a plain loop."""
    import torch

    from lab import data, nets

    dataset = data.load("mnist")
    torch.manual_seed(0)
    loop = PlainLoop(nets.build("net", data.REGISTRY["mnist"].spec))
    inputs, targets = dataset.train_inputs, dataset.train_targets
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0)).split(64)
    began = time.perf_counter()
    for indices in order[:steps]:
        loop.step(inputs[indices], targets[indices]).item()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
