"""The order of the samples: which of them make up each batch of an epoch, for each rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler


def batches(
    n_samples: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> Iterator[Tensor]:
    """One epoch of shuffled index tensors for one rank, int64 (batch_size / world_size,); the last may be shorter.

    The order is PyTorch's DistributedSampler's: one permutation for all ranks, seeded by `seed + epoch`, dealt out like
    cards. So the ranks' local batches of a step make up the same global batch whatever their number, and training on
    several devices can be held against training on one. When the samples cannot be dealt out evenly, the first ones are
    dealt again, so that every rank has as many.

    Args:
        batch_size: of the global batch.

    Raises:
        ValueError: when there are no samples, or the global batch cannot be split evenly.
    """
    if n_samples < 1 or batch_size < 1 or batch_size % world_size:
        raise ValueError(
            f"n_samples ({n_samples}) must be at least 1, and batch_size ({batch_size}) a multiple of world_size "
            f"({world_size})"
        )
    samples: Any = range(n_samples)
    sampler: DistributedSampler[int] = DistributedSampler(samples, world_size, rank, shuffle=True, seed=seed)
    sampler.set_epoch(epoch)
    yield from torch.tensor(list(sampler)).split(batch_size // world_size)


def steps_per_epoch(n_samples: int, batch_size: int, world_size: int = 1) -> int:
    """Optimizer steps in one epoch, the last and maybe smaller batch included."""
    per_rank = -(-n_samples // world_size)
    return -(-per_rank // (batch_size // world_size))
