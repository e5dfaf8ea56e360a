"""PyTorch's own DistributedDataParallel on virtual GPUs, against a single process on the CPU with the global batch."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from lab import data, nets, vgpu
from lab.vgpu.links import LinkModel
from tests.lab.ranks import Seen, run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")

STEPS = 4
BATCH = 8
SPEC = {name: data.REGISTRY[nets.REGISTRY[name].default_data].spec for name in ("net", "mlp", "gpt")}


class Split(nn.Module):
    """Two linear layers, each on a device of its own, and one that only odd steps use."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__()
        self.a = nn.Linear(6, 5).to(first)
        self.b = nn.Linear(5, 3).to(second)
        self.sometimes = nn.Linear(3, 3).to(second)
        self.devices = first, second

    def forward(self, x, use):
        x = self.a(x.to(self.devices[0])).relu()
        x = self.b(x.to(self.devices[1]))
        return self.sometimes(x) if use else x


def make(name):
    torch.manual_seed(7)
    if name == "split":
        return Split("cpu", "cpu").double()
    return nets.build(name, SPEC[name]).double()


def batch(name, step):
    generator = torch.Generator().manual_seed(100 + step)
    if name == "split":
        return torch.randn(BATCH, 6, generator=generator, dtype=torch.float64), torch.randint(
            0, 3, (BATCH,), generator=generator
        )
    if name == "gpt":
        tokens = torch.randint(0, 10, (BATCH, 9), generator=generator)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    shape = SPEC[name].shape
    images = torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, SPEC[name].classes, (BATCH,), generator=generator)


def loss_of(name, module, inputs, targets, step):
    output = module(inputs, step % 2 == 1) if name == "split" else module(inputs)
    return F.cross_entropy(output.flatten(0, -2), targets.to(output.device).flatten())


