"""Process groups and meshes between real processes: whose device, which backend, which ranks."""

from __future__ import annotations

import os
import traceback
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from lab import vgpu
from lab.vgpu.links import LinkModel
from tests.lab import ranks
from tests.lab.ranks import Seen, run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")

LINK = LinkModel(bytes_per_ns=2.0, latency_ns=1000)


def run_all(rank, world_size, folder, checks):
    """Each check's result, or the words of its error, by name; each with fresh devices and no process group."""
    dist.destroy_process_group()
    found = {}
    for check in checks:
        vgpu.enable(world_size, timing="modelled", link=LINK)
        os.environ.pop("LOCAL_RANK", None)
        store = dist.FileStore(str(Path(folder) / check.__name__), world_size)

        def join(backend, store=store, **options):
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, **options)

        found[check.__name__] = said(check, rank, join)
        if dist.is_initialized():
            store.set(f"done {rank}", "")  # a rank that leaves while others still meet breaks their connections
            store.wait([f"done {other}" for other in range(world_size)])
            dist.destroy_process_group()
        del store, join
    ranks.join("vgloo", str(Path(folder) / "last"), rank, world_size)  # which the end of the process expects
    return found


def said(check, rank, join):
    try:
        return check(rank, join)
    except Exception:  # noqa: BLE001 - the parent looks at it
        return traceback.format_exc()


def summed(rank, group=None, device=None):
    """The sum over a group of 1, 10, 100, ..., so that it shows who took part."""
    x = torch.full((2,), 10**rank, device=f"vgpu:{rank}" if device is None else device)
    dist.all_reduce(x, group=group)
    assert x.device == torch.device(f"vgpu:{rank}" if device is None else device)
    return x[0].item()


# -- whose device -----------------------------------------------------------------------------------------------------


def by_local_rank(rank, join):
    """As under torchrun, with the ranks of the machine numbered the other way round."""
    join("cpu:gloo,vgpu:vgloo")
    before = torch.vgpu.is_initialized()
    os.environ["LOCAL_RANK"] = str(1 - rank)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        init_device_mesh("vgpu", (2,))
    quiet = not any("default device" in str(one.message) for one in heard)
    return before, torch.vgpu.current_device(), torch.ones(1, device="vgpu").device.index, quiet


def by_rank(rank, join):
    join("cpu:gloo,vgpu:vgloo")
    with pytest.warns(UserWarning, match="set/select the default device"):
        init_device_mesh("vgpu", (2,))
    return torch.vgpu.current_device()


def as_chosen(rank, join):
    """In each of these ways a program has chosen device 1 - rank, or begun to use the devices."""
    ways = {
        "set_device": lambda: torch.vgpu.set_device(1 - rank),
        "made a tensor": lambda: torch.ones(1, device=f"vgpu:{rank}"),
        "asked for properties": lambda: torch.vgpu.get_device_properties(rank),
        "began": torch.vgpu.init,
    }
    join("cpu:gloo,vgpu:vgloo")
    os.environ["LOCAL_RANK"] = str(rank)
    found = {}
    for name, way in ways.items():
        vgpu.enable(2, timing="modelled")
        assert not torch.vgpu.is_initialized()
        way()
        assert torch.vgpu.is_initialized()
        init_device_mesh("vgpu", (2,))
        found[name] = torch.vgpu.current_device()
    return found


def lands(rank, join):
    """A program that names no device beside the mesh."""
    join("cpu:gloo,vgpu:vgloo")
    os.environ["LOCAL_RANK"] = str(rank)
    mesh = init_device_mesh("vgpu", (2,))
    shared = distribute_tensor(torch.arange(4.0), mesh, [Shard(0)])
    return shared.to_local().device.index, shared.redistribute(placements=[Replicate()]).to_local().tolist()


# -- which backend ----------------------------------------------------------------------------------------------------


def gloo_alone(rank, join):
    """It carries device tensors as it does CUDA's."""
    join("gloo")
    found = [summed(rank), summed(rank, device="cpu")]
    x = torch.full((2,), 7.0 * rank, device=f"vgpu:{rank}")
    dist.broadcast(x, 1)
    layer = torch.nn.Linear(2, 1, bias=False).to(f"vgpu:{rank}")
    net = DistributedDataParallel(layer)
    net(torch.full((1, 2), rank + 1.0, device=f"vgpu:{rank}")).sum().backward()
    dist.barrier()
    dist.monitored_barrier()
    return [*found, x.tolist(), layer.weight.grad.tolist()]


def gloo_beside(rank, join):
    join("cpu:gloo,vgpu:vgloo")
    group = dist.new_group(backend="gloo")
    objects = [None, None]
    dist.all_gather_object(objects, rank, group=group)
    return summed(rank, group), summed(rank, group, "cpu"), summed(rank), objects, dist.get_backend(group)


def nameless(rank, join):
    join(None)
    return summed(rank), summed(rank, device="cpu"), summed(rank, dist.new_group([0, 1]))


