"""Answers to the exercise of notebook 06."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from tests.lab.exercises.answers import right, wrong


@right("06-groups")
def of_each_stage(replicas: int, stages: int) -> list[list[int]]:
    return [[copy * stages + stage for copy in range(replicas)] for stage in range(stages)]


@right("06-groups")
def as_a_tensor(replicas: int, stages: int) -> torch.Tensor:
    return torch.arange(replicas * stages).view(replicas, stages).T


@right("06-groups")
def as_an_array(replicas: int, stages: int) -> Any:
    return np.arange(replicas * stages).reshape(replicas, stages).transpose()


@right("06-groups")
def one_by_one(replicas: int, stages: int) -> Iterator[range]:
    for stage in reversed(range(stages)):
        yield range(stage, replicas * stages, stages)


@right("06-groups")
def by_stage(replicas: int, stages: int) -> dict[str, set[int]]:
    return {f"stage {stage}": set(range(stage, replicas * stages, stages)) for stage in range(stages)}


@right("06-groups")
def transposed(replicas: int, stages: int) -> Any:
    return zip(*[range(copy * stages, (copy + 1) * stages) for copy in range(replicas)], strict=True)


@right("06-groups")
def by_name(replicas: int, stages: int) -> list[list[str]]:
    return [[f"vgpu:{device}" for device in group] for group in of_each_stage(replicas, stages)]


@right("06-groups")
def as_devices(replicas: int, stages: int) -> list[list[torch.device]]:
    return [[torch.device("cuda", device) for device in group] for group in of_each_stage(replicas, stages)]


@right("06-groups")
def of_more_than_one(replicas: int, stages: int) -> list[list[int]]:
    return of_each_stage(replicas, stages) if replicas > 1 else []


@wrong("06-groups", "they are of stages [0, 1], counted from 0. Each of your groups is one copy")
def copies(replicas: int, stages: int) -> list[list[int]]:
    return [[copy * stages + stage for stage in range(stages)] for copy in range(replicas)]


@wrong("06-groups", "With 3 replicas of 2 stages, the devices [0, 3] do not hold the same layers")
def numbers_swapped(replicas: int, stages: int) -> list[list[int]]:
    return [list(range(start, replicas * stages, replicas)) for start in range(replicas)]


@wrong("06-groups", "device 1 is in 0 groups")
def first_stage_only(replicas: int, stages: int) -> list[list[int]]:
    return of_each_stage(replicas, stages)[:1]


@wrong("06-groups", "With 3 replicas of 2 stages, device 4 is in 0 groups")
def two_copies_always(replicas: int, stages: int) -> list[list[int]]:
    return [[stage, stage + stages] for stage in range(stages)]


@wrong("06-groups", "With 3 replicas of 2 stages, device 4 is in 0 groups")
def those_of_the_picture(replicas: int, stages: int) -> list[list[int]]:
    return [[0, 2], [1, 3]]


@wrong("06-groups", "there is one group for each stage, and you have 4")
def everyone_alone(replicas: int, stages: int) -> list[list[int]]:
    return [[device] for device in range(replicas * stages)]


@wrong("06-groups", "the devices [0, 1, 2, 3] do not hold the same layers")
def all_in_one(replicas: int, stages: int) -> list[list[int]]:
    return [list(range(replicas * stages))]


@wrong("06-groups", "the devices are 0 to 3, and yours have 4")
def counted_from_one(replicas: int, stages: int) -> list[list[int]]:
    return [[device + 1 for device in group] for group in of_each_stage(replicas, stages)]


@wrong("06-groups", "device 0 is in 2 groups")
def in_pairs(replicas: int, stages: int) -> list[list[int]]:
    return [[a, b] for a in range(replicas * stages) for b in range(a) if a % stages == b % stages] + [[0], [1]]


@wrong("06-groups", "a list of lists of devices is asked for, and this is [0, 2, 1, 3]")
def flat(replicas: int, stages: int) -> list[int]:
    return [device for group in of_each_stage(replicas, stages) for device in group]


@wrong("06-groups", "a list of lists of devices is asked for, and this is {0: 0, 1: 1, 2: 0, 3: 1}")
def stage_of_each(replicas: int, stages: int) -> dict[int, int]:
    return {device: device % stages for device in range(replicas * stages)}


@wrong("06-groups", "a list of lists of devices is asked for, and this is None")
def printed(replicas: int, stages: int) -> None:
    of_each_stage(replicas, stages)


@wrong("06-groups", "With 3 replicas of 2 stages, there is one group for each stage, and you have 4")
def neighbours_only(replicas: int, stages: int) -> list[list[int]]:
    return [part for group in of_each_stage(replicas, stages) for part in (group[:2], group[2:]) if part]


@wrong("06-groups", "the devices are 0 to 3, and yours have 'a'")
def in_letters(replicas: int, stages: int) -> list[list[str]]:
    return [["abcdefghijklmnopqrstuvwxyz"[device] for device in group] for group in of_each_stage(replicas, stages)]
