"""What a virtual GPU costs: a training step on `vgpu:0` against the same step on the plain CPU.

    python -m tests.benchmarks.vgpu_overhead [--steps N] [--threads 1]

Both train the same net with the same batches, step by step in turns within one process, so that whatever else the
machine does falls on both. The figure is the ratio of the medians. The bars: 1.4 for Net at batch 64, whose operations
are so short that each one's cost in Python shows, and 1.05 for resnet18 at batch 32 on images of 64x64.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import torch

from lab import data, nets, vgpu
from tests.benchmarks.common import PlainLoop, print_table

BATCHES = 4


@dataclass(frozen=True)
class Case:
    """A net, its batch, and the most that its step may cost."""

    net: str
    spec: data.DataSpec
    batch_size: int
    steps: int
    bar: float


CASES = (
    Case("net", data.REGISTRY["mnist"].spec, 64, 400, 1.4),
    Case("resnet18", data.DataSpec("images", (3, 64, 64), 10, 0, 0), 32, 10, 1.05),
)


def measure(case: Case, steps: int) -> tuple[float, float]:
    """Median seconds of a step on the CPU and on the virtual GPU."""
    generator = torch.Generator().manual_seed(0)
    loops: dict[str, PlainLoop] = {}
    for device in ("cpu", "vgpu:0"):
        torch.manual_seed(0)
        loops[device] = PlainLoop(nets.build(case.net, case.spec).to(device))
    batches = {"cpu": [], "vgpu:0": []}  # type: ignore[var-annotated]
    for _ in range(BATCHES):
        inputs = torch.randn(case.batch_size, *case.spec.shape, generator=generator)
        targets = torch.randint(0, case.spec.classes, (case.batch_size,), generator=generator)
        for device, kept in batches.items():
            kept.append((inputs.to(device), targets.to(device)))
    times: dict[str, list[float]] = {"cpu": [], "vgpu:0": []}
    warm_up = max(2, steps // 10)
    for number in range(warm_up + steps):
        for device in sorted(times, reverse=bool(number % 2)):
            batch = batches[device][number % BATCHES]
            began = time.perf_counter()
            loops[device].step(*batch)
            times[device].append(time.perf_counter() - began)
    return statistics.median(times["cpu"][warm_up:]), statistics.median(times["vgpu:0"][warm_up:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="pairs of steps; by default a number for each net")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--net", choices=[case.net for case in CASES], help="one of the nets only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    vgpu.enable(devices=1)
    rows = []
    for case in CASES:
        if arguments.net in (None, case.net):
            plain, ours = measure(case, arguments.steps or case.steps)
            name = f"{case.net}, batch {case.batch_size}, {case.spec.shape}"
            ratio = f"{ours / plain:.3f}"
            rows.append([name, f"{plain * 1e3:.2f} ms", f"{ours * 1e3:.2f} ms", ratio, f"{case.bar:.2f}"])
    print_table(
        f"A step on a virtual GPU against the CPU, {arguments.threads} thread(s), medians of paired steps",
        ["net", "CPU", "vgpu:0", "ratio", "bar"],
        rows,
    )


if __name__ == "__main__":
    main()
