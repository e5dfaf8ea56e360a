"""Checks of notebook 03: DistributedDataParallel."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import torch
from torch import nn

from lab.exercises.grading import NotWrittenError, Wrong, call, exercise

TOLERANCE = 1e-6


@exercise("03-share", todo="Return the list of indices of this rank: all samples used, every rank with equally many.")
def share(answer: Any) -> str:
    """Shares that cover all samples and are of the same size."""
    for samples, ranks in ((12, 3), (10, 4), (7, 7), (5, 1)):
        shares = [_indices(call(answer, samples, rank, ranks), samples, rank) for rank in range(ranks)]
        what = f"{samples} samples for {ranks} rank{'s' if ranks > 1 else ''}"
        sizes = [len(each) for each in shares]
        if len(set(sizes)) > 1:
            raise Wrong(
                f"{what}: they get {sizes}. In the last step a rank that still has samples waits for one that has "
                "none left, for ever: every rank must get equally many"
            )
        used = Counter(index for each in shares for index in each)
        if missing := sorted(set(range(samples)) - set(used)):
            raise Wrong(f"{what}: nobody gets {missing}")
        fewest = -(-samples // ranks)
        if sizes[0] > fewest:
            raise Wrong(f"{what}: each gets {sizes[0]}, and {fewest} are enough")
        if samples % ranks == 0 and max(used.values()) > 1:
            twice = [index for index, count in used.items() if count > 1]
            raise Wrong(f"{what}: {twice} are dealt more than once, although they come out even")
    return "All samples are used, and all ranks get equally many, also where they do not come out even."


def _indices(got: Any, samples: int, rank: int) -> list[int]:
    try:
        indices = [operator.index(index) for index in got]
    except TypeError:
        raise Wrong(f"it should be a list of indices; for rank {rank} it is {got!r}") from None
    if outside := [index for index in indices if not 0 <= index < samples]:
        raise Wrong(f"there are {samples} samples, 0 to {samples - 1}; rank {rank} gets {outside[0]}")
    return indices


@exercise("03-same", todo="Return two numbers: the batch size of each rank's DataLoader, and the learning rate.")
def same(answer: Any) -> str:
    """Settings with which ranks that average their gradients make the updates of one device."""
    for batch, lr, ranks in ((64, 0.01, 2), (48, 0.1, 4), (32, 0.05, 1)):
        got = call(answer, batch, lr, ranks)
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(f"return two numbers, a batch size and a learning rate; yours is {got!r}")
        if ... in got:
            raise NotWrittenError
        local, rate = got
        if not isinstance(local, int) or local < 1:
            raise Wrong(f"a DataLoader's batch size is a whole number, at least 1; yours is {local!r} (// divides so)")
        case = f"one device with batch {batch} and learning rate {lr}, {ranks} rank{'s' if ranks > 1 else ''}"
        if local * ranks != batch:
            raise Wrong(
                f"{case}: with {local} images each, every update is made of {local * ranks} images and not of {batch}"
            )
        apart, longer = _updates(batch, lr, ranks, local, float(rate))
        if apart > TOLERANCE:
            raise Wrong(
                f"{case}: your updates are {longer:.3g} times as long. DDP takes the mean of the gradients, not their "
                "sum, and a mean of gradients is no longer than one of them"
            )
    return "The updates are those of one device: each rank has its part of the batch, and the learning rate stays."


def _updates(batch: int, lr: float, ranks: int, local: int, rate: float) -> tuple[float, float]:
    """Largest difference between one device's update and the ranks', and how much longer theirs is."""
    made = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(batch, 5, generator=made).double(), torch.randint(3, (batch,), generator=made)
    weight = torch.randn(3, 5, generator=made).double().requires_grad_()

    def gradient(part: slice) -> torch.Tensor:
        loss = nn.functional.cross_entropy(inputs[part] @ weight.T, targets[part])
        return torch.autograd.grad(loss, [weight])[0]

    alone = lr * gradient(slice(None))
    parts = [gradient(slice(rank * local, (rank + 1) * local)) for rank in range(ranks)]
    together = rate * torch.stack(parts).mean(0)
    return float((alone - together).abs().max()), float(together.norm() / alone.norm())
