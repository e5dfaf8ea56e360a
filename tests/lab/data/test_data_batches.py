"""The order of the samples, against PyTorch's own samplers."""

import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler

from lab.data.batches import batches


@pytest.mark.parametrize(("samples", "size"), [(10, 5), (10, 3), (7, 7), (7, 100), (1, 1), (1000, 64)])
def test_epochs_are_those_of_pytorchs_samplers(samples, size):
    sampler = RandomSampler(range(samples), generator=torch.Generator().manual_seed(7))
    plain, ours = BatchSampler(sampler, size, drop_last=False), torch.Generator().manual_seed(7)
    for _ in range(3):
        assert [indices.tolist() for indices in batches(samples, size, ours)] == list(plain)


def test_indices_can_index():
    indices = next(batches(10, 4, torch.Generator()))
    assert indices.dtype == torch.int64
    assert torch.arange(10)[indices].tolist() == indices.tolist()


@pytest.mark.parametrize(("samples", "size"), [(0, 4), (4, 0), (4, -1)])
def test_nothing_to_split_is_refused(samples, size):
    with pytest.raises(ValueError, match="at least 1"):
        next(batches(samples, size, torch.Generator()))
