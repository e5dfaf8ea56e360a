"""What a DDP step costs in real time on virtual GPUs: Net on two ranks, beside the same on the CPU.

    python -m tests.benchmarks.vgpu_ddp [--pairs 5] [--steps 40] [--batch 64]

Both ranks train on one thread each, first on the CPU and then on virtual GPUs, in the same two processes. `alone` is a
step of one rank's part without DistributedDataParallel while the other rank does the same.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lab.nets.net import Net
from tests.benchmarks.common import print_table
from tests.lab.ranks import run_ranks

KINDS = ("CPU", "CPU, alone", "virtual GPUs", "virtual GPUs, alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run_ranks(
            2, measure, Path(folder), arguments.pairs, arguments.steps, arguments.batch, timing="measured"
        )
    if not isinstance(found[0], dict):
        raise SystemExit(found[0])
    rows = [[kind, f"{statistics.median(found[0][kind]):.2f}", f"{min(found[0][kind]):.2f}"] for kind in KINDS]
    print_table(
        f"A step of Net, {arguments.batch} images a rank, two ranks, in ms",
        ["on", f"median of {arguments.pairs}", "least"],
        rows,
    )


def measure(rank: int, pairs: int, steps: int, batch: int) -> dict[str, list[float]]:
    """Milliseconds per step of each kind, of every pair."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    nets: dict[str, nn.Module] = {}
    for kind in KINDS:
        net = Net().to("cpu" if kind.startswith("CPU") else f"vgpu:{rank}")
        nets[kind] = net if "alone" in kind else DistributedDataParallel(net)
    for _ in range(pairs):
        for kind, net in nets.items():
            dist.barrier()
            found[kind].append(ms_per_step(net, steps, batch))
    return found


def ms_per_step(net: nn.Module, steps: int, batch: int) -> float:
    device = next(net.parameters()).device
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    inputs, targets = torch.randn(batch, 1, 28, 28), torch.randint(0, 10, (batch,))
    began = 0.0
    for step in range(steps + 3):
        if step == 3:
            began = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(net(inputs.to(device)), targets.to(device)).backward()
        optimizer.step()
    return (time.perf_counter() - began) / steps * 1000


if __name__ == "__main__":
    main()
