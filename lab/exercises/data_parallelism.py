"""Checks of notebook 02: data parallelism."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lab.exercises import reading, shares
from lab.exercises.grading import AnswerRaisedError, Wrong, call, exercise

RANKS = ("one rank", "2 ranks", "3 ranks", "4 ranks", "5 ranks")
ORDINALS = ("first", "second", "third", "fourth", "fifth")

# -- 02-update -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    """One update: a parameter, each rank's gradient of it, and the learning rate."""

    theta: Tensor
    gradients: list[Tensor]
    eta: float

    @property
    def ranks(self) -> int:
        return len(self.gradients)

    @property
    def name(self) -> str:
        return f"With {RANKS[self.ranks - 1]} and eta = {self.eta:g}"

    @property
    def mean(self) -> Tensor:
        return torch.stack(self.gradients).double().mean(0)


@exercise(
    "02-update",
    todo="Return the parameter after one step of data parallelism, and leave theta and the gradients as they are.",
    hints=(
        "The whole batch's loss is the mean over its images, and each rank has equally many. What is its gradient?",
        "It is the mean of the ranks' gradients, and a step goes against it, by eta times its length.",
        "sum(gradients) / len(gradients) is the mean, whatever the number of ranks. What is left is theta - eta * ...",
    ),
)
def update(answer: Any) -> str:
    """theta - eta * mean of the gradients."""
    known: list[tuple[_Step, Tensor]] = []
    wrong: tuple[_Step, Tensor] | None = None
    for step in _steps():
        try:
            got = _updated(answer, step)
        except (AnswerRaisedError, Wrong):
            if wrong is None:
                raise
            break  # what went wrong before is told
        known.append((step, got))
        if wrong is None and not shares.close(got, step.theta.double() - step.eta * step.mean):
            wrong = step, got
    if wrong is not None:
        raise Wrong(f"{wrong[0].name}, {_why_not(*wrong, known)}.")
    return "It holds for 1 to 5 ranks and every learning rate, and theta was left as it was."


def _steps() -> Iterator[_Step]:
    made = torch.Generator().manual_seed(2)
    for ranks, eta, shape, dtype in (
        (2, 0.1, (2, 3), torch.float64),
        (3, 0.03, (4, 2), torch.float32),
        (5, 0.5, (2, 3, 2), torch.float64),
        (4, 2.0, (6,), torch.float32),
        (1, 0.1, (3, 1), torch.float32),
    ):
        theta, *gradients = (torch.randn(shape, generator=made, dtype=dtype) for _ in range(ranks + 1))
        yield _Step(theta, gradients, eta)


def _updated(answer: Any, step: _Step) -> Tensor:
    theta, gradients = step.theta.clone(), [each.clone() for each in step.gradients]
    got = call(answer, theta, gradients, step.eta)
    found = reading.tensor(got)
    if not torch.equal(theta.detach(), step.theta):
        raise Wrong(f"{step.name}, theta itself is another tensor afterwards: your function writes into it.")
    _unchanged(gradients, step.gradients, step.name)
    _of_the_shape(found, step.theta)
    return found


def _why_not(step: _Step, got: Tensor, known: Sequence[tuple[_Step, Tensor]]) -> str:
    """What is wrong with it, to follow "With 2 ranks and eta = 0.1, "."""
    theta = step.theta.double()
    for value, why in (
        (theta, "what you return is theta as it was"),
        (step.mean, "what you return is the mean of the gradients, and not the parameter"),
        (-step.eta * step.mean, "what you return is the step alone, and not the parameter after it"),
        (step.eta * step.mean, "what you return is the step alone, and not the parameter after it"),
        (
            theta - step.eta * step.mean.mean(),
            "every number of theta moves by the same: the mean went over all numbers",
        ),
    ):
        if shares.close(got, value):
            return why
    weights = shares.weights(got - theta, step.gradients)
    if weights is None:
        apart = float((got - (theta - step.eta * step.mean)).abs().max())
        return f"what you return is {apart:.2g} away from the parameter that one device with the whole batch would have"
    return _of_weights(
        step, weights, [shares.weights(other - each.theta, each.gradients) for each, other in known], known
    )


