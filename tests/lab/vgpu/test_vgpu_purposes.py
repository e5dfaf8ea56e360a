"""What the memory of virtual GPUs is used for, counted by hand to the byte, and as PyTorch's own tracker sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lab import vgpu
from lab.events import PURPOSES
from lab.nets.mlp import MLP
from lab.vgpu import memory_record
from lab.vgpu.machine import Machine
from lab.vgpu.purposes import MemoryLedger
from tests.benchmarks.memory import CASES, Case, compare

B = 8
WEIGHTS = 4 * (784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10)
"""Bytes of MLP's parameters."""
BATCH = B * 784 * 4 + B * 8
"""Of B images and their labels."""
SAVED = 4 * B * (256 + 128 + 10) + 4
"""What backward needs: the outputs of both ReLUs, the log-softmax, the total weight of the targets."""
SCALAR = 4
"""The loss, and the gradient 1 from which backward begins."""
NOTHING = dict.fromkeys(PURPOSES, 0)
LINEAR = 4 * (10 * 10 + 10)
"""Of `nn.Linear(10, 10)`."""


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = vgpu.enable(devices=2)
    yield machine
    assert machine.observers == []


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.net)
def test_the_peak_of_a_step_is_that_of_pytorchs_tracker(case: Case, optimizer: str):
    found = compare(case, optimizer)
    assert abs(found.difference) < 0.0001
    assert found.ours["parameters"] == found.tracker["parameters"]
    if optimizer == "sgd":
        assert sum(found.ours.values()) == sum(found.tracker.values())
        assert found.ours["optimizer state"] == found.tracker["optimizer state"]


def test_a_training_step_of_mlp(machine: Machine):
    net = MLP(784, 10).to("vgpu:0")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.zeros(B, 784, device="vgpu:0"), torch.zeros(B, dtype=torch.int64, device="vgpu:0")
    with MemoryLedger(machine) as ledger:
        held = NOTHING | {"parameters": WEIGHTS, "other": BATCH}
        assert ledger.now(0) == held
        loss = F.cross_entropy(net(x), y)
        assert ledger.now(0) == held | {"activations": SAVED + SCALAR}
        loss.backward()
        held |= {"gradients": WEIGHTS, "activations": SCALAR}
        assert ledger.now(0) == held
        optimizer.step()
        held |= {"optimizer state": WEIGHTS}
        assert ledger.now(0) == held == ledger.at_peak(0)
        optimizer.zero_grad()
        assert ledger.now(0) == held | {"gradients": 0}

        F.cross_entropy(net(x), y).backward()
        # Most is held where all gradients are there, and so is still that of the first layer's output; the loss of the
        # first step is kept too.
        assert ledger.at_peak(0) == held | {"activations": 3 * SCALAR, "other": BATCH + 4 * B * 256}
    assert ledger.now(0) == held
    assert ledger.now(1) == NOTHING


def test_a_tensor_of_an_earlier_machine_with_more_devices_is_not_counted():
    vgpu.enable(devices=3)
    kept = nn.Parameter(torch.ones(4, device="vgpu:2"))
    with MemoryLedger(vgpu.enable(devices=1)) as ledger:
        assert ledger.now(0) == NOTHING
    assert kept.numel() == 4


def test_at_every_point_the_purposes_add_up_to_what_is_allocated(machine: Machine):
    seen = [machine.pools[0].allocated]

    class Watch:
        def operation(self, operation: object) -> None: ...

        def transfer(self, copy: object) -> None: ...

        def memory(self, device: int, block: object, change_bytes: int, at_ns: int) -> None:
            seen.append(seen[-1] + change_bytes)

    net = MLP(784, 10).to("vgpu:0")
    optimizer = torch.optim.Adam(net.parameters())
    seen = [machine.pools[0].allocated]
    machine.observers.append(Watch())
    with MemoryLedger(machine) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.randn(B, 784).to("vgpu:0")).sum().backward()
            optimizer.step()
    machine.observers.clear()
    points = ledger.timeline(0)
    assert [point.total for point in points] == seen
    assert sum(ledger.at_peak(0).values()) == max(seen) == machine.pools[0].peak
    assert [point.at_ns for point in points] == sorted(point.at_ns for point in points)


OPTIMIZERS: list[tuple[Callable[..., torch.optim.Optimizer], dict[str, Any], int]] = [
    (torch.optim.SGD, {"lr": 0.1}, 0),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 1),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "foreach": True}, 1),
    (torch.optim.Adam, {}, 2),
    (torch.optim.AdamW, {"foreach": True, "amsgrad": True}, 3),
    (torch.optim.RMSprop, {}, 1),
]


@pytest.mark.parametrize(("make", "options", "copies"), OPTIMIZERS)
def test_optimizers_hold_copies_of_the_parameters(make: Any, options: dict[str, Any], copies: int, machine: Machine):
    net = nn.Linear(10, 10, device="vgpu:0")
    optimizer = make(net.parameters(), **options)
    with MemoryLedger(machine) as ledger:
        for _ in range(2):
            net(torch.ones(5, 10, device="vgpu:0")).sum().backward()
            optimizer.step()
            wanted = {"parameters": LINEAR, "gradients": LINEAR, "optimizer state": copies * LINEAR}
            assert ledger.now(0) == NOTHING | wanted
            optimizer.zero_grad()
            assert ledger.now(0)["gradients"] == 0