def train_alone(name):
    """Losses and parameters of one process on the CPU."""
    module = make(name)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(STEPS):
        loss = loss_of(name, module, *batch(name, step), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [parameter.detach() for parameter in module.parameters()]


def train_rank(rank, name, options):
    """This rank's mean losses over all ranks, and its parameters."""
    world_size, options = dist.get_world_size(), dict(options)
    hook, accumulate, devices = options.pop("hook", None), options.pop("accumulate", 1), options.pop("devices", 1)
    device = f"vgpu:{2 * rank}"
    module = make(name)
    for parameter in module.parameters():
        parameter.data += rank  # it is DistributedDataParallel that makes them equal
    if name == "split":
        module.devices = device, f"vgpu:{2 * rank + devices - 1}"
        module.a.to(module.devices[0])
        module.b.to(module.devices[1])
        module.sometimes.to(module.devices[1])
    else:
        module.to(device)
    ddp = DistributedDataParallel(module, **options)
    if hook == "own":
        ddp.register_comm_hook(None, own_hook)
    elif hook == "fp16":
        ddp.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif hook == "powersgd":
        state = powerSGD_hook.PowerSGDState(
            None, matrix_approximation_rank=5, start_powerSGD_iter=2, use_error_feedback=True
        )
        ddp.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(STEPS):
        inputs, targets = (tensor.chunk(world_size)[rank].to(device) for tensor in batch(name, step))
        optimizer.zero_grad()
        total = 0.0
        parts = list(zip(inputs.chunk(accumulate), targets.chunk(accumulate), strict=True))
        for x, y in parts[:-1]:
            with ddp.no_sync():
                loss = loss_of(name, ddp, x, y, step) / accumulate
                loss.backward()
                total += loss.item()
        loss = loss_of(name, ddp, *parts[-1], step) / accumulate
        loss.backward()
        mean = loss.detach() + total
        dist.all_reduce(mean, dist.ReduceOp.AVG)
        losses.append(mean.item())
        optimizer.step()
    return losses, [parameter.detach().cpu().numpy() for parameter in ddp.parameters()]


def own_hook(state, bucket):
    buffer = bucket.buffer()
    assert buffer.device.type == "vgpu"
    buffer.div_(dist.get_world_size())
    return dist.all_reduce(buffer, async_op=True).get_future().then(lambda future: future.value()[0])


CASES = {
    "net": ("net", 2, {}),
    "net on four ranks": ("net", 4, {"bucket_cap_mb": 0.01}),
    "mlp in views": ("mlp", 2, {"gradient_as_bucket_view": True}),
    "mlp, own hook": ("mlp", 2, {"hook": "own", "bucket_cap_mb": 0.05}),
    "mlp accumulates": ("mlp", 2, {"accumulate": 2}),
    "gpt": ("gpt", 2, {"bucket_cap_mb": 0.1}),
    "gpt on four ranks, static": ("gpt", 4, {"static_graph": True}),
    "unused": ("split", 2, {"find_unused_parameters": True}),
    "unused, two devices each": ("split", 2, {"find_unused_parameters": True, "devices": 2}),
    "two devices each, own hook, four ranks": (
        "split",
        4,
        {"find_unused_parameters": True, "devices": 2, "hook": "own", "gradient_as_bucket_view": True},
    ),
    "fp16": ("net", 2, {"hook": "fp16"}),
    "powersgd": ("mlp", 2, {"hook": "powersgd"}),
}
ROUGH = {"fp16": 2e-3, "powersgd": 0.5}
"""What compression may cost; the others differ by the order in which float64 numbers are added."""


def train_all(rank, cases):
    return {case: train_rank(rank, *CASES[case][::2]) for case in cases}


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_learn_what_one_process_learns(tmp_path, world_size):
    cases = [case for case in CASES if CASES[case][1] == world_size]
    found = run_ranks(world_size, train_all, tmp_path, cases)
    assert all(isinstance(one, dict) for one in found), found
    for case in cases:
        losses, parameters = train_alone(CASES[case][0])
        tolerance = ROUGH.get(case, 1e-12)
        for rank_losses, rank_parameters in (one[case] for one in found):
            assert rank_losses == pytest.approx(losses, rel=tolerance), case
            for ours, theirs, first in zip(rank_parameters, parameters, found[0][case][1], strict=True):
                assert (ours == first).all(), case  # all ranks the same, to the bit
                if case != "powersgd":
                    torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=tolerance, atol=tolerance)


def normalised(rank):
    """One forward in training: batch norm's statistics are rank 0's on every rank afterwards."""
    device = f"vgpu:{rank}"
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(device)
    ddp = DistributedDataParallel(module)
    torch.manual_seed(rank)
    for _ in range(2):
        ddp(torch.randn(8, 3).to(device)).sum().backward()
    own = module[1].running_mean.clone()
    ddp(torch.randn(8, 3).to(device))  # which begins with rank 0's buffers
    momentum = module[1].momentum
    with torch.no_grad():
        fresh = module[1].running_mean
    return own.tolist(), fresh.tolist(), momentum, module[1].num_batches_tracked.item()


def test_batch_norm_statistics_follow_rank_0(tmp_path):
    (own0, _, _, seen0), (own1, _, _, seen1) = run_ranks(2, normalised, tmp_path)
    assert own0 != own1  # each has seen its own part last
    assert seen0 == seen1 == 3


