"""Distributed data parallelism as a tutorial writes it, for `ddp_throughput`.

torchrun starts it, with a net's name and two named pipes. It reads how many steps to train, and writes how many seconds
they took.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DistributedSampler

from lab import data, nets


def batches(samples: int, rank: int, world_size: int) -> Iterator[list[int]]:
    sampler: DistributedSampler[int] = DistributedSampler(range(samples), num_replicas=world_size, rank=rank, seed=0)
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        yield from BatchSampler(sampler, 64 // world_size, drop_last=True)


def main(name: str, asks: str, tells: str) -> None:
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    dataset = data.load("mnist")
    torch.manual_seed(0)
    net = DistributedDataParallel(nets.build(name, data.REGISTRY["mnist"].spec))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    indices = batches(len(dataset.train_inputs), rank, world_size)
    # Rank 0 hears what to do, and tells the other.
    pids: list[int | None] = [None] * world_size
    dist.all_gather_object(pids, os.getpid())
    with (
        Path(asks if rank == 0 else os.devnull).open() as asked,
        Path(tells if rank == 0 else os.devnull).open("w") as told,
    ):
        print(*pids, file=told, flush=True)
        while True:
            steps = torch.tensor([int(asked.readline() or 0)])
            dist.broadcast(steps, 0)
            if not steps:
                break
            began = time.perf_counter()
            for _ in range(int(steps)):
                batch = next(indices)
                optimizer.zero_grad()
                loss = F.cross_entropy(net(dataset.train_inputs[batch]), dataset.train_targets[batch])
                loss.backward()
                optimizer.step()
            print(time.perf_counter() - began, file=told, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