def _of_weights(
    step: _Step,
    weights: list[float],
    others: Sequence[list[float] | None],
    known: Sequence[tuple[_Step, Tensor]],
) -> str:
    """The mistake of an answer that adds up gradients with other weights than -eta / ranks."""
    used = [rank for rank, weight in enumerate(weights) if abs(weight) > shares.TOLERANCE]
    if not shares.same(weights, [weights[0]] * step.ranks):
        if len(used) == 1:
            return f"only the {ORDINALS[used[0]]} rank's gradient is used, of {step.ranks}"
        return f"the ranks' gradients do not count the same: theta moves by {shares.written(weights)} times theirs"
    all_same = [each[0] for each in others if each is not None and shares.same(each, [each[0]] * len(each))]
    steps = [each for each, _ in known]
    if len(all_same) == len(steps) > 1:
        factors = [-weight * each.ranks / each.eta for weight, each in zip(all_same, steps, strict=True)]
        for why, wrong in MISTAKES:
            if shares.same(factors, [wrong(each) for each in steps]):
                return why.format(ranks=step.ranks)
        for fixed, why in (
            ([-weight * each.ranks for weight, each in zip(all_same, steps, strict=True)], _RATE),
            ([each.eta / -weight for weight, each in zip(all_same, steps, strict=True)], _DIVISOR),
        ):
            if shares.same(fixed, [fixed[0]] * len(fixed)):
                return why.format(fixed[0])
    longer = -weights[0] * step.ranks / step.eta
    return f"your step is {longer:.3g} times as long as that of one device with the whole batch"


_RATE = "your step is {:.3g} times the mean of the gradients, as with every eta that was tried: eta is not used"
_DIVISOR = "the sum of the gradients is divided by {:.3g}, as with every number of ranks that was tried"
MISTAKES: tuple[tuple[str, Callable[[_Step], float]], ...] = (
    (
        "your step is {ranks} times too long: it uses the sum of the gradients",
        lambda step: step.ranks,
    ),
    ("your step goes uphill: the gradients are added", lambda step: -1),
    ("your step goes uphill, and uses the sum of the gradients", lambda step: -step.ranks),
    ("the gradients are divided by the number of ranks twice", lambda step: 1 / step.ranks),
    ("the learning rate eta is missing", lambda step: 1 / step.eta),
    ("the learning rate eta is missing, and the sum of the gradients is used", lambda step: step.ranks / step.eta),
    ("the step is divided by eta, and not multiplied", lambda step: 1 / step.eta**2),
    ("the step is multiplied by eta twice", lambda step: step.eta),
)
"""What an answer does whose steps are as many times as long as they should be -> how many."""

# -- 02-unequal ------------------------------------------------------------------------------------------------------


@exercise(
    "02-unequal",
    todo="Return the gradient of the whole batch, from the shares' gradients and their sizes.",
    hints=(
        "In the whole batch every image counts the same. What does one image of a share of 24 count in your answer, "
        "and what one of a share of 40?",
        "A share's gradient is a mean over its images. What is their sum?",
        "Add up size * gradient of all shares: the sum over all images. Then make it a mean over all images.",
    ),
)
def unequal(answer: Any) -> str:
    """The mean of the shares' gradients, weighted by their sizes, held against the gradient of the whole batch."""
    made = torch.Generator().manual_seed(0)
    known: list[tuple[list[int], list[float] | None]] = []
    wrong: tuple[list[int], float, list[float] | None] | None = None
    for sizes in ([32, 32], [40, 24], [24, 40], [1, 60, 3], [5, 2], [10, 40, 20, 30], [6]):
        dtype = torch.float32 if sum(sizes) == 100 else torch.float64
        net = nn.Linear(6, 3).to(dtype)
        inputs = torch.randn(sum(sizes), 6, generator=made, dtype=torch.float64).to(dtype)
        targets = torch.randint(3, (sum(sizes),), generator=made)
        parts = zip(inputs.split(sizes), targets.split(sizes), strict=True)
        gradients = [_gradient(net, x, y) for x, y in parts]
        whole = _gradient(net, inputs, targets)
        try:
            got = _combined(answer, gradients, sizes)
        except (AnswerRaisedError, Wrong):
            if wrong is None:
                raise
            break  # what went wrong before is told
        weights = shares.weights(got, gradients)
        known.append((sizes, weights))
        if not shares.close(got, whole) and wrong is None:
            wrong = sizes, float((got - whole).abs().max()), weights
    if wrong is not None:
        raise Wrong(_unequal_because(*wrong, known))
    return "For every split it is the gradient of the whole batch: each image counts the same, whoever has it."


def _combined(answer: Any, gradients: list[Tensor], sizes: list[int]) -> Tensor:
    given, counts = [each.clone() for each in gradients], list(sizes)
    found = reading.tensor(call(answer, given, counts))
    where = f"For shares of {sizes}"
    _unchanged(given, gradients, where)
    if counts != sizes:
        raise Wrong(f"{where}, the sizes that your function was given are {counts} afterwards: it changes them.")
    _of_the_shape(found, gradients[0])
    return found


