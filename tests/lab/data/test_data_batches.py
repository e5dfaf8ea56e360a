"""Batches come in the order of PyTorch's DistributedSampler, and the ranks' shares make up the same global batch."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import BatchSampler, DistributedSampler

from lab.data.batches import batches, steps_per_epoch


@pytest.mark.parametrize(("samples", "size"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_one_rank_gets_the_permutation_of_seed_and_epoch(samples: int, size: int) -> None:
    for epoch in range(3):
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(7 + epoch))
        ours = list(batches(samples, size, seed=7, epoch=epoch))
        assert torch.cat(ours).tolist() == order.tolist()
        assert [len(batch) for batch in ours[:-1]] == [size] * (len(ours) - 1)
        assert len(ours) == steps_per_epoch(samples, size)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_get_what_a_plain_ddp_script_gives_them(world_size: int) -> None:
    for rank in range(world_size):
        sampler = DistributedSampler(range(50), world_size, rank, seed=3)
        sampler.set_epoch(2)
        plain = list(BatchSampler(sampler, 4, drop_last=False))
        ours = list(batches(50, 4 * world_size, seed=3, epoch=2, rank=rank, world_size=world_size))
        assert [batch.tolist() for batch in ours] == plain
        assert len(ours) == steps_per_epoch(50, 4 * world_size, world_size)


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_local_batches_make_up_the_global_one(world_size: int) -> None:
    shares = [list(batches(48, 8, seed=1, epoch=5, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for step, whole in enumerate(batches(48, 8, seed=1, epoch=5)):
        assert sorted(torch.cat([share[step] for share in shares]).tolist()) == sorted(whole.tolist())


def test_indices_are_ready_to_index_with() -> None:
    indices = next(batches(10, 4, seed=0, epoch=0))
    assert indices.dtype == torch.int64
    assert torch.arange(10)[indices].shape == (4,)


@pytest.mark.parametrize(("samples", "size", "world_size"), [(0, 4, 1), (5, 0, 1), (8, 6, 4)])
def test_impossible_sizes_are_refused(samples: int, size: int, world_size: int) -> None:
    with pytest.raises(ValueError, match=f"n_samples \\({samples}\\).*batch_size \\({size}\\).*\\({world_size}\\)"):
        next(batches(samples, size, seed=0, epoch=0, world_size=world_size))
