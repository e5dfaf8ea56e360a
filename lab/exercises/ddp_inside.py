"""Checks of notebook 03: DistributedDataParallel."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from lab.errors import listed
from lab.exercises import apart, reading
from lab.exercises.grading import AnswerRaisedError, NotWrittenError, Wrong, call, exercise, shown

TOLERANCE = 1e-6

# -- 03-share --------------------------------------------------------------------------------------------------------

DEALS = ((12, 3), (10, 4), (4, 4), (5, 1), (9, 2), (2, 4), (1, 4), (1000, 3))
"""Samples, and ranks to deal them out to."""
MOST_SHOWN = 6
Shares = list[list[int]]


@exercise(
    "03-share",
    todo="Return the list of indices of this rank: all samples used, every rank with equally many.",
    hints=(
        "A rank knows the three numbers that it is given, and nothing of the others. How many samples does each get?",
        "Rounded up, it is -(-samples // world_size). Times the ranks, that may be more than there are samples.",
        "index % samples begins again at 0 where the samples end.",
        "Deal [index % samples for index in range(each * world_size)], from rank on in steps of world_size.",
    ),
)
def share(answer: Any) -> str:
    """Shares that cover all samples and are of the same size, each dealt in a process of its own, as a rank has it."""
    if not callable(answer):
        raise Wrong(f"A function is asked for, and this is {shown(answer)}.")
    most = max(ranks for _, ranks in DEALS)
    with ExitStack() as stack:
        processes = [stack.enter_context(apart.process()) for _ in range(most)]
        for samples, ranks in DEALS:
            dealt = [processes[rank](_dealt, answer, samples, rank, ranks) for rank in range(ranks)]
            if problem := _problem(dealt, samples):
                what = f"{samples:,} sample{'s' if samples > 1 else ''} for {ranks} rank{'s' if ranks > 1 else ''}"
                why = _why_apart(processes, answer, samples, ranks) if ranks > 1 else ""
                raise Wrong(f"{what}: {problem}.{why}")
    return "All samples are used, and all ranks get equally many, also where they do not come out even."


def _dealt(answer: Any, samples: int, rank: int, ranks: int, seed: int | None = None) -> list[int]:
    """What a rank gets, read where the answer runs: a generator cannot travel.

    Args:
        seed: of the random numbers; without one each rank has others, as processes that have not agreed on one do.
    """
    _seed(1_000 + rank if seed is None else seed)
    got = call(answer, samples, rank, ranks)
    indices = reading.indices(got)
    if indices is None:
        raise Wrong(f"A list of indices is asked for; for rank {rank} of {ranks} it is {shown(got)}.")
    if outside := [index for index in indices if not 0 <= index < samples]:
        numbers = f"0 to {samples - 1}" if samples > 1 else "only 0"
        what = f"{samples} samples" if samples > 1 else "one sample"
        raise Wrong(
            f"There {'are' if samples > 1 else 'is'} {what}, {numbers}; rank {rank} of {ranks} gets {outside[0]}."
        )
    return indices


def _seed(seed: int) -> None:
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _problem(dealt: Shares, samples: int) -> str | None:
    """What is wrong with the ranks' shares."""
    sizes = [len(each) for each in dealt]
    if len(set(sizes)) > 1:
        return (
            f"they get {sizes}. In the last step a rank that still has samples waits for one that has none left, for "
            "ever"
        )
    used = Counter(index for each in dealt for index in each)
    twice = sorted(index for index, count in used.items() if count > 1)
    if missing := sorted(set(range(samples)) - set(used)):
        others = f", and {_some(twice)} {_are(twice)} dealt more than once" if twice else ""
        return f"nobody gets {_some(missing)}{others}"
    fewest = -(-samples // len(dealt))
    if sizes[0] > fewest:
        return f"each gets {sizes[0]:,}, and {fewest:,} would be enough to use them all"
    if samples % len(dealt) == 0 and twice:
        return f"{_some(twice)} {_are(twice)} dealt more than once, although they come out even"
    return None


def _why_apart(processes: Sequence[apart.Process], answer: Any, samples: int, ranks: int) -> str:
    """Why shares do not fit that would, if the ranks drew the same random numbers, or shared their variables."""

    def of_one_seed() -> Shares:
        return [processes[rank](_dealt, answer, samples, rank, ranks, 0) for rank in range(ranks)]

    def in_one_process() -> Shares:
        dealt: Shares = processes[0](_one_after_the_other, answer, samples, ranks)
        return dealt

    if _fits(of_one_seed, samples):
        return " It draws random numbers, and each rank has drawn others."
    if _fits(in_one_process, samples):
        return (
            " In one process, one rank after the other, the shares would fit; but each rank is a process of its own, "
            "and they share no variables."
        )
    return ""


def _fits(deal: Callable[[], Shares], samples: int) -> bool:
    try:
        return _problem(deal(), samples) is None
    except (AnswerRaisedError, NotWrittenError, Wrong):
        return False


def _one_after_the_other(answer: Any, samples: int, ranks: int) -> Shares:
    return [_dealt(answer, samples, rank, ranks) for rank in range(ranks)]


def _some(indices: Sequence[int]) -> str:
    """The first of them."""
    more = len(indices) - MOST_SHOWN
    return (
        listed([str(index) for index in indices])
        if more <= 0
        else f"{str(list(indices[:MOST_SHOWN]))[1:-1]} and {more} more"
    )


def _are(indices: Sequence[int]) -> str:
    return "is" if len(indices) == 1 else "are"


# -- 03-same ---------------------------------------------------------------------------------------------------------

SETTINGS = ((64, 0.01, 2), (48, 0.1, 4), (32, 0.05, 1), (96, 0.003, 3), (7, 0.4, 7), (1024, 1.5, 8))
"""Batch size, learning rate, ranks."""
ASKED = "Two numbers are asked for, a batch size and a learning rate"
MISTAKES: tuple[tuple[str, Callable[[float, int], float]], ...] = (
    ("The learning rate is multiplied by the number of ranks", lambda lr, ranks: lr * ranks),
    ("The learning rate is divided by the number of ranks", lambda lr, ranks: lr / ranks),
    (
        "The learning rate is multiplied by the square root of the number of ranks",
        lambda lr, ranks: lr * math.sqrt(ranks),
    ),
    ("The learning rate is divided by the square root of the number of ranks", lambda lr, ranks: lr / math.sqrt(ranks)),
    ("The learning rate is doubled", lambda lr, ranks: 2 * lr),
    ("The learning rate is halved", lambda lr, ranks: lr / 2),
)
"""What gives these learning rates."""


@exercise(
    "03-same",
    todo="Return two numbers: the batch size of each rank's DataLoader, and the learning rate.",
    hints=(
        "Of how many images is one update made, when every rank takes a batch of its own?",
        "DDP makes the mean of the ranks' gradients. How long is a mean of gradients, compared to one of them?",
        "batch_size // ranks images for each. And when all gradients are the same, their mean is that gradient: would "
        "the learning rate have to change?",
    ),
)
def same(answer: Any) -> str:
    """Settings with which ranks that average their gradients make the updates of one device."""
    given = []
    for batch, lr, ranks in SETTINGS:
        case = f"One device with batch {batch} and learning rate {lr}, {ranks} rank{'s' if ranks > 1 else ''}"
        given.append((case, *_two(call(answer, batch, lr, ranks), case)))
    for (batch, _, ranks), (case, local, _) in zip(SETTINGS, given, strict=True):
        if local * ranks != batch:
            made = f"every update is made of {local * ranks:,} images and not of {batch:,}"
            raise Wrong(f"{case}: with {local:,} image{'s' if local > 1 else ''} for each, {made}.")
    for (batch, lr, ranks), (case, local, rate) in zip(SETTINGS, given, strict=True):
        apart_by, longer = _updates(batch, lr, ranks, local, rate)
        if apart_by > TOLERANCE * max(1.0, lr):
            why = _why_longer([rate for _, _, rate in given])
            raise Wrong(f"{case}: your updates are {longer:.3g} times as long as those of one device.{why}")
    return "The updates are those of one device: each rank has its part of the batch, and the learning rate stays."


def _two(got: Any, case: str) -> tuple[int, float]:
    """The batch size and the learning rate of an answer, in whatever they stand."""
    whole = hasattr(got, "dtype")  # a tensor or an array has one type for both
    if isinstance(got, Mapping):
        got = _named(got)
    if got is None or isinstance(got, str | bytes | set | frozenset):
        raise Wrong(f"{ASKED}; yours is {shown(got)}.")
    try:
        items = list(got)
    except TypeError:
        raise Wrong(f"{ASKED}; yours is {shown(got)}.") from None
    if any(item is ... for item in items):
        raise NotWrittenError
    if len(items) != 2:
        raise Wrong(f"{ASKED}; yours are {len(items)}: {shown(got)}.")
    local, rate = (reading.number(item, f"{case}: one number for each setting") for item in items)
    if isinstance(items[0], bool) or local != int(local) or (isinstance(items[0], float) and not whole) or local < 1:
        turned = " The two stand the other way round." if rate == int(rate) > 1 > local else ""
        raise Wrong(
            f"{case}: your batch size is {shown(items[0])}, and a DataLoader takes a whole number, an int of at least "
            f"1.{turned}"
        )
    return int(local), rate


def _named(got: Mapping[Any, Any]) -> list[Any]:
    """The two of a dictionary, by their names."""
    sizes = [value for key, value in got.items() if "batch" in str(key).lower() or "size" in str(key).lower()]
    rates = [value for key, value in got.items() if "lr" in str(key).lower() or "rate" in str(key).lower()]
    if len(got) != 2 or len(sizes) != 1 or len(rates) != 1:
        raise Wrong(f"{ASKED}; which is which in {shown(dict(got))} does not show.")
    return [*sizes, *rates]


def _why_longer(rates: Sequence[float]) -> str:
    if len(set(rates)) == 1:
        return f" The learning rate is {rates[0]:g} in every case that was tried."
    for why, wrong in MISTAKES:
        if all(math.isclose(rate, wrong(lr, ranks)) for rate, (_, lr, ranks) in zip(rates, SETTINGS, strict=True)):
            return f" {why}."
    return ""


def _updates(batch: int, lr: float, ranks: int, local: int, rate: float) -> tuple[float, float]:
    """Largest difference between one device's update and the ranks', and how many times as long theirs is."""
    made = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(batch, 5, generator=made).double(), torch.randint(3, (batch,), generator=made)
    weight = torch.randn(3, 5, generator=made).double().requires_grad_()

    def gradient(part: slice) -> torch.Tensor:
        loss = nn.functional.cross_entropy(inputs[part] @ weight.T, targets[part])
        return torch.autograd.grad(loss, [weight])[0]

    alone = lr * gradient(slice(None))
    parts = [gradient(slice(rank * local, (rank + 1) * local)) for rank in range(ranks)]
    together = rate * torch.stack(parts).mean(0)
    return float((alone - together).abs().max()), float((together * alone).sum() / alone.square().sum())
