"""Wrong answers to the course's exercises: each is told what broke. The right ones are tested with the notebooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lab import vgpu
from lab.exercises import check

DEVICES = ("vgpu:0", "vgpu:1")


@pytest.fixture(autouse=True)
def two_devices() -> None:
    vgpu.enable(devices=2)


class Net(nn.Module):
    def __init__(self, first: str = "cpu", second: str = "cpu") -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5).to(first), nn.Conv2d(10, 20, 5).to(first)
        self.fc1, self.fc2 = nn.Linear(320, 50).to(second), nn.Linear(50, 10).to(second)

    def forward(self, x: Any) -> Any:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Wanders(Net):
    """It brings x to no device."""


class Misplaced(Net):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(second, second)


class Other(nn.Module):
    def __init__(self, first: str, second: str) -> None:
        super().__init__()
        self.only = nn.Linear(2, 2)


def wrong_device(net: nn.Module, optimizer: Any, x: Any, y: Any) -> float:
    loss = F.cross_entropy(net(x), y.to(DEVICES[1]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def no_step(net: nn.Module, optimizer: Any, x: Any, y: Any) -> float:
    output = net(x)
    return F.cross_entropy(output, y.to(output.device)).item()


def no_number(net: nn.Module, optimizer: Any, x: Any, y: Any) -> Any:
    return None


WRONG: list[tuple[str, tuple[Any, ...], str]] = [
    ("04-step", (wrong_device, DEVICES), "Here the net's output is on vgpu:0"),
    ("04-step", (no_step, DEVICES), "away from those of one device"),
    ("04-step", (no_number, DEVICES), "it should return the loss"),
    ("04-anywhere", (Wanders, DEVICES), "bring x to where the next layer is"),
    ("04-anywhere", (Misplaced, DEVICES), "has conv1 on vgpu:1, and it belongs on vgpu:0"),
    ("04-anywhere", (Other, DEVICES), "the net has no layer conv1 any more"),
    ("04-anywhere", (lambda: Net(), DEVICES), "def __init__(self, first, second)"),
]


@pytest.mark.parametrize(("name", "answer", "words"), WRONG, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(WRONG)])
def test_a_wrong_answer_is_told_what_broke(name: str, answer: tuple[Any, ...], words: str) -> None:
    torch.manual_seed(0)
    verdict = check(name, *answer)
    assert not verdict.passed
    assert words in verdict.sentence