def _unequal_because(
    sizes: list[int],
    apart: float,
    weights: list[float] | None,
    known: Sequence[tuple[list[int], list[float] | None]],
) -> str:
    where = f"For shares of {sizes}"
    if weights is None:
        return f"{where}, it is {apart:.2g} away from the gradient of the whole batch."
    for why, wrong in UNEQUAL:
        if all(found is not None and shares.same(found, wrong(each)) for each, found in known):
            return f"{where}, {why.format(images=sum(sizes))}."
    divisors = [
        size / weight for each, found in known for size, weight in zip(each, found or (), strict=False) if weight
    ]
    if divisors and shares.same(divisors, [divisors[0]] * len(divisors)):
        return f"{where}, the sum over all images is divided by {divisors[0]:.3g}, as with every batch that was tried."
    counts = shares.written([weight / size for weight, size in zip(weights, sizes, strict=True)])
    return (
        f"{where}, their gradients count {shares.written(weights)}, so that one image counts {counts}, by the share it "
        f"is in; in the whole batch each of the {sum(sizes)} counts {1 / sum(sizes):.3g}."
    )


def _only(place: int) -> Callable[[list[int]], list[float]]:
    return lambda sizes: [float(rank == place % len(sizes)) for rank in range(len(sizes))]


UNEQUAL: tuple[tuple[str, Callable[[list[int]], list[float]]], ...] = (
    (
        "the plain mean of the gradients is not the gradient of the whole batch: an image in a small share counts for "
        "more than one in a large share",
        lambda sizes: [1 / len(sizes)] * len(sizes),
    ),
    ("the gradients are added up: the sizes are not used", lambda sizes: [1.0] * len(sizes)),
    ("it is {images} times too large: it is the sum over all images", lambda sizes: [float(size) for size in sizes]),
    (
        "each gradient is multiplied by its share of the images, and then divided by the number of shares besides",
        lambda sizes: [size / sum(sizes) / len(sizes) for size in sizes],
    ),
    (
        "what is added up is divided by the number of shares, and not by that of the images",
        lambda sizes: [size / len(sizes) for size in sizes],
    ),
    (
        "what is added up is divided by the largest share, and not by all images",
        lambda sizes: [size / max(sizes) for size in sizes],
    ),
    (
        "the sizes stand in the other order than the gradients",
        lambda sizes: [size / sum(sizes) for size in reversed(sizes)],
    ),
    (
        "a share counts the less, the more images it has: gradients are divided by their sizes",
        lambda sizes: [1 / size / sum(1 / each for each in sizes) for size in sizes],
    ),
    ("a gradient that is a mean already is divided by its size once more", lambda sizes: [1 / size for size in sizes]),
    (
        "a gradient that is a mean already is divided by its size once more, and the mean of them taken",
        lambda sizes: [1 / size / len(sizes) for size in sizes],
    ),
    (
        "gradients that are means already are added up and divided by the number of images",
        lambda sizes: [1 / sum(sizes)] * len(sizes),
    ),
    ("only the first share's gradient is used", _only(0)),
    ("only the last share's gradient is used", _only(-1)),
    (
        "only the gradient of the largest share is used",
        lambda sizes: [float(rank == sizes.index(max(sizes))) for rank in range(len(sizes))],
    ),
    ("it is 0: every share of the images is rounded down", lambda sizes: [float(len(sizes) == 1)] * len(sizes)),
)
"""What an answer does that multiplies the shares' gradients by these, for every split."""

# -- both ------------------------------------------------------------------------------------------------------------


def _gradient(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Of the mean loss, for the weights."""
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(net(inputs), targets), list(net.parameters())[:1])
    return gradient


def _unchanged(now: Sequence[Tensor], before: Sequence[Tensor], where: str) -> None:
    if len(now) != len(before):
        raise Wrong(f"{where}, the list of gradients has {len(now)} afterwards, and had {len(before)}: it is changed.")
    for name, each, was in zip(ORDINALS, now, before, strict=False):
        if not isinstance(each, Tensor) or not torch.equal(each.detach(), was):
            raise Wrong(
                f"{where}, the {name} gradient is another one afterwards: your function writes into what it is given."
            )


def _of_the_shape(got: Tensor, expected: Tensor) -> None:
    if got.shape != expected.shape:
        raise Wrong(f"It should have the parameter's shape {tuple(expected.shape)}; yours is {tuple(got.shape)}.")
