"""Three ways to shard a net over four GPUs, in plain PyTorch: fully sharded, tensor parallel, and one within the other.

Everything from `Block` to `train` is as it is written for real GPUs; there DEVICE is "cuda" and the backend "nccl".

    python docs/examples/sharded_steps.py --hardware t4 --pictures .

For each way it prints the losses of three steps, beside those of the whole batch on the CPU, and what a step's
collectives carried. With --pictures it draws the last step of all ranks, as web pages.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from lab import vgpu

DEVICE = "vgpu"
RANKS, BLOCKS, WIDTH, BATCH, STEPS = 4, 4, 256, 64, 3
WAYS = {"fully sharded": (4, 1), "tensor parallel": (1, 4), "both": (2, 2)}
"""How many ranks share a batch's samples, and how many a layer's weights."""


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:  # (B, WIDTH) -> (B, WIDTH)
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*[Block() for _ in range(BLOCKS)], nn.Linear(WIDTH, 10))


def make_batch() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, WIDTH, generator=made), torch.randint(10, (BATCH,), generator=made)


def shard(net: nn.Sequential, mesh: DeviceMesh) -> nn.Sequential:
    """Over the mesh's axes `dp` and `tp`; an axis of one rank is left out."""
    for block in net[:-1]:
        if mesh["tp"].size() > 1:
            parallelize_module(block, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
        if mesh["dp"].size() > 1:
            fully_shard(block, mesh=mesh["dp"])
    if mesh["dp"].size() > 1:
        fully_shard(net, mesh=mesh["dp"])
    return net


def train(net: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def losses_on_the_cpu() -> list[float]:
    net = make_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    return [train(net, *make_batch(), optimizer).item() for _ in range(STEPS)]


def run_rank(rank: int, hardware: str, folder: str, pictures: str | None) -> None:
    vgpu.enable(devices=RANKS, hardware=hardware, timing="modelled")  # the same machine in every process
    torch.get_device_module(DEVICE).set_device(rank)
    store = dist.FileStore(f"{folder}/store", RANKS)
    dist.init_process_group(f"cpu:gloo,{DEVICE}:vgloo", store=store, rank=rank, world_size=RANKS)
    for way, (dp, tp) in WAYS.items():
        mesh = init_device_mesh(DEVICE, (dp, tp), mesh_dim_names=("dp", "tp"))
        net = shard(make_net().to(DEVICE), mesh)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        mine = mesh["dp"].get_local_rank()
        x, y = (part.chunk(dp)[mine].to(DEVICE) for part in make_batch())
        losses = []
        for _ in range(STEPS):
            with vgpu.profile() as profile:
                loss = train(net, x, y, optimizer)
            dist.all_reduce(loss, op=dist.ReduceOp.AVG, group=mesh["dp"].get_group())
            losses.append(loss.item())
        whole = profile.of_all_ranks()
        if whole is not None:
            tell(way, losses, whole)
            if pictures is not None:
                whole.timeline().write_html(Path(pictures) / f"sharded-{way.replace(' ', '-')}.html")
    dist.destroy_process_group()


def tell(way: str, losses: list[float], step: Any) -> None:
    """What the losses were, and what the first GPU's collectives carried."""
    mine = [each for each in step.collectives if each.device == f"{DEVICE}:0"]
    times, carried = Counter(each.name for each in mine), Counter[str]()
    for each in mine:
        carried[each.name] += each.bytes
    print(f"{way}: losses {' '.join(f'{loss:.5f}' for loss in losses)}, a step {step.length_ns / 1e6:.2f} ms")
    for name, count in times.items():
        print(f"    {count:3} x {name}, {carried[name]:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description="Shard one net over four virtual GPUs, in three ways.")
    parser.add_argument("--hardware", default="t4", help="what the virtual GPUs pretend to be")
    parser.add_argument("--pictures", help="a folder for pictures of the last step")
    options = parser.parse_args()
    print(f"CPU: losses {' '.join(f'{loss:.5f}' for loss in losses_on_the_cpu())}")
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(run_rank, (options.hardware, folder, options.pictures), nprocs=RANKS)


if __name__ == "__main__":
    main()