def test_gradients_that_add_up_and_are_set_to_zero(machine: Machine):
    net = nn.Linear(10, 10, device="vgpu:0")
    with MemoryLedger(machine) as ledger:
        for _ in range(3):
            net(torch.ones(5, 10, device="vgpu:0")).sum().backward()
            assert ledger.now(0) == NOTHING | {"parameters": LINEAR, "gradients": LINEAR}
        net.zero_grad(set_to_none=False)
        assert ledger.now(0)["gradients"] == LINEAR
        net.zero_grad(set_to_none=True)
        assert ledger.now(0) == NOTHING | {"parameters": LINEAR}


def test_gradients_that_are_gone_at_once_are_known(machine: Machine):
    net = nn.Linear(10, 10, device="vgpu:0")
    with MemoryLedger(machine) as ledger:
        net(torch.ones(5, 10, device="vgpu:0")).sum().backward()
        net.zero_grad()
        assert ledger.now(0) == NOTHING | {"parameters": LINEAR}
    assert max(point.by_purpose["gradients"] for point in ledger.timeline(0)) == LINEAR


def test_two_losses_in_one_backward(machine: Machine):
    first, second = nn.Linear(10, 10, device="vgpu:0"), nn.Linear(10, 10, device="vgpu:1")
    with MemoryLedger(machine) as ledger:
        losses = [net(torch.ones(5, 10, device=f"vgpu:{i}")).sum() for i, net in enumerate((first, second))]
        torch.autograd.backward(losses)
        for device in (0, 1):
            assert ledger.now(device) == NOTHING | {"parameters": LINEAR, "gradients": LINEAR, "activations": SCALAR}


def test_a_net_on_two_devices_with_microbatches(machine: Machine):
    first = nn.Sequential(nn.Linear(10, 10), nn.ReLU()).to("vgpu:0")
    second = nn.Linear(10, 10).to("vgpu:1")
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1, momentum=0.9)
    with MemoryLedger(machine) as ledger:
        batch = torch.ones(6, 10).to("vgpu:0")
        losses = [second(first(part).to("vgpu:1")).sum() for part in batch.split(2)]
        activations = 3 * 2 * 10 * 4  # the outputs of three ReLUs, here; and there, where they are the layer's input
        assert ledger.now(0) == NOTHING | {"parameters": LINEAR, "activations": activations, "other": 6 * 10 * 4}
        assert ledger.now(1) == NOTHING | {"parameters": LINEAR, "activations": activations + 3 * SCALAR}
        sum(losses).backward()  # type: ignore[union-attr]
        optimizer.step()
        del losses
        held = NOTHING | {"parameters": LINEAR, "gradients": LINEAR, "optimizer state": LINEAR}
        assert ledger.now(0) == held | {"other": 6 * 10 * 4}
        assert ledger.now(1) == held


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_keeps_the_input_and_makes_the_rest_again(reentrant: bool, machine: Machine):
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(10, 10), nn.Tanh()) for _ in range(4)]).to("vgpu:0")
    output = 5 * 10 * 4
    with MemoryLedger(machine) as ledger:
        x = torch.ones(5, 10, device="vgpu:0", requires_grad=True)
        loss = checkpoint(layers, x, use_reentrant=reentrant).sum()
        assert ledger.now(0) == NOTHING | {"parameters": 4 * LINEAR, "activations": SCALAR, "other": output}
        loss.backward()
        held = {"parameters": 4 * LINEAR, "gradients": 4 * LINEAR + output, "activations": SCALAR, "other": output}
        assert ledger.now(0) == NOTHING | held
    # While backward is under way, all four outputs are there.
    assert max(point.by_purpose["activations"] for point in ledger.timeline(0)) >= 4 * output


class _Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * 2


def test_the_result_of_a_function_of_ones_own_is_an_activation(machine: Machine):
    weight = nn.Parameter(torch.ones(10, device="vgpu:0"))
    with MemoryLedger(machine) as ledger:
        loss = _Double.apply(weight).pow(2).sum()  # the input of pow is kept, its output goes when it is summed up
        loss.backward()
        assert ledger.now(0) == NOTHING | {"parameters": 40, "gradients": 40, "activations": SCALAR}
    assert max(point.by_purpose["activations"] for point in ledger.timeline(0)) == 40 + 40 + SCALAR


def test_training_by_hand_without_an_optimizer(machine: Machine):
    weight = torch.ones(10, device="vgpu:0", requires_grad=True)
    with MemoryLedger(machine) as ledger:
        (weight * 3).sum().backward()
        assert ledger.now(0) == NOTHING | {"gradients": 40, "other": 40}
        with torch.no_grad():
            mean = 0.9 * weight + 0.1 * weight  # needs a gradient's tensor, and is none of the graph
        (weight * 3).sum().backward()
        assert ledger.now(0) == NOTHING | {"gradients": 40, "other": 80}
        del mean


