"""Bytes and simulated times of every collective of torch.distributed, beside what the ring's formulas say.

    python -m tests.benchmarks.collectives [--ranks 4] [--numbers 240000]

Each row is one call among all ranks on `classroom` with links of 1 GB/s and 20 us: what a profile says of it, and what
arithmetic does, written out below anew and not taken from the lab (docs/virtual-gpus.md has the formulas). The
functional ones are what DTensor, tensor parallelism and fully sharded training are made of.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from lab import vgpu
from lab.vgpu import LinkModel
from tests.benchmarks.common import print_table
from tests.lab.ranks import run_ranks

GB_PER_S, LATENCY_US = 1.0, 20.0
CALLS: dict[str, Callable[[Tensor, int], Any]] = {
    "all_reduce": lambda x, n: dist.all_reduce(x),
    "all_gather_into_tensor": lambda x, n: dist.all_gather_into_tensor(x.new_empty(n * len(x)), x),
    "reduce_scatter_tensor": lambda x, n: dist.reduce_scatter_tensor(x.new_empty(len(x) // n), x),
    "broadcast": lambda x, n: dist.broadcast(x, 0),
    "all_to_all_single": lambda x, n: dist.all_to_all_single(x.new_empty(len(x)), x),
    "functional all_reduce": lambda x, n: functional.all_reduce(x, "sum", dist.group.WORLD) + 0,
    "functional all_reduce_coalesced": lambda x, n: [
        each + 0 for each in functional.all_reduce_coalesced([x, x], "sum", dist.group.WORLD)
    ],
    "functional all_gather_tensor": lambda x, n: functional.all_gather_tensor(x, 0, dist.group.WORLD) + 0,
    "functional all_gather_into_tensor_coalesced": lambda x, n: [
        each + 0 for each in functional.all_gather_into_tensor_coalesced([x, x], dist.group.WORLD)
    ],
    "functional reduce_scatter_tensor": lambda x, n: (
        functional.reduce_scatter_tensor(x, "sum", 0, dist.group.WORLD) + 0
    ),
    "functional reduce_scatter_tensor_coalesced": lambda x, n: [
        each + 0 for each in functional.reduce_scatter_tensor_coalesced([x, x], "sum", [0, 0], dist.group.WORLD)
    ],
    "functional broadcast": lambda x, n: functional.broadcast(x, 0, dist.group.WORLD) + 0,
    "functional all_to_all_single": lambda x, n: functional.all_to_all_single(x, None, None, dist.group.WORLD) + 0,
    "DTensor, Shard(0) to Replicate": lambda x, n: moved(x, n, Shard(0), Replicate()),
    "DTensor, Partial to Replicate": lambda x, n: moved(x, n, Partial(), Replicate()),
    "DTensor, Partial to Shard(0)": lambda x, n: moved(x, n, Partial(), Shard(0)),
    "DTensor, Shard(0) to Shard(1)": lambda x, n: moved(x, n, Shard(0), Shard(1)),
}


def moved(x: Tensor, ranks: int, source: Any, target: Any) -> Tensor:
    """A square-ish DTensor, whose part on each rank is `x`, brought from one placement to another, and used."""
    mesh = init_device_mesh("vgpu", (ranks,))
    local = x.view(-1, 10 * ranks)
    return DTensor.from_local(local, mesh, [source]).redistribute(placements=[target]).to_local() + 0


def by_hand(name: str, size: int, ranks: int) -> tuple[int, float]:
    """Bytes that a rank gives to the call (or keeps of it, where it gives more), and microseconds on a ring."""
    others = ranks - 1
    pieces = 2 if "coalesced" in name else 1
    size *= pieces
    if "all_reduce" in name or "Partial to Replicate" in name:
        latencies, carried, told = 2 * others, 2 * others / ranks * size, size
    elif "reduce_scatter" in name or "Partial to Shard" in name:
        latencies, carried, told = others, others * size / ranks, size // ranks
    elif "all_gather" in name or "to Replicate" in name:
        latencies, carried, told = others, others * size, size
    elif "broadcast" in name:
        latencies, carried, told = others, size, size
    else:  # everybody to everybody
        latencies, carried, told = 1, others / ranks * size, size
    return told, latencies * LATENCY_US + carried / GB_PER_S / 1000


def measure(rank: int, ranks: int, numbers: int) -> dict[str, tuple[list[str], int, float, float]]:
    """For each call: the collectives that a profile lists, their bytes, their microseconds, and those of the call."""
    found = {}
    for name, call in CALLS.items():
        x = torch.ones(numbers, device=f"vgpu:{rank}")
        dist.barrier()
        torch.vgpu.synchronize()
        with vgpu.profile() as profile:
            call(x, ranks)
            torch.vgpu.synchronize()
        seen = [each for each in profile.collectives if each.device == f"vgpu:{rank}"]
        under_way = sum(each.end_ns - each.start_ns for each in seen) / 1000
        found[name] = (
            [each.name for each in seen],
            sum(each.bytes for each in seen),
            under_way,
            profile.length_ns / 1000,
        )
    return found


def prepared(rank: int, ranks: int, numbers: int) -> dict[str, tuple[list[str], int, float, float]]:
    torch.vgpu.set_device(rank)
    warnings.simplefilter("ignore", FutureWarning)  # newer names for some of them, which older versions do not have
    return measure(rank, ranks, numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--numbers", type=int, default=240_000, help="float32 numbers of each rank's tensor")
    arguments = parser.parse_args()
    link = LinkModel(GB_PER_S, round(LATENCY_US * 1000))
    with tempfile.TemporaryDirectory() as folder:
        ranks = arguments.ranks
        machine = {"devices": ranks, "hardware": "classroom", "link": link}
        found = run_ranks(ranks, prepared, Path(folder), ranks, arguments.numbers, **machine)
    if not isinstance(found[0], dict):
        raise SystemExit(found[0])
    rows = []
    for name, (seen, size, under_way_us, whole_us) in found[0].items():
        told, expected_us = by_hand(name, 4 * arguments.numbers, ranks)
        rows.append(
            [
                name,
                ", ".join(seen) or "nothing",
                f"{size:,}",
                f"{told:,}",
                f"{under_way_us:,.0f}",
                f"{expected_us:,.0f}",
                f"{whole_us:,.0f}",
            ]
        )
    print_table(
        f"Collectives of {ranks} ranks, {4 * arguments.numbers:,} bytes each, {GB_PER_S:g} GB/s and {LATENCY_US:g} us",
        ["call", "in the profile", "bytes", "by hand", "us on the link", "by hand", "us with kernels"],
        rows,
        width=140,
    )


if __name__ == "__main__":
    main()
