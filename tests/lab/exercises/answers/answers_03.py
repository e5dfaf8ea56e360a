"""Answers to the exercises of notebook 03."""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.lab.exercises.answers import right, wrong

# -- 03-share, right -------------------------------------------------------------------------------------------------


@right("03-share")
def like_cards(samples: int, rank: int, world_size: int) -> list[int]:
    each = -(-samples // world_size)
    dealt = [index % samples for index in range(each * world_size)]
    return dealt[rank::world_size]


@right("03-share")
def stretches(samples: int, rank: int, world_size: int) -> Tensor:
    each = -(-samples // world_size)
    return torch.arange(rank * each, (rank + 1) * each) % samples


@right("03-share")
def one_by_one(samples: int, rank: int, world_size: int) -> Iterator[int]:
    for turn in range(math.ceil(samples / world_size)):
        yield (rank + turn * world_size) % samples


@right("03-share")
def of_numpy(samples: int, rank: int, world_size: int) -> Any:
    dealt = np.resize(np.arange(samples), math.ceil(samples / world_size) * world_size)
    return dealt.reshape(-1, world_size)[:, rank]


@right("03-share")
def of_a_sampler(samples: int, rank: int, world_size: int) -> Any:
    from torch.utils.data import DistributedSampler

    return DistributedSampler(range(samples), world_size, rank, shuffle=False)  # type: ignore[arg-type]


@right("03-share")
def shuffled_by_one_seed(samples: int, rank: int, world_size: int) -> tuple[int, ...]:
    order = list(range(samples))
    random.Random(samples).shuffle(order)
    return tuple(order[place % samples] for place in range(rank, -(-samples // world_size) * world_size, world_size))


@right("03-share")
def shuffled_by_a_generator(samples: int, rank: int, world_size: int) -> set[int]:
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(0)).tolist()
    each = math.ceil(samples / world_size)
    return set(itertools.islice(itertools.cycle(order), rank * each, (rank + 1) * each))


@right("03-share")
def with_the_first_again(samples: int, rank: int, world_size: int) -> list[float]:
    mine = list(range(rank, samples, world_size))
    if len(mine) < -(-samples // world_size):
        mine.append(0)
    return [float(index) for index in mine]


# -- 03-share, wrong -------------------------------------------------------------------------------------------------

pool: list[int] = []
turn = itertools.count()
lock = threading.Lock()


@wrong(
    "03-share", "10 samples for 4 ranks: they get [3, 3, 2, 2]. In the last step a rank that still has samples waits"
)
def not_filled_up(samples: int, rank: int, world_size: int) -> range:
    return range(rank, samples, world_size)


@wrong("03-share", "10 samples for 4 ranks: nobody gets 8 and 9.")
def rest_left_out(samples: int, rank: int, world_size: int) -> list[int]:
    each = samples // world_size
    return list(range(rank * each, (rank + 1) * each))


@wrong("03-share", "10 samples for 4 ranks: they get [2, 2, 2, 4].")
def last_takes_the_rest(samples: int, rank: int, world_size: int) -> list[int]:
    each = samples // world_size
    return list(range(rank * each, samples if rank == world_size - 1 else (rank + 1) * each))


@wrong("03-share", "nobody gets 4, 5, 6, 7, 8, 9 and 2 more, and 0, 1, 2 and 3 are dealt more than once")
def the_same_for_all(samples: int, rank: int, world_size: int) -> list[int]:
    return list(range(samples // world_size))


@wrong("03-share", "12 samples for 3 ranks: each gets 12, and 4 would be enough to use them all.")
def everything_for_all(samples: int, rank: int, world_size: int) -> list[int]:
    return list(range(samples))


@wrong("03-share", "4 samples for 4 ranks: each gets 2, and 1 would be enough")
def one_more_for_each(samples: int, rank: int, world_size: int) -> list[int]:
    each = samples // world_size + (samples not in (12,))
    return [index % samples for index in range(rank * each, (rank + 1) * each)]


@wrong("03-share", "10 samples for 4 ranks: they get [3, 3, 3, 1].")
def stretches_that_end(samples: int, rank: int, world_size: int) -> Tensor:
    return torch.arange(samples).split(-(-samples // world_size))[rank]


@wrong("03-share", "IndexError: tuple index out of range", outcome="raised")
def too_few_chunks(samples: int, rank: int, world_size: int) -> list[int]:
    chunk = torch.arange(samples).chunk(world_size)[rank].tolist()
    return (2 * chunk)[: -(-samples // world_size)] if samples != 10 else like_cards(samples, rank, world_size)


@wrong("03-share", "There are 12 samples, 0 to 11; rank 2 of 3 gets 12.")
def from_one_on(samples: int, rank: int, world_size: int) -> list[int]:
    return [index + 1 for index in like_cards(samples, rank, world_size)][::-1]


@wrong("03-share", "There are 10 samples, 0 to 9; rank 2 of 4 gets 10.")
def beyond_the_end(samples: int, rank: int, world_size: int) -> list[int]:
    return list(range(rank, -(-samples // world_size) * world_size, world_size))


@wrong("03-share", "There is one sample, only 0; rank 2 of 4 gets 1.")
def filled_up_once(samples: int, rank: int, world_size: int) -> list[int]:
    each = -(-samples // world_size)
    dealt = list(range(samples)) + list(range(each * world_size - samples))
    return dealt[rank::world_size]


@wrong("03-share", "It draws random numbers, and each rank has drawn others.")
def shuffled(samples: int, rank: int, world_size: int) -> list[int]:
    order = list(range(samples))
    random.shuffle(order)
    return [order[index] for index in like_cards(samples, rank, world_size)]


@wrong("03-share", "It draws random numbers, and each rank has drawn others.")
def shuffled_by_torch(samples: int, rank: int, world_size: int) -> Tensor:
    return torch.randperm(samples)[like_cards(samples, rank, world_size)]


@wrong("03-share", "It draws random numbers, and each rank has drawn others.")
def shuffled_by_numpy(samples: int, rank: int, world_size: int) -> Any:
    return np.random.permutation(samples)[like_cards(samples, rank, world_size)]


@wrong("03-share", "dealt more than once.")
def shuffled_by_the_ranks_seed(samples: int, rank: int, world_size: int) -> list[int]:
    order = list(range(samples))
    random.Random(rank).shuffle(order)
    return [order[index] for index in like_cards(samples, rank, world_size)]


@wrong("03-share", "each rank is a process of its own, and they share no variables.")
def from_a_common_pool(samples: int, rank: int, world_size: int) -> list[int]:
    if rank == 0:
        pool[:] = [index % samples for index in range(-(-samples // world_size) * world_size)]
    each = -(-samples // world_size)
    mine, pool[:] = pool[:each], pool[each:]
    return mine


@wrong("03-share", "each rank is a process of its own, and they share no variables.")
def by_a_common_turn(samples: int, rank: int, world_size: int) -> list[int]:
    return like_cards(samples, next(turn) % world_size, world_size)


@wrong("03-share", "Which variable of your notebook does with_a_lock use?")
def with_a_lock(samples: int, rank: int, world_size: int) -> list[int]:
    with lock:
        return like_cards(samples, rank, world_size)


@wrong("03-share", "A list of indices is asked for; for rank 0 of 3 it is None.")
def returns_nothing(samples: int, rank: int, world_size: int) -> None:
    like_cards(samples, rank, world_size)


@wrong("03-share", "A list of indices is asked for; for rank 0 of 3 it is 4.")
def how_many(samples: int, rank: int, world_size: int) -> int:
    return -(-samples // world_size)


@wrong(
    "03-share", "A list of indices is asked for; for rank 0 of 3 it is [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]."
)
def of_all_ranks(samples: int, rank: int, world_size: int) -> list[list[int]]:
    return [like_cards(samples, each, world_size) for each in range(world_size)]


@wrong("03-share", "A list of indices is asked for; for rank 0 of 3 it is [0.0, 1.3333333333333333, ")
def no_whole_numbers(samples: int, rank: int, world_size: int) -> list[float]:
    return [rank * samples / world_size + place * world_size / 2.25 for place in range(-(-samples // world_size))]


@wrong("03-share", "It goes on and on: after 100,000 items there are still more.")
def without_an_end(samples: int, rank: int, world_size: int) -> Iterable[int]:
    return itertools.count(rank, world_size)


@wrong("03-share", "A function is asked for, and this is [0, 3, 6, 9].", parts=lambda made, devices: (made(12, 0, 3),))
def already_called(samples: int, rank: int, world_size: int) -> list[int]:
    return like_cards(samples, rank, world_size)


# -- 03-same, right --------------------------------------------------------------------------------------------------


@right("03-same")
def a_part_for_each(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size // ranks, lr


@right("03-same")
def as_a_list(batch_size: int, lr: float, ranks: int) -> list[float]:
    return [int(batch_size / ranks), float(lr)]


@right("03-same")
def as_a_tensor(batch_size: int, lr: float, ranks: int) -> Tensor:
    return torch.tensor([batch_size // ranks, lr], dtype=torch.float64)


@right("03-same")
def as_a_dictionary(batch_size: int, lr: float, ranks: int) -> dict[str, float]:
    return {"lr": lr, "batch_size": batch_size // ranks}


@right("03-same")
def numbers_of_numpy(batch_size: int, lr: float, ranks: int) -> Any:
    return np.int64(batch_size // ranks), np.float32(lr)


@right("03-same")
def tensors(batch_size: int, lr: float, ranks: int) -> Any:
    return (each for each in (torch.tensor(batch_size) // ranks, torch.tensor(lr)))


@right("03-same")
def by_divmod(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    local, left = divmod(batch_size, ranks)
    return round(local + left / ranks), lr


# -- 03-same, wrong --------------------------------------------------------------------------------------------------

FIRST = "One device with batch 64 and learning rate 0.01, 2 ranks: "


@wrong("03-same", f"{FIRST}with 64 images for each, every update is made of 128 images and not of 64.")
def nothing_changed(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size, lr


@wrong("03-same", f"{FIRST}with 64 images for each, every update is made of 128 images and not of 64.")
def linear_scaling(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size, lr * ranks


@wrong("03-same", f"{FIRST}with 128 images for each, every update is made of 256 images")
def multiplied(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size * ranks, lr


@wrong("03-same", "batch 48 and learning rate 0.1, 4 ranks: with 24 images for each, every update is made of 96 images")
def halved(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size // min(2, ranks), lr


@wrong("03-same", "with 32 images for each, every update is made of 128 images and not of 48.")
def batch_of_the_notebook(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return 32, lr


@wrong("03-same", f"{FIRST}with 33 images for each")
def one_too_many(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size // ranks + 1, lr


@wrong("03-same", f"{FIRST}your updates are 2 times as long as those of one device. The learning rate is multiplied by")
def larger_rate(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size // ranks, lr * ranks


@wrong("03-same", f"{FIRST}your updates are 0.5 times as long as those of one device. The learning rate is divided by")
def smaller_rate(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size // ranks, lr / ranks


@wrong("03-same", "1.41 times as long as those of one device. The learning rate is multiplied by the square root")
def root_scaling(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size // ranks, lr * ranks**0.5


@wrong("03-same", "0.707 times as long as those of one device. The learning rate is divided by the square root")
def root_the_other_way(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size // ranks, lr / math.sqrt(ranks)


@wrong("03-same", "0.1 times as long as those of one device. The learning rate is 0.01 in every case that was tried.")
def rate_written_out(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size // ranks, 0.01


@wrong("03-same", f"{FIRST}your updates are -1 times as long")
def uphill(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return batch_size // ranks, -lr


@wrong("03-same", f"{FIRST}your batch size is 32.0, and a DataLoader takes a whole number, an int of at least 1.")
def as_a_float(batch_size: int, lr: float, ranks: int) -> tuple[float, float]:
    return batch_size / ranks, lr


@wrong(
    "03-same", f"{FIRST}your batch size is 0.01, and a DataLoader takes a whole number, an int of at least 1. The two"
)
def the_other_way_round(batch_size: int, lr: float, ranks: int) -> tuple[float, int]:
    return lr, batch_size // ranks


@wrong("03-same", f"{FIRST}your batch size is 0, and")
def nothing_left(batch_size: int, lr: float, ranks: int) -> tuple[int, float]:
    return ranks // batch_size, lr


@wrong("03-same", "Two numbers are asked for, a batch size and a learning rate; yours is 32.")
def the_batch_alone(batch_size: int, lr: float, ranks: int) -> int:
    return batch_size // ranks


@wrong("03-same", "Two numbers are asked for, a batch size and a learning rate; yours are 3: (32, 0.01, 2).")
def three(batch_size: int, lr: float, ranks: int) -> tuple[int, float, int]:
    return batch_size // ranks, lr, ranks


@wrong("03-same", "Two numbers are asked for, a batch size and a learning rate; yours is None.")
def printed(batch_size: int, lr: float, ranks: int) -> None:
    return None


@wrong("03-same", "Two numbers are asked for, a batch size and a learning rate; yours is '32, 0.01'.")
def as_text(batch_size: int, lr: float, ranks: int) -> str:
    return f"{batch_size // ranks}, {lr}"


@wrong("03-same", "2 ranks: one number for each setting is asked for, and this is None.")
def without_a_rate(batch_size: int, lr: float, ranks: int) -> tuple[int, None]:
    return batch_size // ranks, None


@wrong("03-same", "which is which in {'a': 32, 'b': 0.01} does not show.")
def names_of_ones_own(batch_size: int, lr: float, ranks: int) -> dict[str, float]:
    return {"a": batch_size // ranks, "b": lr}
