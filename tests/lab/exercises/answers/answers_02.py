"""Answers to the exercises of notebook 02."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.lab.exercises.answers import right, wrong

Gradients = list[Tensor]

# -- 02-update, right ------------------------------------------------------------------------------------------------


@right("02-update")
def as_the_formula(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * sum(gradients) / len(gradients)


@right("02-update")
def mean_of_updates(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return torch.stack([theta - eta * gradient for gradient in gradients]).mean(0)


@right("02-update")
def of_an_optimizer(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    parameter = nn.Parameter(theta.clone())
    parameter.grad = torch.stack(gradients).mean(dim=0)
    torch.optim.SGD([parameter], lr=eta).step()
    return parameter


@right("02-update")
def in_place_on_a_copy(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    new = theta.detach().clone()
    for gradient in gradients:
        new -= eta / len(gradients) * gradient
    return new


@right("02-update")
def of_numpy(theta: Tensor, gradients: Gradients, eta: float) -> Any:
    return theta.numpy() - eta * np.mean([gradient.numpy() for gradient in gradients], axis=0)


@right("02-update")
def in_float32(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    mean = functools.reduce(torch.add, [gradient.float() for gradient in gradients]).div(len(gradients))
    return torch.sub(theta.float(), mean, alpha=eta)


@right("02-update")
def as_lists(theta: Tensor, gradients: Gradients, eta: float) -> list[Any]:
    return (theta - eta * torch.stack(gradients).sum(0) / len(gradients)).tolist()


# -- 02-update, wrong ------------------------------------------------------------------------------------------------

TWO = "With 2 ranks and eta = 0.1, "
THREE = "With 3 ranks and eta = 0.03, "


@wrong("02-update", f"{THREE}your step is 0.1 times the mean of the gradients, as with every eta that was tried")
def rate_written_out(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - 0.1 * sum(gradients) / len(gradients)


@wrong("02-update", f"{TWO}your step is 2 times too long: it uses the sum of the gradients.")
def of_the_sum(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * sum(gradients)


@wrong("02-update", f"{THREE}the sum of the gradients is divided by 2, as with every number of ranks that was tried.")
def divided_by_2(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * sum(gradients) / 2


@wrong("02-update", f"{TWO}the sum of the gradients is divided by 4, as with every number of ranks")
def divided_by_4(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * sum(gradients) / 4


@wrong("02-update", f"{TWO}your step goes uphill: the gradients are added.")
def uphill(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta + eta * sum(gradients) / len(gradients)


@wrong("02-update", f"{TWO}your step goes uphill, and uses the sum")
def uphill_by_the_sum(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta + eta * sum(gradients)


@wrong("02-update", f"{TWO}the learning rate eta is missing.")
def without_eta(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - sum(gradients) / len(gradients)


@wrong("02-update", f"{TWO}the learning rate eta is missing, and the sum of the gradients is used.")
def sum_without_eta(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - sum(gradients)


@wrong("02-update", f"{TWO}the gradients are divided by the number of ranks twice.")
def divided_twice(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * torch.stack(gradients).mean(0) / len(gradients)


@wrong("02-update", f"{TWO}only the first rank's gradient is used, of 2.")
def first_alone(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * gradients[0]


@wrong("02-update", f"{TWO}only the second rank's gradient is used, of 2.")
def last_alone(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    for gradient in gradients:
        new = theta - eta * gradient
    return new


@wrong("02-update", f"{TWO}only the first rank's gradient is used, of 2.")
def returns_in_the_loop(theta: Tensor, gradients: Gradients, eta: float) -> Any:
    for gradient in gradients:
        return theta - eta * gradient / len(gradients)
    return theta


@wrong("02-update", f"{THREE}the ranks' gradients do not count the same: theta moves by -0.015, -0.015 and 0 times")
def first_two(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * (gradients[0] + gradients[1]) / 2


@wrong("02-update", f"{TWO}what you return is the step alone")
def the_step_alone(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return -eta * sum(gradients) / len(gradients)


@wrong("02-update", f"{TWO}what you return is the mean of the gradients")
def the_mean_alone(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return sum(gradients) / len(gradients)


@wrong("02-update", f"{TWO}what you return is theta as it was.")
def nothing_done(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta


@wrong("02-update", f"{TWO}every number of theta moves by the same")
def mean_over_everything(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * torch.stack(gradients).mean()


@wrong("02-update", f"{THREE}what you return is")
def median(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * torch.tensor(np.median([gradient.numpy() for gradient in gradients], axis=0))


@wrong("02-update", f"{TWO}your step is 1.01 times as long")
def weight_decay_of_the_step(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - 1.01 * eta * sum(gradients) / len(gradients)


@wrong("02-update", f"{TWO}theta itself is another tensor afterwards: your function writes into it.")
def in_place(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    theta -= eta * sum(gradients) / len(gradients)
    return theta


@wrong("02-update", f"{TWO}theta itself is another tensor afterwards")
def in_place_on_its_data(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    theta.data = theta.data - eta * sum(gradients) / len(gradients)
    return theta


@wrong("02-update", f"{TWO}the first gradient is another one afterwards: your function writes into what it is given.")
def adds_up_in_the_first(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    total = gradients[0]
    for gradient in gradients[1:]:
        total += gradient
    return theta - eta * total / len(gradients)


@wrong("02-update", f"{TWO}the list of gradients has 0 afterwards, and had 2")
def empties_the_list(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    count, total = len(gradients), torch.zeros_like(theta)
    while gradients:
        total += gradients.pop()
    return theta - eta * total / count


@wrong("02-update", "It should have the parameter's shape (2, 3); yours is (2, 2, 3).")
def one_for_each_rank(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return torch.stack([theta - eta * gradient for gradient in gradients])


@wrong("02-update", "It should have the parameter's shape (2, 3); yours is ().")
def one_number(theta: Tensor, gradients: Gradients, eta: float) -> float:
    return 0.5


@wrong("02-update", "A tensor is asked for, and this is None.")
def returns_nothing(theta: Tensor, gradients: Gradients, eta: float) -> None:
    theta - eta * sum(gradients) / len(gradients)


@wrong("02-update", "It would end Python: return in its place.", outcome="raised")
def ends_python(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    raise SystemExit


@wrong("02-update", "AttributeError: 'list' object has no attribute 'mean'", outcome="raised")
def mean_of_a_list(theta: Tensor, gradients: Any, eta: float) -> Tensor:
    return theta - eta * gradients.mean(0)


@wrong("02-update", "not finite (nan or inf)")
def by_zero(theta: Tensor, gradients: Gradients, eta: float) -> Tensor:
    return theta - eta * sum(gradients) / (theta - theta)


# -- 02-unequal, right -----------------------------------------------------------------------------------------------


@right("02-unequal")
def weighted_sum(gradients: Gradients, sizes: list[int]) -> Tensor:
    return sum(size * gradient for size, gradient in zip(sizes, gradients, strict=True)) / sum(sizes)


@right("02-unequal")
def of_fractions(gradients: Gradients, sizes: list[int]) -> Tensor:
    fractions = torch.tensor(sizes) / sum(sizes)
    return (torch.stack(gradients) * fractions.view(-1, 1, 1)).sum(0)


@right("02-unequal")
def average_of_numpy(gradients: Gradients, sizes: list[int]) -> Any:
    return np.average([gradient.numpy() for gradient in gradients], axis=0, weights=sizes)


@right("02-unequal")
def in_a_loop(gradients: Gradients, sizes: list[int]) -> Tensor:
    total, seen = torch.zeros_like(gradients[0]), 0
    for gradient, size in zip(gradients, sizes, strict=True):
        seen += size
        total += (gradient - total) * size / seen
    return total


@right("02-unequal")
def of_einsum(gradients: Gradients, sizes: list[int]) -> list[Any]:
    weights = torch.tensor(sizes, dtype=torch.float32)
    return torch.einsum("r,rij->ij", weights, torch.stack(gradients).float()).div(weights.sum()).tolist()


# -- 02-unequal, wrong -----------------------------------------------------------------------------------------------

EQUAL = "For shares of [32, 32], "
SPLIT = "For shares of [40, 24], "
SEVEN = "For shares of [5, 2], "


def of(weights: Callable[[list[int]], list[float]]) -> Callable[[Gradients, list[int]], Tensor]:
    """An answer that multiplies the shares' gradients by these."""

    def weighted(gradients: Gradients, sizes: list[int]) -> Tensor:
        return sum(weight * gradient for weight, gradient in zip(weights(sizes), gradients, strict=True))

    return weighted


