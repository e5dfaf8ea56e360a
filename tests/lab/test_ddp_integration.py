"""Ranks learn what one process learns: held against a plain loop, and to the bit against a plain DDP script."""

from __future__ import annotations

import copy
import math
import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lab
from lab import data, nets, training
from lab.events import Evaluated, GroupJoined, ParametersSummed, StepFinished
from tests.lab.group_runs import fresh, global_batches, losses, mean_loss, plain_losses, run
from tests.lab.ranks import run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")

STEPS = 4
BATCH = 32


class Tied(nn.Module):
    """Its last layer uses the middle one's weight; the first layer is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(784, 10)
        self.middle = nn.Linear(10, 10)
        self.last = nn.Linear(10, 10)
        self.last.weight = self.middle.weight
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.middle(torch.tanh(self.frozen(x.flatten(1))))))


class Wayward(nn.Module):
    """In its third step, rank 1 changes a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.calls = nn.Linear(784, 8), nn.Linear(8, 10), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and dist.is_initialized():
            self.calls += 1
            if self.calls == 3 and dist.get_rank() == 1:
                self.second.bias.data += 1e-6
        return self.second(self.first(x.flatten(1)))


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 4, 5, stride=3), nn.BatchNorm2d(4), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.norm(self.conv(x))).flatten(1))


@pytest.mark.parametrize(
    ("net", "ranks", "dtype", "tolerance"),
    [
        ("net", 2, "float32", 1e-5),
        ("net", 4, "float64", 1e-12),
        ("mlp", 2, "float64", 1e-12),
        ("mlp", 4, "float32", 1e-5),
        ("gpt", 2, "float64", 1e-12),
        ("gpt", 4, "float32", 1e-5),
    ],
)
def test_the_losses_are_those_of_one_process(net: str, ranks: int, dtype: str, tolerance: float) -> None:
    events = run(net=net, world_size=ranks, dtype=dtype, steps=STEPS, batch_size=BATCH)
    plain = fresh(net, dtype=getattr(torch, dtype))
    expected = plain_losses(plain, nets.REGISTRY[net].default_data, STEPS, BATCH)
    assert losses(events) == pytest.approx(expected, rel=tolerance)


def script(rank, net, world_size, threads, steps):
    """A plain DDP script: after each step, the sum of every parameter's bits; in the end, the parameters."""
    torch.set_num_threads(threads)
    dataset = data.load("mnist")
    ddp = DistributedDataParallel(seeded(Tied) if net == "own" else fresh(net))
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01, momentum=0.9)
    sums = []
    for shares, _ in zip(global_batches(60_000, BATCH, ranks=world_size), range(steps), strict=False):
        optimizer.zero_grad()
        mean_loss(ddp, dataset.train_inputs[shares[rank]], dataset.train_targets[shares[rank]]).backward()
        optimizer.step()
        trained = [parameter.detach() for parameter in ddp.parameters() if parameter.requires_grad]
        # As a 32-bit integer holds them.
        wide = [int(parameter.view(torch.int32).sum()) for parameter in trained]
        sums.append(tuple((total + 2**31) % 2**32 - 2**31 for total in wide))
    return sums, [parameter.detach().numpy() for parameter in ddp.parameters()]


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("net", ["net", "own"])
def test_parameters_are_those_of_a_plain_ddp_script_to_the_bit(tmp_path, net: str, ranks: int) -> None:
    own = None if net == "net" else seeded(Tied)
    events = run(own, net=net if own is None else "own:Tied", world_size=ranks, steps=STEPS, batch_size=BATCH)
    [joined] = [event for event in events if isinstance(event, GroupJoined)]
    found = run_ranks(ranks, script, tmp_path, net, ranks, joined.threads_per_rank, STEPS, backend="gloo")
    assert all(isinstance(one, tuple) for one in found), found
    summed = {(event.step, event.rank): event.sums for event in events if isinstance(event, ParametersSummed)}
    assert summed == {(step, rank): found[rank][0][step] for step in range(STEPS) for rank in range(ranks)}
    # And the script's are those of one process, whose sums are taken in another order.
    alone = fresh("net") if own is None else seeded(Tied)
    plain_losses(alone, "mnist", STEPS, BATCH)
    for ours, theirs in zip(found[0][1], alone.parameters(), strict=True):
        torch.testing.assert_close(torch.from_numpy(ours), theirs.detach(), rtol=1e-4, atol=1e-6)


def seeded(made: type[nn.Module]) -> nn.Module:
    torch.manual_seed(5)
    return made()


def test_tied_parameters_count_once_and_frozen_ones_stay() -> None:
    events = run(seeded(Tied), net="own:Tied", world_size=2, steps=STEPS, batch_size=BATCH, dtype="float64")
    [joined] = [event for event in events if isinstance(event, GroupJoined)]
    assert joined.parameters == ("middle.weight", "middle.bias", "last.bias")
    assert losses(events) == pytest.approx(plain_losses(seeded(Tied).double(), "mnist", STEPS, BATCH), rel=1e-12)


