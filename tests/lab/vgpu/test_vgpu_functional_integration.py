"""Functional collectives and DTensor between real processes: values are gloo's on the CPU, times the rings'."""

from __future__ import annotations

import gc
import traceback
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import loss_parallel

from lab import vgpu
from lab.vgpu.links import LinkModel
from tests.lab.ranks import Seen, run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")

LINK = LinkModel(bytes_per_ns=2.0, latency_ns=1000)
RANKS = 2
OPS = torch.ops._c10d_functional


def run_all(rank, checks):
    """Each check's result, or the words of its error, by name."""
    torch.vgpu.set_device(rank)
    warnings.simplefilter("ignore", FutureWarning)  # PyTorch renames some of these functions
    return {check.__name__: said(check, rank) for check in checks}


def said(check, rank):
    try:
        return check(rank)
    except Exception:  # noqa: BLE001 - the parent looks at it
        return traceback.format_exc()


def numbers(rank, device, dtype=torch.float32, rows=4):
    return (torch.arange(3.0 * rows).view(rows, 3) + 7 * rank - 4).to(dtype).to(device)


CALLS = {
    "all_reduce": lambda x, group: OPS.all_reduce(x, "sum", group),
    "all_reduce_avg": lambda x, group: OPS.all_reduce(x, "avg", group),
    "all_reduce_product": lambda x, group: OPS.all_reduce(x, "product", group),
    "all_reduce_min": lambda x, group: OPS.all_reduce(x, "min", group),
    "all_reduce_max": lambda x, group: OPS.all_reduce(x, "max", group),
    "all_reduce_": lambda x, group: OPS.all_reduce_(x.clone(), "sum", group),
    "all_reduce_coalesced": lambda x, group: OPS.all_reduce_coalesced([x, x[:1]], "max", group),
    "all_reduce_coalesced_": lambda x, group: OPS.all_reduce_coalesced_([x.clone(), x[0].clone()], "sum", group),
    "all_gather": lambda x, group: OPS.all_gather_into_tensor(x, RANKS, group),
    "all_gather_out": lambda x, group: OPS.all_gather_into_tensor_out(x, RANKS, group, out=x.repeat(RANKS, 1)),
    "all_gather_coalesced": lambda x, group: OPS.all_gather_into_tensor_coalesced([x, x[:1]], RANKS, group),
    "reduce_scatter": lambda x, group: OPS.reduce_scatter_tensor(x, "sum", RANKS, group),
    "reduce_scatter_avg": lambda x, group: OPS.reduce_scatter_tensor(x, "avg", RANKS, group),
    "reduce_scatter_out": lambda x, group: OPS.reduce_scatter_tensor_out(
        x, "max", RANKS, group, out=x[: len(x) // 2].clone()
    ),
    "reduce_scatter_coalesced": lambda x, group: OPS.reduce_scatter_tensor_coalesced([x, x[:2]], "sum", RANKS, group),
    "all_to_all": lambda x, group: OPS.all_to_all_single(x, [len(x) // 2] * 2, [len(x) // 2] * 2, group),
    "broadcast": lambda x, group: OPS.broadcast(x, 1, group),
    "broadcast_": lambda x, group: OPS.broadcast_(x.clone(), 0, group),
}


def values(rank):
    """Where they differ from gloo's, to the bit, of all calls and types of numbers."""
    group = dist.group.WORLD.group_name
    different = []
    for name, call in CALLS.items():
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8):
            if "avg" in name and not dtype.is_floating_point:
                continue  # gloo has no average of whole numbers
            mine, plain = (call(numbers(rank, device, dtype), group) for device in (f"vgpu:{rank}", "cpu"))
            mine, plain = ([one] if isinstance(one, torch.Tensor) else one for one in (mine, plain))
            for one, other in zip(mine, plain, strict=True):
                one, other = OPS.wait_tensor(one), OPS.wait_tensor(other)
                if one.device.type != "vgpu" or one.dtype != dtype or not torch.equal(one.cpu(), other):
                    different.append((name, dtype, one, other))
    return different


def uneven_exchange(rank):
    """As mixtures of experts send tokens, with the gradient; counted by hand."""
    gives, takes = ([1, 2], [1, 3]) if rank == 0 else ([3, 1], [2, 1])
    x = (torch.arange(float(sum(gives)), device=f"vgpu:{rank}") + 10 * rank).requires_grad_()
    got = functional.all_to_all_single_autograd(x, takes, gives, dist.group.WORLD)
    (got * (rank + 1)).sum().backward()
    return (got + 0).tolist(), x.grad.tolist()


def pending(rank):
    """What comes of a functional collective is a pending tensor, in every guise."""
    x = torch.ones(2, device=f"vgpu:{rank}")
    made = functional.all_reduce(x, "sum", dist.group.WORLD)
    kinds = [type(made), type(made.view(2, 1)), type(made + 1), type(made.wait()), type(made.detach())]
    texts = [str(made), repr(made)]
    return [kind.__name__ for kind in kinds], texts, made.tolist(), made.device.index


def legacy_and_without_autograd(rank):
    """The older operators, which name their ranks, also where autograd does not take them apart first."""
    x, found = numbers(rank, f"vgpu:{rank}"), []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            summed = torch.ops.c10d_functional.all_reduce(x, "sum", "", [0, 1], 2)
            gathered = torch.ops._c10d_functional_autograd.all_gather_into_tensor(x, 2, dist.group.WORLD.group_name)
            found.append((OPS.wait_tensor(summed)[0].tolist(), OPS.wait_tensor(gathered).sum().item()))
    return found


def messages(rank):
    """A pair of messages by the functional operators."""
    group, other = dist.group.WORLD.group_name, 1 - rank
    x, y = numbers(rank, f"vgpu:{rank}"), torch.zeros(4, 3, device=f"vgpu:{rank}")
    for tensor in OPS.batch_p2p_ops(["isend", "irecv"], [other, other], [0, 0], [x, y], group):
        OPS.wait_tensor(tensor)
    return torch.equal(y.cpu(), numbers(other, "cpu"))


def complex_numbers(rank):
    x = torch.complex(numbers(rank, f"vgpu:{rank}"), numbers(rank, f"vgpu:{rank}", rows=4) + 1)
    whole = sum(torch.complex(numbers(one, "cpu"), numbers(one, "cpu") + 1) for one in range(RANKS))
    summed = functional.all_reduce(x, "sum", dist.group.WORLD) + 0
    said = ""
    try:
        functional.all_reduce(x, "max", dist.group.WORLD)
    except ValueError as error:
        said = str(error)
    return torch.equal(summed.cpu(), whole), said


CHECKS = (values, uneven_exchange, pending, legacy_and_without_autograd, messages, complex_numbers)


def test_functional_collectives_give_what_gloo_gives(tmp_path):
    for rank, found in enumerate(run_ranks(RANKS, run_all, tmp_path, CHECKS, link=LINK)):
        assert found["values"] == []
        assert (
            found["uneven_exchange"]
            == [
                ([0.0, 10.0, 11.0, 12.0], [1.0, 2.0, 2.0]),
                ([1.0, 2.0, 13.0], [1.0, 1.0, 1.0, 2.0]),
            ][rank]
        )
        kinds, texts, listed, index = found["pending"]
        waits = "AsyncCollectiveTensor"
        assert kinds == [waits, waits, "VGPUTensor", "VGPUTensor", waits]
        assert all(f"tensor([2., 2.], device='vgpu:{rank}')" in text for text in texts)
        assert (listed, index) == ([2.0, 2.0], rank)
        row = [x + y for x, y in zip((-4.0, -3.0, -2.0), (3.0, 4.0, 5.0), strict=True)]
        # 0 + 1 + ... + 11 = 66; rank 0's numbers are 4 less each, and rank 1's 3 more.
        assert found["legacy_and_without_autograd"] == [(row, 66 - 48 + 66 + 36.0)] * 2
        assert found["messages"] is True
        assert found["complex_numbers"] == (True, "max is not possible with complex numbers")


# -- time ------------------------------------------------------------------------------------------------------------

EXPECTED_NS = {
    "all_reduce": ("all_reduce", 12_000, 2 * 1000 + 6000),
    "all_reduce_avg": ("all_reduce", 12_000, 8000),
    "all_reduce_product": ("all_reduce", 12_000, 8000),
    "all_reduce_min": ("all_reduce", 12_000, 8000),
    "all_reduce_max": ("all_reduce", 12_000, 8000),
    "all_reduce_": ("all_reduce", 12_000, 8000),
    "all_reduce_coalesced": ("all_reduce", 12_012, 2 * 1000 + 6006),  # all in one go
    "all_reduce_coalesced_": ("all_reduce", 12_012, 8006),
    "all_gather": ("all_gather", 12_000, 1000 + 6000),
    "all_gather_out": ("all_gather", 12_000, 7000),
    "all_gather_coalesced": ("all_gather", 12_012, 1000 + 6006),
    "reduce_scatter": ("reduce_scatter", 6000, 1000 + 3000),
    "reduce_scatter_avg": ("reduce_scatter", 6000, 4000),
    "reduce_scatter_out": ("reduce_scatter", 6000, 4000),
    "reduce_scatter_coalesced": ("reduce_scatter", 6012, 1000 + 3006),
    "all_to_all": ("all_to_all", 12_000, 1000 + 6000 // 2),
    "broadcast": ("broadcast", 12_000, 1000 + 6000),
    "broadcast_": ("broadcast", 12_000, 7000),
}
"""Of 3,000 numbers at 2 bytes/ns and 1,000 ns, by the formulas of `lab.vgpu.rings`."""


def lasting(rank):
    """As what each call is told to observers: the collective, its bytes, its time on the link."""
    seen, group = Seen(), dist.group.WORLD.group_name
    vgpu.current().observers.append(seen)
    x, found = numbers(rank, f"vgpu:{rank}", rows=1000), {}
    for name, call in CALLS.items():
        seen.collectives.clear()
        made = call(x, group)
        for one in [made] if isinstance(made, torch.Tensor) else made:
            OPS.wait_tensor(one)
        (one,) = seen.collectives
        found[name] = (one.name, one.bytes, one.end_ns - one.start_ns)
    seen.operations.clear()
    OPS.wait_tensor(OPS.all_reduce(x, "sum", group))
    return found, len(seen.operations)


class WaitsInBackward(torch.autograd.Function):
    """Begins to sum its gradient and waits for it itself, without a pending tensor in between."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        summed = OPS.all_reduce(gradient.contiguous(), "sum", dist.group.WORLD.group_name)
        return OPS.wait_tensor(summed)


WAYS = {
    "told to": lambda x: OPS.wait_tensor(OPS.all_reduce(x, "sum", dist.group.WORLD.group_name)),
    "used": lambda x: functional.all_reduce(x, "sum", dist.group.WORLD) + 0,
    "used through a view": lambda x: functional.all_reduce(x, "sum", dist.group.WORLD)[:1] + 0,
    "pending.wait": lambda x: functional.all_reduce(x, "sum", dist.group.WORLD).wait(),
    "the last of several": lambda x: functional.all_reduce_coalesced([x, x], "sum", dist.group.WORLD)[1] + 0,
    "in backward": lambda x: WaitsInBackward.apply(x.requires_grad_()).sum().backward(),
    "of a shard": lambda x: DTensor.from_local(x, init_device_mesh("vgpu", (RANKS,)), [Partial()]).full_tensor() + 0,
}


def awaited(rank):
    """For each way to wait: whether what comes afterwards starts when the collective has ended; rank 1 is late."""
    clock, seen = vgpu.current().clock, Seen()
    vgpu.current().observers.append(seen)
    late = []
    for name, way in WAYS.items():
        x = torch.ones(250_000, device=f"vgpu:{rank}")
        dist.barrier(device_ids=[rank])
        begun = clock.end_of(clock.current(rank))
        if rank == 1:
            clock.run(rank, 3_000_000)
        seen.collectives.clear()
        way(x)
        (collective,) = seen.collectives
        after = clock.run(rank, 100)
        if collective.start_ns < begun + 3_000_000 or after < collective.end_ns or collective.last_rank != 1:
            late.append((name, begun, collective, after))
    return late


def beside(rank):
    """What does not need the numbers goes on beside the collective; what was never waited for is let go."""
    clock, seen = vgpu.current().clock, Seen()
    x = torch.ones(250_000, device=f"vgpu:{rank}")
    dist.barrier(device_ids=[rank])
    before = torch.vgpu.memory_allocated(rank)
    vgpu.current().observers.append(seen)
    made = functional.all_reduce(x, "sum", dist.group.WORLD)
    computed = clock.run(rank, 100)
    held = torch.vgpu.memory_allocated(rank) - before
    del made
    gc.collect()
    return computed < seen.collectives[0].end_ns, held, torch.vgpu.memory_allocated(rank) - before


def test_functional_collectives_take_the_links_time(tmp_path):
    for found in run_ranks(RANKS, run_all, tmp_path, (lasting, awaited, beside), link=LINK, devices=RANKS):
        assert found["lasting"] == (EXPECTED_NS, 0)
        assert found["awaited"] == []
        assert found["beside"] == (True, 1_000_000, 0)


# -- DTensor ---------------------------------------------------------------------------------------------------------

PLACEMENTS = (Shard(0), Shard(1), Replicate(), Partial(), Partial("avg"), Partial("max"))


def redistributed(rank):
    """Where a change of placement gives other numbers on the device than on the CPU, of even and uneven shards."""
    meshes = [init_device_mesh(kind, (RANKS,)) for kind in ("vgpu", "cpu")]
    different, done = [], 0
    for shape in ((4, 6), (5, 3), (1, 2)):
        whole = torch.arange(float(shape[0] * shape[1])).view(shape) - 5
        for source in PLACEMENTS:
            for target in PLACEMENTS:
                found = []
                for mesh in meshes:
                    if source.is_partial():
                        local = (whole * (rank + 1)).to(mesh.device_type)
                        given = DTensor.from_local(local, mesh, [source], run_check=False)
                    else:
                        given = distribute_tensor(whole, mesh, [source])
                    try:
                        found.append(given.redistribute(placements=[target]).to_local().cpu())
                    except Exception as error:  # noqa: BLE001 - it should be the same on both
                        found.append(type(error))
                mine, plain = found
                done += isinstance(plain, torch.Tensor)
                if not (torch.equal(mine, plain) if isinstance(mine, torch.Tensor) else mine is plain):
                    different.append((shape, source, target, mine, plain))
    return different, done


def changed_dimension(rank):
    """From rows to columns: an exchange of a rank's 12,000 bytes, told as one collective."""
    seen = Seen()
    mesh = init_device_mesh("vgpu", (RANKS,))
    rows = distribute_tensor(torch.arange(6000.0).view(100, 60), mesh, [Shard(0)])
    vgpu.current().observers.append(seen)
    columns = rows.redistribute(placements=[Shard(1)]).to_local()
    told = [(one.name, one.bytes, one.end_ns - one.start_ns) for one in seen.collectives]
    return told, torch.equal(columns.cpu(), torch.arange(6000.0).view(100, 60).chunk(2, 1)[rank])


def split_classes(rank):
    """The loss over classes that are shared out, and its gradient, beside one process's."""
    made = torch.Generator().manual_seed(3)
    logits, answers = torch.randn(4, 10, generator=made), torch.randint(10, (4,), generator=made)
    mesh = init_device_mesh("vgpu", (RANKS,))
    split = distribute_tensor(logits, mesh, [Shard(1)]).requires_grad_()
    plain = logits.clone().requires_grad_()
    with loss_parallel():
        loss = torch.nn.functional.cross_entropy(split, distribute_tensor(answers, mesh, [Replicate()]))
        loss.backward()
    expected = torch.nn.functional.cross_entropy(plain, answers)
    expected.backward()
    gradient = split.grad.full_tensor().cpu()
    return torch.allclose(loss.full_tensor().cpu(), expected), torch.allclose(gradient, plain.grad)


def test_shards_change_their_placement_as_on_the_cpu(tmp_path):
    checks = (redistributed, changed_dimension, split_classes)
    for found in run_ranks(RANKS, run_all, tmp_path, checks, link=LINK):
        different, done = found["redistributed"]
        assert different == []
        assert done >= 54  # of 108: not everything can become partial
        assert found["changed_dimension"] == ([("all_to_all", 12_000, 1000 + 3000)], True)
        assert found["split_classes"] == (True, True)
