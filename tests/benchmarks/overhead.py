"""What the recorder costs: a step of `single` with everything recorded, against a bare loop's step.

    python -m tests.benchmarks.overhead [--steps 1000] [--threads 1]

Both train Net at batch 64 on the CPU with the same batches, step by step in turns within one process, so that whatever
else the machine does falls on both. The first figure is the ratio of the medians; the second is the ratio of the times
in all, which counts the steps in which the recorder reads and reports too. The bar is 3%.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lab import data, nets, timing
from lab.events import Event
from lab.experiment import Experiment
from lab.graph import trace
from lab.layers import layer_paths
from lab.strategies.base import Job
from lab.strategies.single import Single
from lab.timing.recorder import Recorder, SpanRow
from tests.benchmarks.common import PlainLoop, print_table

BATCHES = 20
WARM_UP = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64 * BATCHES, 1, 28, 28, generator=generator).split(64)
    targets = torch.randint(0, 10, (64 * BATCHES,), generator=generator).split(64)

    recorded, spans = _recorded_step()
    steps = {"single, recorded": recorded, "bare PyTorch": PlainLoop(_net()).step}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(WARM_UP + arguments.steps):
        batch = inputs[number % BATCHES], targets[number % BATCHES]
        for name, step in sorted(steps.items(), reverse=bool(number % 2)):
            began = time.perf_counter()
            step(*batch)
            times[name].append(time.perf_counter() - began)
    bare, ours = (times[name][WARM_UP:] for name in sorted(steps))
    # Whatever took more than twice the median was another process's turn on the core.
    limit = 2 * statistics.median(bare)
    calm = [(a, b) for a, b in zip(ours, bare, strict=True) if max(a, b) < limit]
    in_all = sum(a for a, _ in calm) / sum(b for _, b in calm)
    medians = statistics.median(ours), statistics.median(bare)
    print_table(
        f"Recorder overhead: Net, batch 64, CPU, {arguments.threads} thread(s), {arguments.steps} steps",
        ["loop", "median step", "of the bare loop", "in all"],
        [
            ["bare PyTorch", f"{medians[1] * 1e3:.3f} ms", "1.000", "1.000"],
            ["single, recorded", f"{medians[0] * 1e3:.3f} ms", f"{medians[0] / medians[1]:.3f}", f"{in_all:.3f}"],
        ],
    )
    print(f"{spans[0] / (WARM_UP + arguments.steps):.0f} spans a step; {len(calm)} calm pairs; bar: 1.030")


def _net() -> torch.nn.Module:
    torch.manual_seed(0)
    return nets.build("net", data.REGISTRY["mnist"].spec)


def _recorded_step() -> tuple[Callable[[Tensor, Tensor], object], list[int]]:
    """`single` as a worker runs it, up to the pipe."""
    net, experiment = _net(), Experiment()
    paths = layer_paths(net)
    traced = trace(net, paths, torch.zeros(64, 1, 28, 28), torch.zeros(64, dtype=torch.int64))
    placement = dict.fromkeys(paths, "cpu")
    spans = [0]

    def emit(batch: list[Event | SpanRow]) -> None:
        # As a worker does, except that nobody reads the other end.
        pickle.dumps(batch, protocol=pickle.HIGHEST_PROTOCOL)
        spans[0] += sum(isinstance(item, tuple) for item in batch)

    recorder = Recorder(timing.make_timer("wall", ["cpu"]), ["cpu"], emit)
    strategy = Single(Job(experiment, net, placement, traced.placed(placement), recorder))

    def step(inputs: Tensor, targets: Tensor) -> None:
        recorder.finish_step(strategy.train_step(inputs, targets), len(inputs))

    return step, spans


if __name__ == "__main__":
    main()
