"""Every way to reduce, of every type of numbers, in every collective that reduces."""

from __future__ import annotations

import functools
import traceback

import pytest
import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

from tests.lab.ranks import run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")

RANKS = 3
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
WHOLE = (torch.int64, torch.int32, torch.int8, torch.uint8)
FACTORS = (0.5, 2.0, 0.25)
"""Each rank's own, as NCCL allows."""


def numbers(rank, dtype):
    """Small, so that no type rounds them; below 0 where a type can be."""
    low = 0 if dtype == torch.uint8 else -4
    return (torch.arange(6) * (rank + 1) % 9 + low).to(dtype)


def reduced(name, dtype):
    """What all ranks' numbers come to, worked out on the CPU with plain operations."""
    given = [numbers(rank, dtype) for rank in range(RANKS)]
    whole = not dtype.is_floating_point
    match name:
        case "SUM":
            return sum(given)
        case "AVG":
            return torch.div(sum(given), RANKS, rounding_mode="trunc" if whole else None)
        case "PREMUL_SUM":
            return sum((one * factor).to(dtype) for one, factor in zip(given, FACTORS, strict=True))
    ways = {
        "PRODUCT": torch.mul, "MIN": torch.minimum, "MAX": torch.maximum,
        "BAND": torch.bitwise_and, "BOR": torch.bitwise_or, "BXOR": torch.bitwise_xor,
    }  # fmt: skip
    return functools.reduce(ways[name], given)


def all_reduce(x, how):
    dist.all_reduce(x, how)
    return x


def all_reduce_together(x, how):
    parts = [x[:2].clone(), x[2:].clone()]
    with dist._coalescing_manager():
        for part in parts:
            dist.all_reduce(part, how)
    return torch.cat(parts)


def reduce(x, how):
    kept = x.clone()
    dist.reduce(x, 1, how)
    return x if dist.get_rank() == 1 else kept


def reduce_scatter(x, how):
    out = torch.empty_like(x[:2])
    dist.reduce_scatter(out, list(x.split(2)), how)
    return out


def reduce_scatter_tensor(x, how):
    out = torch.empty_like(x[:2])
    dist.reduce_scatter_tensor(out, x, how)
    return out


def reduce_scatter_together(x, how):
    outs = [torch.empty_like(x[:1]) for _ in range(2)]
    with dist._coalescing_manager():
        for number, out in enumerate(outs):
            dist.reduce_scatter_tensor(out, x[number::2].contiguous(), how)
    return torch.cat(outs)


COLLECTIVES = {
    all_reduce: lambda whole, rank: whole,
    all_reduce_together: lambda whole, rank: whole,
    reduce: lambda whole, rank: whole if rank == 1 else numbers(rank, whole.dtype),
    reduce_scatter: lambda whole, rank: whole[2 * rank : 2 * rank + 2],
    reduce_scatter_tensor: lambda whole, rank: whole[2 * rank : 2 * rank + 2],
    reduce_scatter_together: lambda whole, rank: whole[2 * rank : 2 * rank + 2],
}
"""Each with what a rank has afterwards, where all come to `whole`."""


def everything(rank):
    """Where a result is not what it should be."""
    wrong = []
    for collective, of_rank in COLLECTIVES.items():
        for dtype in FLOATS + WHOLE:
            for name in ("SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR", "PREMUL_SUM"):
                if name.startswith("B") and dtype.is_floating_point:
                    continue
                how = dist._make_nccl_premul_sum(FACTORS[rank]) if name == "PREMUL_SUM" else getattr(ReduceOp, name)
                found = called(collective, numbers(rank, dtype).to(f"vgpu:{rank}"), how)
                expected = of_rank(reduced(name, dtype), rank)
                if not isinstance(found, torch.Tensor) or not torch.equal(found.cpu(), expected):
                    wrong.append((collective.__name__, dtype, name, found, expected))
    return wrong


