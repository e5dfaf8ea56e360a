"""Fully sharded training on two real processes, against the same net on the CPU with the whole batch."""

from __future__ import annotations

import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FullyShardedDataParallel,
    MixedPrecision,
    ShardingStrategy,
    fully_shard,
)

from tests.lab.ranks import run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")
RANKS = 2


def make() -> nn.Sequential:
    """Its last layer has a number of rows that two ranks cannot share evenly."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16, bias=False), nn.Linear(16, 5))


def train(net: nn.Module, device: Any, part: slice, clip: float | None = None) -> list[float]:
    made = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 8, generator=made), torch.randint(0, 5, (8,), generator=made)
    x, y = x[part].to(device), y[part].to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    told = []
    for _ in range(3):
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        told.append(loss.item())
    return told


def sharded(device: Any, **options: Any) -> nn.Module:
    net, mesh = make().to(device), init_device_mesh("vgpu", (RANKS,))
    for layer in net:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh, **options)
    return fully_shard(net, mesh=mesh, **options)


def older(device: Any, **options: Any) -> nn.Module:
    return FullyShardedDataParallel(make().to(device), device_id=device, **options)


WAYS = {
    "resharded": (sharded, {}, None),
    "kept": (sharded, {"reshard_after_forward": False}, None),
    "clipped": (sharded, {}, 0.1),
    "offloaded": (sharded, {"offload_policy": CPUOffloadPolicy(pin_memory=False)}, None),
    "offloaded and pinned": (sharded, {"offload_policy": CPUOffloadPolicy()}, None),
    "older": (older, {"use_orig_params": True}, None),
    "older, flat": (older, {"use_orig_params": False}, None),
    "older, gradients": (older, {"sharding_strategy": ShardingStrategy.SHARD_GRAD_OP}, None),
    "older, whole": (older, {"sharding_strategy": ShardingStrategy.NO_SHARD}, None),
    "older, float64": (older, {"mixed_precision": MixedPrecision(reduce_dtype=torch.float64)}, None),
}


def run_all(rank):
    warnings.simplefilter("ignore")
    torch.vgpu.set_device(rank)
    return {name: losses(name, rank) for name in WAYS}


def losses(name: str, rank: int) -> Any:
    wrap, options, clip = WAYS[name]
    device = torch.device("vgpu", rank)
    try:
        return train(wrap(device, **options), device, slice(rank, None, RANKS), clip)
    except Exception:  # noqa: BLE001 - the parent looks at it
        return traceback.format_exc()


def test_losses_are_those_of_one_process(tmp_path: Path):
    answers = run_ranks(RANKS, run_all, tmp_path)
    for name, (_, _, clip) in WAYS.items():
        expected = train(make(), "cpu", slice(None), clip)
        for answer in answers:
            assert not isinstance(answer[name], str), f"{name}: {answer[name]}"
        got = torch.tensor([answer[name] for answer in answers]).mean(0)
        assert torch.allclose(got, torch.tensor(expected), rtol=1e-4), f"{name}: {got}, {expected}"
