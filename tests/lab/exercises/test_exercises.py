"""Wrong answers to the course's exercises: each is told what broke. The right ones are tested with the notebooks."""

from __future__ import annotations

from collections.abc import Callable
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
    """Net with what it returns left open."""

    end: Callable[[Any], Any] = staticmethod(lambda x: x)

    def __init__(self, first: str = "cpu", second: str = "cpu") -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5).to(first), nn.Conv2d(10, 20, 5).to(first)
        self.fc1, self.fc2 = nn.Linear(320, 50).to(second), nn.Linear(50, 10).to(second)

    def forward(self, x: Any) -> Any:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.end(self.fc2(F.relu(self.fc1(x.flatten(1)))))


class LogSoftmax(Net):
    end = staticmethod(lambda x: x.log_softmax(1))


class Softmax(Net):
    end = staticmethod(lambda x: x.softmax(1))


class Transposed(Net):
    end = staticmethod(lambda x: x.T)


class Hidden(Net):
    def forward(self, x: Any) -> Any:
        return G.relu(x)  # type: ignore[name-defined]  # noqa: F821 - the mistake of the exercise


class Wanders(Net):
    """It brings x to no device."""


class Misplaced(Net):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(second, second)


class Other(nn.Module):
    def __init__(self, first: str, second: str) -> None:
        super().__init__()
        self.only = nn.Linear(2, 2)


def in_place(theta: Any, gradients: Any, eta: float) -> Any:
    theta -= eta * sum(gradients) / len(gradients)
    return theta


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
    ("00-cut", ({"conv1": "a", "*": "b"},), "737,280 bytes cross in a step, between conv1 and conv2"),
    ("00-cut", ({"*": "a"},), "uses 1: a"),
    ("00-cut", ({"conv9": "a", "*": "b"},), "did you mean"),
    ("00-cut", ("fc2",), "a placement is a dictionary"),
    ("01-mend", (LogSoftmax,), "takes the log-softmax once more"),
    ("01-mend", (Softmax,), "wants raw scores"),
    ("01-mend", (Transposed,), "yours give (10, 16)"),
    ("01-mend", (Hidden,), "name 'G' is not defined"),
    ("01-mend", (lambda: 3,), "not an nn.Module"),
    ("01-accuracy", (lambda s, y: (s.argmax(1) == y).sum(),), "should be 1; yours is 10"),
    ("01-accuracy", (lambda s, y: (s > 0.5).any(1).float().mean(),), "read as the next digit"),
    ("01-accuracy", (lambda s, y: s,), "it should be one number"),
    ("02-update", (lambda t, g, e: t - e * sum(g),), "2 times too long: it uses the sum"),
    ("02-update", (lambda t, g, e: t + e * sum(g) / len(g),), "uphill"),
    ("02-update", (lambda t, g, e: t - sum(g) / len(g),), "eta is missing"),
    ("02-update", (lambda t, g, e: t - e * sum(g) / 2,), "with 1 ranks, the sum is divided by 2"),
    ("02-update", (lambda t, g, e: t - e * g[0],), "only the first rank's"),
    ("02-update", (in_place,), "theta itself has changed"),
    ("02-update", (lambda t, g, e: 0.5,), "it should return a tensor"),
    ("02-unequal", (lambda g, s: sum(g) / len(g),), "for shares of [40, 24], the plain mean"),
    ("02-unequal", (lambda g, s: sum(n * each for n, each in zip(s, g, strict=True)),), "64 times too large"),
    ("02-unequal", (lambda g, s: g[0],), "away from the gradient of the whole batch"),
    ("03-share", (lambda n, r, w: list(range(r, n, w)),), "they get [3, 3, 2, 2]"),
    ("03-share", (lambda n, r, w: list(range(n // w)),), "nobody gets [4, 5"),
    ("03-share", (lambda n, r, w: list(range(n)),), "each gets 12, and 4 are enough"),
    ("03-share", (lambda n, r, w: [n],), "rank 0 gets 12"),
    ("03-share", (lambda n, r, w: None,), "should be a list of indices"),
    ("03-same", (lambda b, lr, n: (b, lr),), "every update is made of 128 images and not of 64"),
    ("03-same", (lambda b, lr, n: (b // n, n * lr),), "your updates are 2 times as long"),
    ("03-same", (lambda b, lr, n: (b / n, lr),), "a whole number"),
    ("03-same", (lambda b, lr, n: b,), "return two numbers"),
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
