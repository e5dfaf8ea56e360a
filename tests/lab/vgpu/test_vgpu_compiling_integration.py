"""`torch.compile` under DistributedDataParallel and tensor parallelism, with real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.ranks import run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")


def trained(rank: int) -> dict[str, Any]:
    """Losses of three steps of one net on two ranks, compiled in several ways; and those of the whole batch alone."""
    import copy

    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
    from torch.nn.parallel import DistributedDataParallel

    here = torch.device("vgpu", rank)
    torch.vgpu.set_device(here)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 40), nn.GELU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3))
    x, y = torch.randn(8, 6), torch.arange(8) % 3
    mine = slice(4 * rank, 4 * rank + 4)

    def losses(net: Any, parameters: Any, x: Any, y: Any) -> list[float]:
        torch._dynamo.reset()
        optimizer = torch.optim.SGD(parameters, lr=0.2, momentum=0.9)
        found = []
        for _ in range(3):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    mesh = init_device_mesh("vgpu", (2,))
    alone = copy.deepcopy(plain)
    dist._DEFAULT_FIRST_BUCKET_BYTES = 1000
    found: dict[str, Any] = {"alone": losses(alone, alone.parameters(), x, y)}
    for backend in ("eager", "aot_eager"):
        net = copy.deepcopy(plain).to(here)
        ddp = torch.compile(DistributedDataParallel(net, bucket_cap_mb=0.002), backend=backend)
        found[f"ddp, compiled, {backend}"] = losses(ddp, net.parameters(), x[mine].to(here), y[mine].to(here))
        net = copy.deepcopy(plain).to(here)
        ddp = DistributedDataParallel(torch.compile(net, backend=backend))
        found[f"compiled, ddp, {backend}"] = losses(ddp, net.parameters(), x[mine].to(here), y[mine].to(here))
        net = copy.deepcopy(plain).to(here)
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel(), "4": ColwiseParallel(output_layouts=Replicate())}
        parallelize_module(net, mesh, plan)
        whole = torch.compile(net, backend=backend)
        found[f"tensor parallel, {backend}"] = losses(whole, net.parameters(), x.to(here), y.to(here))
    torch.manual_seed(5)
    torch.rand(rank)  # the CPUs of two ranks need not have drawn alike
    ones = {place: distribute_tensor(torch.ones(8, 60), mesh, [place]) for place in (Shard(0), Replicate())}
    dropped = torch.compile(lambda x: F.dropout(x, 0.5), backend="eager")
    found["dropout"] = [dropped(x).to_local().flatten().tolist() for x in ones.values() for _ in range(2)]
    try:
        torch.compile(lambda x: F.dropout(x, 0.5), backend="aot_eager")(ones[Shard(0)])
    except Exception as error:  # noqa: BLE001 - dynamo puts its own class around it
        found["ahead of time"] = str(error)
    return found


def test_compiled_nets_train_on_two_ranks_as_plain_ones_alone(tmp_path: Path):
    found = run_ranks(2, trained, tmp_path)
    assert all(isinstance(one, dict) for one in found), found
    expected = found[0].pop("alone")
    assert "cannot be traced ahead of time on virtual GPUs" in found[0].pop("ahead of time")
    (shard, later, whole, *_), (other, _, same, *_) = found[0].pop("dropout"), found[1].pop("dropout")
    assert shard != other
    assert shard != later
    assert whole == same
    assert len(found[0]) == 6
    for name in found[0]:
        first, second = (one[name] for one in found)
        both = first if name.startswith("tensor") else [(a + b) / 2 for a, b in zip(first, second, strict=True)]
        assert both == pytest.approx(expected, rel=1e-4), name
        if name.startswith("tensor"):
            assert first == second
