"""The steps of a run: how many there are, and which samples each rank has in each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import Tensor

from lab.data.batches import batches, steps_per_epoch
from lab.experiment import Experiment


def total_steps(experiment: Experiment, samples: int) -> int:
    """Optimizer steps of the whole run."""
    per_epoch = steps_per_epoch(samples, experiment.batch_size, experiment.world_size or 1)
    return experiment.steps or experiment.epochs * per_epoch


def schedule(samples: int, experiment: Experiment, rank: int = 0) -> Iterator[tuple[int, Tensor, bool]]:
    """(epoch, indices of this rank's batch, whether the epoch ends with it) for each step."""
    size, world_size, seed = experiment.batch_size, experiment.world_size or 1, experiment.seed
    per_epoch, steps, done = steps_per_epoch(samples, size, world_size), total_steps(experiment, samples), 0
    for epoch in itertools.count():
        dealt = batches(samples, size, seed=seed, epoch=epoch, rank=rank, world_size=world_size)
        for number, indices in enumerate(dealt):
            if done == steps:
                return
            done += 1
            yield epoch, indices, number == per_epoch - 1