def test_two_ranks_find_their_devices_and_backends(tmp_path):
    checks = (by_local_rank, by_rank, as_chosen, lands, gloo_alone, gloo_beside, nameless)
    for rank, found in enumerate(run_ranks(2, run_all, tmp_path, 2, str(tmp_path), checks)):
        assert found["by_local_rank"] == (False, 1 - rank, 1 - rank, True)
        assert found["by_rank"] == rank
        assert found["as_chosen"] == {
            "set_device": 1 - rank, "made a tensor": 0, "asked for properties": 0, "began": 0
        }  # fmt: skip
        assert found["lands"] == (rank, [0.0, 1.0, 2.0, 3.0])
        assert found["gloo_alone"] == [11, 11, [7.0, 7.0], [[1.5, 1.5]]]
        assert found["gloo_beside"] == (11, 11, 11, [0, 1], "gloo")
        assert found["nameless"] == (11, 11, 11)


# -- which ranks ------------------------------------------------------------------------------------------------------


def bound(rank, join):
    """A group that is bound to its device, then every way to make others of it."""
    join("cpu:gloo,vgpu:vgloo", device_id=torch.device("vgpu", rank))
    mesh = init_device_mesh("vgpu", (2, 2), mesh_dim_names=("a", "b"))
    deep = init_device_mesh("vgpu", (1, 2, 2), mesh_dim_names=("x", "y", "z"))
    found = [summed(rank, mesh.get_group(name)) for name in ("a", "b")]
    found += [summed(rank, deep.get_group(name)) for name in ("x", "y", "z")]
    found += [summed(rank, mesh.get_group("a"), "cpu"), summed(rank, deep["y", "z"]._flatten("yz").get_group())]
    pairs = [dist.new_group([0, 3]), dist.new_group([1, 2])]
    found.append(summed(rank, pairs[rank in (1, 2)]))
    own, _ = dist.new_subgroups(2)
    found.append(summed(rank, own))
    split = dist.split_group(split_ranks=[[0, 2], [1, 3]])
    found.append(summed(rank, split))
    again = dist.split_group(parent_pg=split, split_ranks=[[0], [1]])
    found.append(summed(rank, again))
    for group in (None, mesh.get_group("a"), own, split):
        dist.barrier(group=group)
    dist.barrier(group=pairs[rank in (1, 2)], device_ids=[rank])
    return found


def unbound(rank, join):
    """The same without: all of these groups meet without a device."""
    join("cpu:gloo,vgpu:vgloo")
    torch.vgpu.set_device(rank)
    mesh = init_device_mesh("vgpu", (2, 2), mesh_dim_names=("a", "b"))
    own, _ = dist.new_subgroups(2)
    for group in (None, mesh.get_group("a"), own):
        dist.barrier(group=group)
    return summed(rank, mesh.get_group("a")), summed(rank, mesh.get_group("b")), summed(rank, own)


def alone(rank, join):
    """Our backend alone, bound: the CPU's tensors travel as well."""
    join("vgloo", device_id=torch.device("vgpu", rank))
    mesh = init_device_mesh("vgpu", (2, 2), mesh_dim_names=("a", "b"))
    return summed(rank, mesh.get_group("a")), summed(rank, mesh.get_group("b"))


def test_groups_of_four_ranks(tmp_path):
    along_a, along_b = [101, 1010, 101, 1010], [11, 11, 1100, 1100]
    crossed, everyone = [1001, 110, 110, 1001], 1111
    for rank, found in enumerate(run_ranks(4, run_all, tmp_path, 4, str(tmp_path), (bound, unbound, alone))):
        a, b = along_a[rank], along_b[rank]
        assert found["bound"] == [a, b, 10**rank, a, b, a, everyone, crossed[rank], b, a, 10**rank]
        assert found["unbound"] == (a, b, b)
        assert found["alone"] == (a, b)


# -- begun together ---------------------------------------------------------------------------------------------------


def together(rank, join):
    """`_coalescing_manager`, with a device and without: the numbers, and when the stream goes on."""
    join("cpu:gloo,vgpu:vgloo")
    device, clock, seen = torch.device("vgpu", rank), vgpu.current().clock, Seen()
    torch.vgpu.set_device(rank)
    vgpu.current().observers.append(seen)
    found = []
    for where in (device, None):
        for given in (dist.ReduceOp.SUM, dist.ReduceOp.AVG):
            tensors = [torch.full((1000,), float(rank + number), device=device) for number in range(3)]
            seen.collectives.clear()
            with dist._coalescing_manager(device=where, async_ops=True) as manager:
                for tensor in tensors:
                    dist.all_reduce(tensor, given)
            beside = clock.run(rank, 100)
            manager.wait()
            end = seen.collectives[-1].end_ns
            found.append((beside < end <= clock.run(rank, 100), [tensor[0].item() for tensor in tensors]))
    sent, got = torch.full((3,), float(rank), device=device), torch.empty(3, device=device)
    with dist._coalescing_manager(device=device):
        dist.isend(sent, 1 - rank)
        dist.irecv(got, 1 - rank)
    return found, got.tolist()


def test_collectives_begun_together_are_awaited_together(tmp_path):
    for rank, found in enumerate(run_ranks(2, run_all, tmp_path, 2, str(tmp_path), (together,))):
        sums = [(True, [1.0, 3.0, 5.0]), (True, [0.5, 1.5, 2.5])]
        assert found["together"] == (sums * 2, [1.0 - rank] * 3)