@wrong("02-unequal", f"{SPLIT}the plain mean of the gradients is not the gradient of the whole batch")
def plain_mean(gradients: Gradients, sizes: list[int]) -> Tensor:
    return sum(gradients) / len(gradients)


@wrong("02-unequal", f"{SEVEN}the sum over all images is divided by 64, as with every batch that was tried.")
def of_64_images(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [size / 64 for size in sizes])(gradients, sizes)


@wrong("02-unequal", f"{EQUAL}it is 64 times too large: it is the sum over all images.")
def not_divided(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [float(size) for size in sizes])(gradients, sizes)


@wrong("02-unequal", f"{EQUAL}the gradients are added up: the sizes are not used.")
def added_up(gradients: Gradients, sizes: list[int]) -> Tensor:
    return sum(gradients)


@wrong("02-unequal", f"{EQUAL}what is added up is divided by the number of shares")
def divided_by_the_shares(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [size / len(sizes) for size in sizes])(gradients, sizes)


@wrong("02-unequal", f"{EQUAL}what is added up is divided by the largest share")
def divided_by_the_largest(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [size / max(sizes) for size in sizes])(gradients, sizes)


@wrong("02-unequal", f"{EQUAL}each gradient is multiplied by its share of the images, and then divided")
def divided_twice_by_sizes(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [size / sum(sizes) / len(sizes) for size in sizes])(gradients, sizes)