def called(collective, x, how):
    try:
        return collective(x, how)
    except Exception:  # noqa: BLE001 - the parent looks at it
        return traceback.format_exc()


def other_factors(rank):
    """A factor in a tensor; and one that does not come by the options of the call, which is refused, not guessed."""
    x = torch.full((2,), rank + 1.0, device=f"vgpu:{rank}")
    dist.all_reduce(x, dist._make_nccl_premul_sum(torch.tensor([0.5], device=f"vgpu:{rank}")))
    said = ""
    try:
        dist.group.WORLD.allreduce([x], dist._make_nccl_premul_sum(0.25))
    except RuntimeError as error:
        said = str(error)
    return x.tolist(), said


MOVES = {
    "broadcast": lambda x: dist.broadcast(x, 1) or x,
    "all_gather": lambda x: gathered(x),
    "all_to_all_single": lambda x: exchanged(x),
    "scatter": lambda x: scattered(x),
}


def gathered(x):
    out = x.new_empty(RANKS * len(x))
    dist.all_gather_into_tensor(out, x)
    return out


def exchanged(x):
    out = torch.empty_like(x)
    dist.all_to_all_single(out, x)
    return out


def scattered(x):
    out = torch.empty_like(x)
    dist.scatter(out, [x + 1, x + 2, x + 3] if dist.get_rank() == 0 else None)
    return out


def moved(rank):
    """Numbers of types that gloo does not know, beside the same as float32."""
    wrong = []
    for dtype in (torch.int16, torch.float8_e4m3fn, torch.complex64, torch.bool, torch.uint8):
        for name, move in MOVES.items():
            if name == "scatter" and dtype in (torch.float8_e4m3fn, torch.bool):
                continue  # which cannot be added to
            made = torch.tensor([0, 1, 0]) if dtype == torch.bool else torch.arange(3) + 3 * rank
            found = move(made.to(dtype).to(f"vgpu:{rank}")).cpu().to(torch.complex64)
            if not torch.equal(found, move(made.float().to(f"vgpu:{rank}")).cpu().to(torch.complex64)):
                wrong.append((dtype, name, found))
    return wrong


def uneven(rank):
    """Pieces that differ in size: rank r's number is r, and it gives r of them to everyone, or 1 + r + s to s."""
    device = f"vgpu:{rank}"
    places = [torch.empty(one, device=device) for one in range(RANKS)]
    dist.all_gather(places, torch.full((rank,), float(rank), device=device))
    gathered = [place.tolist() for place in places]
    places = [torch.empty(1 + rank + other, device=device) for other in range(RANKS)]
    dist.all_to_all(places, [torch.full((1 + rank + other,), float(rank), device=device) for other in range(RANKS)])
    said = ""
    try:  # one rank has no room for the last piece
        room = [torch.empty(one + (rank != 1), device=device) for one in range(RANKS)]
        dist.all_gather(room, torch.full((rank + 1,), float(rank), device=device))
    except RuntimeError as error:
        said = str(error)
    return gathered, [place.tolist() for place in places], said


def factors_and_types(rank):
    return other_factors(rank), moved(rank), uneven(rank)


def test_every_reduction(tmp_path):
    assert run_ranks(RANKS, everything, tmp_path) == [[]] * RANKS


def test_factors_and_types_that_only_travel(tmp_path):
    for rank, found in enumerate(run_ranks(RANKS, factors_and_types, tmp_path)):
        (sums, words), wrong, (gathered, exchanged, refused) = found
        assert gathered == [[], [1.0], [2.0] * 2]
        assert exchanged == [[float(other)] * (1 + rank + other) for other in range(RANKS)]
        assert "rank 2 calls all_gather of 3 float32 numbers" in refused
        assert sums == [0.5 * (1 + 2 + 3)] * 2
        assert "the factor of this PREMUL_SUM is not known" in words
        assert wrong == []
