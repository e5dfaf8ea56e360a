"""Two ranks started by `torch.multiprocessing.spawn`, as a tutorial does it, for `latency`: prints the seconds from the
start of the processes to the end of the first step."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from lab import data, nets

WORLD_SIZE = 2


def train(rank: int, store: str, began: float) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD_SIZE)
    dataset = data.load("mnist")
    net = DistributedDataParallel(nets.build("net", data.REGISTRY["mnist"].spec))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    share = slice(rank, 64, WORLD_SIZE)
    F.cross_entropy(net(dataset.train_inputs[share]), dataset.train_targets[share]).backward()
    optimizer.step()
    if rank == 0:
        print(time.monotonic() - began, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(train, args=(str(Path(folder, "store")), time.monotonic()), nprocs=WORLD_SIZE)
