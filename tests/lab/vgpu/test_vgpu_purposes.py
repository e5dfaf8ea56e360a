"""What the memory of virtual GPUs is used for, counted by hand to the byte."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lab import vgpu
from lab.events import PURPOSES
from lab.nets.mlp import MLP
from lab.vgpu.purposes import MemoryLedger

B = 8
WEIGHTS = 4 * (784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10)
"""Bytes of MLP's parameters."""
BATCH = B * 784 * 4 + B * 8
"""Of B images and their labels."""
SAVED = 4 * B * (256 + 128 + 10) + 4
"""What backward needs: the outputs of both ReLUs, the log-softmax, the total weight of the targets."""
LOSS = 4


def test_the_purposes_of_a_training_step_of_mlp():
    machine = vgpu.enable(devices=2)
    net = MLP(784, 10).to("vgpu:0")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.zeros(B, 784, device="vgpu:0"), torch.zeros(B, dtype=torch.int64, device="vgpu:0")
    with MemoryLedger(machine) as ledger:
        held = dict.fromkeys(PURPOSES, 0) | {"parameters": WEIGHTS, "other": BATCH}
        assert ledger.now(0) == held
        loss = F.cross_entropy(net(x), y)
        assert ledger.now(0) == held | {"activations": SAVED + LOSS}
        loss.backward()
        held |= {"gradients": WEIGHTS, "activations": LOSS}
        assert ledger.now(0) == held
        optimizer.step()
        held |= {"optimizer state": WEIGHTS}
        assert ledger.now(0) == held
        optimizer.zero_grad()
        assert ledger.now(0) == held | {"gradients": 0}
    assert ledger.now(0) == held | {"gradients": 0}
    assert ledger.now(1) == dict.fromkeys(PURPOSES, 0)


def test_at_every_point_the_purposes_add_up_to_what_is_allocated():
    machine = vgpu.enable(devices=1)
    pool = machine.pools[0]
    seen: list[int] = []

    class Watch:
        def operation(self, operation: object) -> None: ...

        def transfer(self, copy: object) -> None: ...

        def memory(self, device: int, block: object, change_bytes: int, at_ns: int) -> None:
            seen.append(seen[-1] + change_bytes)

    net = MLP(784, 10).to("vgpu:0")
    optimizer = torch.optim.Adam(net.parameters())
    seen.append(pool.allocated)
    machine.observers.append(Watch())
    with MemoryLedger(machine) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.randn(B, 784).to("vgpu:0")).sum().backward()
            optimizer.step()
    points = ledger.timeline(0)
    assert [point.total for point in points] == seen
    assert seen[-1] == pool.allocated
    assert sum(ledger.at_peak(0).values()) == max(seen) == pool.peak
    assert [point.at_ns for point in points] == sorted(point.at_ns for point in points)
