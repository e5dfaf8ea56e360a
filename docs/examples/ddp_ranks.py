"""DistributedDataParallel on virtual GPUs: two processes, a device for each, and what their all-reduce costs.

Everything from `train` to `net` is plain PyTorch; on real GPUs, DEVICE is "cuda" and the backend "nccl".

    python docs/examples/ddp_ranks.py --ranks 2 --hardware t4
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lab import vgpu

DEVICE = "vgpu"


def train(rank: int, ranks: int, hardware: str, folder: str) -> None:
    vgpu.enable(devices=ranks, hardware=hardware, timing="modelled")  # the same machine in every process
    store = dist.FileStore(f"{folder}/store", ranks)
    dist.init_process_group(f"cpu:gloo,{DEVICE}:vgloo", store=store, rank=rank, world_size=ranks)
    device = f"{DEVICE}:{rank}"

    torch.manual_seed(rank)  # the copies become equal when DistributedDataParallel is made
    net = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)).to(device)
    ddp = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
    images, labels = torch.randn(64, 1024, device=device), torch.randint(10, (64,), device=device)

    for step in range(4):
        with vgpu.profile() as profile:
            optimizer.zero_grad()
            nn.functional.cross_entropy(ddp(images), labels).backward()
            optimizer.step()
        if step == 3:
            profile.save(f"{folder}/rank-{rank}.json")
            Path(f"{folder}/rank-{rank}.txt").write_text(profile.summary(), encoding="utf-8")
    Path(f"{folder}/weights-{rank}").write_text(str(net[0].weight.sum().item()), encoding="utf-8")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train one net on several virtual GPUs, a process for each.")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--hardware", default="t4", help="what the virtual GPUs pretend to be")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(train, (options.ranks, options.hardware, folder), nprocs=options.ranks)
        for rank in range(options.ranks):
            print(f"rank {rank}, weights that add up to {(Path(folder) / f'weights-{rank}').read_text()}")
        print((Path(folder) / "rank-0.txt").read_text())


if __name__ == "__main__":
    main()
