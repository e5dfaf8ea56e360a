"""Runs of several ranks, and the plain PyTorch training that they are compared with."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DistributedSampler

import lab
from lab import data, nets
from lab.events import Event, Span, StepFinished


def run(own: Any = None, **fields: Any) -> list[Event]:
    """Every event of a run that ends well; `own` is a module of the user's."""
    with lab.start(lab.Experiment(**{"strategy": "ddp", **fields}), net=own) as started:
        events = list(started)
        started.result()
    return events


def losses(events: list[Event]) -> list[float]:
    """Step by step, the mean of the ranks' losses: that of the global batch, as their shares are of one size."""
    steps: dict[int, list[float]] = defaultdict(list)
    for event in events:
        if isinstance(event, StepFinished):
            steps[event.step].append(event.loss)
    return [sum(steps[step]) / len(steps[step]) for step in sorted(steps)]


def spans(events: list[Event], kind: str, step: int | None = None) -> list[Span]:
    return [event for event in events if isinstance(event, Span) and event.kind == kind and step in (None, event.step)]


def global_batches(samples: int, batch_size: int, seed: int = 0, ranks: int = 1) -> Iterator[list[Tensor]]:
    """For each step, the indices of every rank's share, as a plain DDP script takes them from its samplers."""
    for epoch in itertools.count():
        shares = []
        for rank in range(ranks):
            sampler: DistributedSampler[int] = DistributedSampler(range(samples), ranks, rank, seed=seed)
            sampler.set_epoch(epoch)
            shares.append([torch.tensor(batch) for batch in BatchSampler(sampler, batch_size // ranks, False)])
        yield from map(list, zip(*shares, strict=True))


def fresh(name: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(seed)
    return nets.build(name, data.REGISTRY[nets.REGISTRY[name].default_data].spec).to(dtype)


def mean_loss(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, of every token for texts; images come in the net's dtype."""
    if inputs.is_floating_point():
        inputs = inputs.to(next(net.parameters()).dtype)
    output = net(inputs)
    return F.cross_entropy(output.flatten(0, -2), targets.flatten())


def plain_losses(net: nn.Module, data_name: str, steps: int, batch_size: int, ranks: int = 1) -> list[float]:
    """One process, one loop, the global batch. `ranks` only matter for which samples are dealt twice."""
    dataset = data.load(data_name)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    found = []
    for shares, _ in zip(
        global_batches(len(dataset.train_inputs), batch_size, ranks=ranks), range(steps), strict=False
    ):
        indices = torch.cat(shares)
        optimizer.zero_grad()
        loss = mean_loss(net, dataset.train_inputs[indices], dataset.train_targets[indices])
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