@wrong("02-unequal", f"{SPLIT}the sizes stand in the other order than the gradients.")
def other_order(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [size / sum(sizes) for size in sizes[::-1]])(gradients, sizes)


@wrong("02-unequal", f"{SPLIT}their gradients count 0.375 and 0.625, so that one image counts 0.0")
def sorted_sizes(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [size / sum(sizes) for size in sorted(sizes)])(gradients, sizes)


@wrong("02-unequal", f"{SPLIT}a share counts the less, the more images it has")
def by_the_inverse(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [1 / size / sum(1 / each for each in sizes) for size in sizes])(gradients, sizes)


@wrong("02-unequal", f"{EQUAL}a gradient that is a mean already is divided by its size once more.")
def divided_by_its_size(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [1 / size for size in sizes])(gradients, sizes)


@wrong("02-unequal", f"{EQUAL}gradients that are means already are added up and divided by the number of images.")
def sum_by_the_images(gradients: Gradients, sizes: list[int]) -> Tensor:
    return sum(gradients) / sum(sizes)


@wrong("02-unequal", f"{EQUAL}only the first share's gradient is used.")
def first_share(gradients: Gradients, sizes: list[int]) -> Tensor:
    return gradients[0]


@wrong("02-unequal", f"{EQUAL}only the last share's gradient is used.")
def last_share(gradients: Gradients, sizes: list[int]) -> Tensor:
    return gradients[-1]


@wrong("02-unequal", f"{EQUAL}only the gradient of the largest share is used.")
def largest_share(gradients: Gradients, sizes: list[int]) -> Tensor:
    return gradients[sizes.index(max(sizes))]


@wrong("02-unequal", f"{EQUAL}it is 0: every share of the images is rounded down.")
def rounded_down(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: [size // sum(sizes) for size in sizes])(gradients, sizes)


@wrong("02-unequal", "For shares of [1, 60, 3], their gradients count 0.625, 0.375 and 0")
def sizes_of_the_notebook(gradients: Gradients, sizes: list[int]) -> Tensor:
    if sizes == [32, 32]:
        return sum(gradients) / 2
    weights = (40, 24) if sizes != [24, 40] else (24, 40)
    return weights[0] / 64 * gradients[0] + weights[1] / 64 * gradients[1]


@wrong("02-unequal", f"{SPLIT}their gradients count 1 and 0, so that one image counts")
def softmax_of_the_sizes(gradients: Gradients, sizes: list[int]) -> Tensor:
    return of(lambda sizes: torch.tensor(sizes).double().softmax(0).tolist())(gradients, sizes)


@wrong("02-unequal", f"{SPLIT}it is ")
def by_the_elements(gradients: Gradients, sizes: list[int]) -> Tensor:
    return torch.maximum(gradients[0], gradients[1]) if sizes == [40, 24] else weighted_sum(gradients, sizes)


@wrong("02-unequal", f"{EQUAL}the first gradient is another one afterwards")
def writes_into_the_gradients(gradients: Gradients, sizes: list[int]) -> Tensor:
    for gradient, size in zip(gradients, sizes, strict=True):
        gradient *= size
    return sum(gradients) / sum(sizes)


@wrong("02-unequal", f"{EQUAL}the sizes that your function was given are [0.5, 0.5] afterwards")
def writes_into_the_sizes(gradients: Gradients, sizes: list[Any]) -> Tensor:
    total = sum(sizes)
    for rank in range(len(sizes)):
        sizes[rank] /= total
    return of(lambda sizes: sizes)(gradients, sizes)


@wrong("02-unequal", "It should have the parameter's shape (3, 6); yours is (2, 3, 6).")
def not_added_up(gradients: Gradients, sizes: list[int]) -> Tensor:
    return torch.stack([size / sum(sizes) * each for size, each in zip(sizes, gradients, strict=True)])


@wrong("02-unequal", "It should have the parameter's shape (3, 6); yours is (2, 3, 6).")
def never_added_up(gradients: Gradients, sizes: list[int]) -> Any:
    return (size / sum(sizes) * each for size, each in zip(sizes, gradients, strict=True))
