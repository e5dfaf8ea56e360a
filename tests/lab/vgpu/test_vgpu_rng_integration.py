"""Random numbers of distributed tensors: replicas draw alike, shards do not, and the ranks agree afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.ranks import run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")


def draws(rank: int) -> dict[str, list[float]]:
    """Rank r draws more on its CPU than rank r - 1 does, before everything and in between."""
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, rand, randn
    from torch.utils.checkpoint import checkpoint

    torch.vgpu.set_device(rank)
    here = torch.device("vgpu", rank)
    found: dict[str, Any] = {}

    # A state that is handed round, without DTensor.
    torch.manual_seed(1)
    torch.rand(3 * rank)
    state = torch.vgpu.get_rng_state()
    dist.broadcast(state, 0)
    torch.vgpu.set_rng_state(state)
    found["given state"] = torch.rand(4, device=here)
    torch.rand(rank + 1)
    found["given state, later"] = torch.rand(4, device=here)

    mesh = init_device_mesh("vgpu", (2, 2))
    flat = init_device_mesh("vgpu", (4,))
    torch.manual_seed(2)
    torch.rand(rank)

    def ones(mesh: Any, placements: list[Any]) -> DTensor:
        return distribute_tensor(torch.ones(8, 60), mesh, placements)

    found["replicas"] = F.dropout(ones(flat, [Replicate()]), 0.5)
    torch.rand(rank)
    found["replicas, again"] = F.dropout(ones(flat, [Replicate()]), 0.5)
    found["shards"] = F.dropout(ones(flat, [Shard(0)]), 0.5)
    found["plain after shards"] = torch.rand(4, device=here)
    torch.manual_seed(3)
    torch.rand(rank)
    found["replicas, seeded"] = ones(flat, [Replicate()]).normal_()
    torch.manual_seed(3)
    torch.rand(rank)
    found["replicas, seeded once more"] = ones(flat, [Replicate()]).normal_()
    found["both"] = randn(4, 60, device_mesh=mesh, placements=[Shard(0), Replicate()])
    found["made"] = rand(8, 60, device_mesh=flat, placements=[Shard(1)])
    weight = nn.Parameter(ones(flat, [Shard(0)]))
    found["init"] = nn.init.trunc_normal_(weight)
    doubles = distribute_tensor(torch.ones(8, 60, dtype=torch.float64), flat, [Shard(0)])
    found["doubles"] = nn.init.normal_(doubles)
    own = torch.Generator(here).manual_seed(4)
    found["generator, replicas"] = ones(flat, [Replicate()]).uniform_(generator=own)
    found["generator, shards"] = ones(flat, [Shard(0)]).uniform_(generator=own)
    found["generator, plain"] = torch.rand(4, device=here, generator=own)
    x = ones(flat, [Shard(0)]).requires_grad_()
    y = checkpoint(lambda value: F.dropout(value, 0.5) * 3, x, use_reentrant=False)
    y.sum().backward()
    found["checkpoint is wrong by"] = (x.grad.to_local() - y.to_local()).abs().max()
    with torch.random.fork_rng([rank], device_type="vgpu"):
        found["inside a fork"] = F.dropout(ones(flat, [Replicate()]), 0.5)
    found["after a fork"] = torch.rand(4, device=here)
    found["state"] = torch.vgpu.get_rng_state().view(torch.int64).double()
    return {
        name: (value.to_local() if isinstance(value, DTensor) else value).detach().cpu().flatten().tolist()
        for name, value in found.items()
    }


def test_what_is_replicated_draws_alike_and_what_is_sharded_does_not(tmp_path: Path):
    found = run_ranks(4, draws, tmp_path)
    assert all(isinstance(one, dict) for one in found), found
    numbers = {name: [one[name] for one in found] for name in found[0]}
    shards = {name for name in numbers if name in ("shards", "made", "init", "doubles", "generator, shards")}
    assert len(shards) == 5
    for name in shards:
        for rank in range(4):
            for other in range(rank):
                common = sum(a == b for a, b in zip(numbers[name][rank], numbers[name][other], strict=True))
                assert common < (100 if name == "shards" else 5), (name, rank, other)  # of 120, half of them zeros
                again = set(numbers[name][rank]) & set(numbers[name][other])
                assert name == "shards" or len(again) < 5, (name, rank, other)  # nor the same ones shifted
    for name in numbers.keys() - shards - {"both"}:
        assert all(one == numbers[name][0] for one in numbers[name]), name
    first, second, third, fourth = numbers["both"]
    assert first == second != third == fourth
    assert numbers["replicas"] != numbers["replicas, again"]
    assert numbers["replicas, seeded"] == numbers["replicas, seeded once more"]
    assert numbers["given state"] != numbers["given state, later"]
    assert numbers["checkpoint is wrong by"] == [[0.0]] * 4
    kept = [number for one in numbers["shards"] for number in one]
    assert 190 < sum(number > 0 for number in kept) < 290  # of 480, half