def overlapping(rank, watched, options):
    """A deep net in many buckets, with links so slow that the all-reduces take longer than backward."""
    device = f"vgpu:{2 * rank}"
    module = nn.Sequential(*(nn.Linear(64, 64) for _ in range(6))).to(device)
    options = dict(options)
    hook = options.pop("hook", None)
    ddp = DistributedDataParallel(module, bucket_cap_mb=0.02, **options)
    if hook:
        ddp.register_comm_hook(None, own_hook)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
    clock, seen = vgpu.current().clock, Seen()
    for step in range(watched + 1):
        loss = ddp(torch.ones(4, 64, device=device)).sum()
        if step == watched:
            clock.synchronize()
            vgpu.current().observers.append(seen)
        loss.backward()
        if step == watched:
            backward_ends = seen.operations[-1][1]
            count = len(seen.operations)
        optimizer.step()
        optimizer.zero_grad()
    first_update = seen.operations[count][0]
    computed = [start for start, _ in seen.operations[:count]]
    return [(c.bytes, c.start_ns, c.end_ns) for c in seen.collectives], computed, backward_ends, first_update


@pytest.mark.parametrize("hook", [None, "own"])
@pytest.mark.parametrize("views", [False, True])
def test_all_reduces_overlap_with_backward_and_the_update_waits_for_them(tmp_path, views, hook):
    found = run_ranks(
        2,
        overlapping,
        tmp_path,
        2,
        {"gradient_as_bucket_view": views, "hook": hook},
        link=LinkModel(bytes_per_ns=0.05, latency_ns=1000),
    )
    assert all(isinstance(one, tuple) for one in found), found
    assert found[0][0] == found[1][0]
    for collectives, computed, backward_ends, first_update in found:
        assert len(collectives) > 2
        assert sum(size for size, *_ in collectives) == 6 * (64 * 64 + 64) * 4
        starts, ends = [start for _, start, _ in collectives], [end for *_, end in collectives]
        for end, following in zip(ends, starts[1:], strict=False):
            assert following >= end  # one after the other on the communication stream
        # Bucket 0 is on its way while gradients are still being computed, and its all-reduce has not stopped them.
        assert len([start for start in computed if start > starts[0]]) > 10
        assert any(starts[0] < start < ends[0] for start in computed)
        # With two ranks, each takes two steps of 1000 ns and half of its bytes, of which one takes 20 ns.
        assert all(end - start == 2 * 1000 + size * 20 for size, start, end in collectives)
        assert first_update >= ends[-1]
        if not views:
            assert backward_ends >= ends[-1]  # the copies out of the buckets, which belong to backward


def test_a_static_graph_sends_everything_after_its_first_backward(tmp_path):
    link = LinkModel(bytes_per_ns=0.05, latency_ns=1000)
    found = run_ranks(2, overlapping, tmp_path, 0, {"static_graph": True}, link=link)
    assert all(isinstance(one, tuple) for one in found), found
    for collectives, _, _, first_update in found:
        assert sum(size for size, *_ in collectives) >= 6 * (64 * 64 + 64) * 4
        assert first_update >= collectives[-1][2]


def raises_in_backward(rank):
    """Rank 1 gives a bucket of another size to the collective in its hook."""
    device = f"vgpu:{rank}"
    ddp = DistributedDataParallel(nn.Linear(3, 3).to(device))

    def hook(state, bucket):
        wrong = bucket.buffer()[: 12 - 2 * rank].clone()
        return dist.all_reduce(wrong, async_op=True).get_future().then(lambda future: bucket.buffer())

    ddp.register_comm_hook(None, hook)
    ddp(torch.ones(2, 3, device=device)).sum().backward()


def test_an_error_in_a_bucket_reaches_the_caller_on_every_rank(tmp_path):
    found = run_ranks(2, raises_in_backward, tmp_path)
    for said in found:
        assert "rank 1 calls all_reduce of 10 float32 numbers" in said


def dies_in_backward(rank):
    device = f"vgpu:{rank}"
    ddp = DistributedDataParallel(nn.Linear(3, 3).to(device))
    loss = ddp(torch.ones(2, 3, device=device)).sum()
    if rank == 1:
        os._exit(1)
    loss.backward()


def test_a_rank_that_dies_is_noticed_in_the_others_backward(tmp_path):
    said, nothing = run_ranks(2, dies_in_backward, tmp_path)
    assert nothing is None
    assert "onnection" in said