def test_what_an_optimizer_updates_are_parameters(machine: Machine):
    weight = torch.ones(10, device="vgpu:0", requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    with MemoryLedger(machine) as ledger:
        weight.sum().backward()
        optimizer.step()
        assert ledger.now(0) == NOTHING | {"parameters": 40, "gradients": 40, "optimizer state": 40}


def test_evaluation_has_no_activations(machine: Machine):
    net = nn.Linear(10, 10, device="vgpu:0")
    with MemoryLedger(machine) as ledger, torch.no_grad():
        output = net(torch.ones(5, 10, device="vgpu:0"))
        assert ledger.now(0) == NOTHING | {"parameters": LINEAR, "other": output.nbytes}


def test_buffers_count_as_parameters_and_modules_made_meanwhile_are_known(machine: Machine):
    with MemoryLedger(machine) as ledger:
        net = nn.BatchNorm1d(10).to("vgpu:0")
        # weight, bias, running mean and variance; the number of batches is an int64
        assert ledger.now(0) == NOTHING | {"parameters": 4 * 40 + 8}
        del net
        assert ledger.now(0) == NOTHING
    assert max(point.by_purpose["parameters"] for point in ledger.timeline(0)) == 4 * 40 + 8


def test_a_record_begins_with_what_was_there(machine: Machine):
    net = nn.Linear(10, 10, device="vgpu:0")
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(5, 10, device="vgpu:0")).sum().backward()
    optimizer.step()
    rest = torch.zeros(7, device="vgpu:0")
    held = {"parameters": LINEAR, "gradients": LINEAR, "optimizer state": 2 * LINEAR, "other": rest.nbytes}
    ledger = MemoryLedger(machine)
    ledger.open()
    assert ledger.timeline(0)[0].by_purpose == NOTHING | held
    ledger.close()
    rest = torch.zeros(70, device="vgpu:0")
    assert ledger.now(0) == NOTHING | held  # it is closed
    ledger.open(search=False)
    assert ledger.timeline(0)[0].by_purpose == NOTHING | held | {"other": rest.nbytes}
    ledger.close()
    ledger.close()


def test_what_lives_on_in_a_graph_alone_is_counted(machine: Machine):
    x = torch.ones(10, device="vgpu:0", requires_grad=True)
    loss = x.exp().exp().sum()  # nobody but the graph has the results of exp
    with MemoryLedger(machine) as ledger:
        assert sum(ledger.now(0).values()) == machine.pools[0].allocated == 40 + 2 * 40 + SCALAR
        loss.backward()
        assert ledger.now(0) == NOTHING | {"gradients": 40, "activations": SCALAR, "other": 40}


def test_nothing_is_kept_alive(machine: Machine):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            raise ValueError("broken")

    with MemoryLedger(machine) as ledger:
        net = nn.Linear(10, 10, device="vgpu:0")
        loss = Fails.apply(net(torch.ones(5, 10, device="vgpu:0"))).exp().sum()
        with pytest.raises(ValueError, match="broken"):
            loss.backward()
        del loss, net
        assert machine.pools[0].allocated == 0
        assert ledger.now(0) == NOTHING


def test_running_out_of_memory_says_of_what():
    machine = vgpu.enable(devices=1, memory=10_000)
    net = nn.Linear(10, 10, device="vgpu:0")
    with MemoryLedger(machine):
        output = net(torch.ones(100, 10, device="vgpu:0"))  # keeps its input
        with pytest.raises(torch.OutOfMemoryError) as caught:
            output.exp()
    assert str(caught.value) == (
        "VGPU out of memory. Tried to allocate 4.0 kB. vgpu:0 has a total capacity of 10.0 kB of which 1.6 kB is free. "
        "Of the allocated memory 8.4 kB is held by tensors: 440 bytes parameters, 4.0 kB activations, 4.0 kB other."
    )
    with pytest.raises(torch.OutOfMemoryError, match=r"is held by tensors\.$"):
        output.exp()


def test_a_long_record_is_summed_up_and_keeps_its_peak(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory_record, "MAX_CHANGES", 100)
    net = nn.Linear(10, 10, device="vgpu:0")
    with MemoryLedger(machine) as ledger:
        large = torch.zeros(1000, device="vgpu:0")
        del large
        for _ in range(200):
            net(torch.ones(5, 10, device="vgpu:0"))
        assert ledger.now(0) == NOTHING | {"parameters": LINEAR}
    assert len(ledger.timeline(0)) <= 101
    assert ledger.at_peak(0) == NOTHING | {"parameters": LINEAR, "other": 4000}
    assert sum(ledger.at_peak(0).values()) == machine.pools[0].peak


def test_a_view_whose_base_was_changed_in_place_can_be_counted(machine: Machine):
    base = torch.ones(4, device="vgpu:0", requires_grad=True)
    with torch.no_grad():
        piece = base[:2]
        base.add_(1)
    with pytest.raises(RuntimeError):
        _ = piece.is_leaf
    with MemoryLedger(machine) as ledger:
        assert sum(ledger.now(0).values()) == base.nbytes
