"""The order of the samples: which of them make up each batch of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor


def batches(n_samples: int, batch_size: int, generator: Generator) -> Iterator[Tensor]:
    """One epoch of shuffled index tensors, int64 (batch_size,); the last one is shorter when the sizes do not divide.

    The same batches as PyTorch's own classes give from the same generator, epoch after epoch, without their Python
    work for every sample:

        sampler = RandomSampler(range(n_samples), generator=generator)
        BatchSampler(sampler, batch_size, drop_last=False)

    Raises:
        ValueError: when there are no samples, or no room for one in a batch.
    """
    if n_samples < 1 or batch_size < 1:
        raise ValueError(f"n_samples ({n_samples}) and batch_size ({batch_size}) must both be at least 1")
    yield from torch.split(torch.randperm(n_samples, generator=generator), batch_size)
    # RandomSampler draws one more permutation, for samples past a whole pass, and uses none of it. Without this draw
    # the generator would be in another state, and the second epoch in another order.
    torch.randperm(n_samples, generator=generator)