def test_ranks_begin_differently_and_become_rank_0() -> None:
    first, second = (training.build_net(lab.Experiment(seed=3), None, rank) for rank in range(2))
    assert not torch.equal(first.fc1.weight, second.fc1.weight)
    assert torch.equal(first.fc1.weight, fresh("net", seed=3).fc1.weight)
    # A class of the user's is made on every rank, each with its own random numbers.
    events = run(Tied, net="own:Tied", world_size=2, steps=2, batch_size=BATCH)
    torch.manual_seed(0)
    assert losses(events) == pytest.approx(plain_losses(Tied(), "mnist", 2, BATCH), rel=1e-5)


def test_a_rank_that_goes_its_own_way_is_named_with_the_parameter_and_the_step() -> None:
    experiment = lab.Experiment(net="own:Wayward", strategy="ddp", world_size=3, steps=200, batch_size=48)
    with lab.start(experiment, net=Wayward()) as started:
        list(started)
        failure = started.state.failure
    assert failure.rank == 1
    assert failure.primary
    assert "since step 2, first in second.bias" in failure.cause


def test_two_epochs_with_short_last_batches_and_samples_dealt_twice() -> None:
    """4,096 samples for 3 ranks are 1,366 each, two of them twice: steps of 500, 500 and 366 a rank."""
    events = run(net="mlp", data="shapes", world_size=3, epochs=2, batch_size=1_500, dtype="float64")
    torch.manual_seed(0)
    plain = nets.build("mlp", data.REGISTRY["shapes"].spec).double()
    expected = plain_losses(plain, "shapes", 6, 1_500, ranks=3)
    assert losses(events) == pytest.approx(expected, rel=1e-12)
    samples = [event.samples for event in events if isinstance(event, StepFinished) and event.rank == 2]
    assert samples == [500, 500, 366] * 2
    assert [event.epoch for event in events if isinstance(event, Evaluated)] == [0, 1]


def normalised_by_share(net: nn.Module, steps: int, ranks: int) -> list[float]:
    """One process in which batch norm sees the ranks' shares one by one, and counts rank 0's alone."""
    dataset = data.load("mnist")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    found = []
    for shares, _ in zip(global_batches(60_000, BATCH, ranks=ranks), range(steps), strict=False):
        optimizer.zero_grad()
        parts = []
        for rank, share in enumerate(shares):
            buffers = {name: buffer.clone() if rank else buffer for name, buffer in net.named_buffers()}
            output = torch.func.functional_call(net, buffers, dataset.train_inputs[share].double())
            parts.append(nn.functional.cross_entropy(output, dataset.train_targets[share]))
        loss = torch.stack(parts).mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("ranks", [2, 4])
def test_batch_norm_sees_each_ranks_share_alone(ranks: int) -> None:
    net = seeded(Normalised)
    events = run(
        copy.deepcopy(net), net="own:Normalised", world_size=ranks, steps=STEPS, batch_size=BATCH, dtype="float64"
    )
    ours, by_share, together = losses(events), net.double(), copy.deepcopy(net).double()
    assert ours == pytest.approx(normalised_by_share(by_share, STEPS, ranks), rel=1e-12)
    whole = plain_losses(together, "mnist", STEPS, BATCH)
    # The estimates of mean and variance differ from share to share: the loss of the first step already does.
    assert all(1e-5 < abs(a - b) < 0.3 for a, b in zip(ours, whole, strict=True))
    [evaluated] = [event for event in events if isinstance(event, Evaluated)]
    dataset = data.load("mnist")
    by_share.eval()
    with torch.no_grad():
        outputs = by_share(dataset.test_inputs.double())
    assert evaluated.accuracy == (outputs.argmax(1) == dataset.test_targets).double().mean().item()
    loss = nn.functional.cross_entropy(outputs, dataset.test_targets).item()
    assert math.isclose(evaluated.loss, loss, rel_tol=1e-6)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_evaluate_together_what_one_evaluates_alone(ranks: int) -> None:
    """10,000 test samples, which 3 ranks cannot share out evenly."""
    fields = {"steps": 3, "batch_size": 48}
    [alone] = [event for event in run(strategy="single", **fields) if isinstance(event, Evaluated)]
    [together] = [event for event in run(world_size=ranks, **fields) if isinstance(event, Evaluated)]
    assert together.accuracy == alone.accuracy
    assert together.loss == pytest.approx(alone.loss, rel=1e-6)
    assert together.samples == 10_000


def test_the_ranks_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    [joined] = [event for event in run(world_size=2, steps=1) if isinstance(event, GroupJoined)]
    assert (joined.world_size, joined.backend) == (2, "gloo")
    assert joined.threads_per_rank == max(1, cores // 2)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_ranks_with_a_gpu_each_talk_by_nccl() -> None:
    events = run(devices="cuda:0,cuda:1", steps=STEPS, batch_size=BATCH)
    [joined] = [event for event in events if isinstance(event, GroupJoined)]
    assert "nccl" in joined.backend
    assert losses(events) == pytest.approx(plain_losses(fresh("net"), "mnist", STEPS, BATCH), rel=1e-3)
