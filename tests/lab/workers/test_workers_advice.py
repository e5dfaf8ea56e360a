"""Errors that students meet, raised by PyTorch itself, and the way out that is told of them."""

from __future__ import annotations

import pickle
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from lab import vgpu
from lab.workers.advice import ADVICE, advice
from lab.workers.failure import from_exception

vgpu.enable(devices=1)


def twice(device: str) -> None:
    loss = (torch.ones(2, device=device, requires_grad=True) ** 2).sum()
    loss.backward()
    loss.backward()


def overwritten(device: str) -> None:
    x = torch.ones(2, device=device, requires_grad=True)
    y = x.exp()
    y += 1
    y.sum().backward()


def leaf(device: str) -> None:
    x = torch.ones(2, device=device, requires_grad=True)
    x += 1


def classes(device: str) -> None:
    F.cross_entropy(torch.zeros(2, 3, device=device), torch.tensor([0, 5], device=device))


TRIED: list[tuple[Callable[[str], object], str]] = [
    (twice, "detach"),
    (overwritten, r"x = x \+ y"),
    (leaf, r"torch.no_grad\(\)"),
    (lambda device: torch.ones(2, device=device).sum().backward(), "requires_grad=True"),
    (lambda device: torch.ones(2, 3, device=device).t().view(6), "reshape"),
    (lambda device: nn.Linear(3, 2).to(device)(torch.ones(1, 4, device=device)), "in_features"),
    (lambda device: nn.Conv2d(3, 2, 1).to(device)(torch.ones(1, 1, 4, 4, device=device)), "in_channels"),
    (lambda device: nn.Linear(3, 2).to(device)(torch.ones(1, 3, dtype=torch.float64, device=device)), "dtype"),
    (lambda device: nn.Linear(3, 2).to(device)(torch.ones(1, 3, dtype=torch.float16, device=device)), "dtype"),
    (lambda device: nn.BatchNorm1d(3).to(device)(torch.ones(1, 3, device=device)), "last batch"),
    (lambda device: torch.ones(2, device=device) + torch.ones(3, device=device), "print both"),
    (classes, "as many as there are classes"),
    (lambda device: nn.Embedding(3, 2).to(device)(torch.tensor([5], device=device)), "as many as there are classes"),
    (
        lambda device: F.cross_entropy(torch.zeros(2, 3, device=device), torch.tensor([0, 1], device=device).int()),
        r"targets.long\(\)",
    ),
    (lambda device: dist.all_reduce(torch.ones(1, device=device)), "strategy='ddp'"),
]


@pytest.mark.parametrize("device", ["cpu", "vgpu:0"])
@pytest.mark.parametrize(("wrong", "way"), TRIED)
def test_an_error_of_pytorch_has_its_way_out(wrong: Callable[[str], object], way: str, device: str) -> None:
    with pytest.raises((RuntimeError, IndexError, ValueError)) as raised:
        wrong(device)
    told = from_exception(raised.value).advice
    assert re.search(way, told), (str(raised.value), told)


def test_errors_of_the_system_have_their_way_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end, pytest.raises(OSError, match="too long") as raised:
        end.bind(str(tmp_path / ("x" * 200)))
    assert "TMPDIR" in from_exception(raised.value).advice
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        first.listen()
        with pytest.raises(OSError, match="in use") as taken:
            second.bind(first.getsockname())
    assert "MASTER_PORT" in from_exception(taken.value).advice
    with pytest.raises((AttributeError, pickle.PicklingError)) as unpicklable:
        pickle.dumps(lambda: None)
    assert "top of a file" in from_exception(unpicklable.value).advice


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("Expected to mark a variable ready only once. This error is caused by", "static_graph=True"),
        ("Expected to have finished reduction in the prior iteration before", "find_unused_parameters=True"),
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "num_workers=0"),
        ("Cannot re-initialize CUDA in forked subprocess. To use CUDA with", "spawn"),
        ("[Errno 28] No space left on device", "free some space"),
        ("[Errno 24] Too many open files", "ulimit"),
        ("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory", "smaller batch"),
    ],
)
def test_what_cannot_be_had_here_is_known_by_its_words(text: str, way: str) -> None:
    assert way in advice(text)


def test_an_error_of_ones_own_gets_no_advice() -> None:
    assert advice("this layer is broken") == ""
    assert len(ADVICE) >= 20
