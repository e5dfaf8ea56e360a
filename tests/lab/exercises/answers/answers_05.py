"""Answers to the exercise of notebook 05."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.lab.exercises.answers import right, wrong

Net = Any
Loss = Any


def cut(x: Tensor, y: Tensor, parts: int) -> Any:
    return zip(x.tensor_split(parts), y.tensor_split(parts), strict=True)


@right("05-accumulate")
def weighed(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    net.zero_grad()
    for part, target in cut(x, y, parts):
        (loss_function(net(part), target) * (len(part) / len(x))).backward()


@right("05-accumulate")
def rounded_up(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    size = -(-len(x) // parts)
    for start in range(0, len(x), size):
        part = x[start : start + size]
        loss = loss_function(net(part), y[start : start + size])
        loss.backward(gradient=torch.tensor(len(part) / len(x)))


@right("05-accumulate")
def divided_at_the_end(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    losses = []
    for part, target in zip(x.chunk(parts), y.chunk(parts), strict=True):
        losses.append(loss_function(net(part), target) * len(part))
        losses[-1].backward()
    for parameter in net.parameters():
        parameter.grad /= len(x)


@right("05-accumulate")
def by_autograd_grad(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    parameters = list(net.parameters())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for part, target in cut(x, y, parts):
        gradients = torch.autograd.grad(loss_function(net(part), target), parameters)
        sums = [total + each * len(part) / len(x) for total, each in zip(sums, gradients, strict=True)]
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = total


@right("05-accumulate")
def every_nth(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> Tensor:
    total = torch.zeros(())
    for first in range(parts):
        loss = loss_function(net(x[first::parts]), y[first::parts]) * len(x[first::parts]) / len(x)
        loss.backward()
        total += loss.detach()
    return total


@right("05-accumulate")
def with_a_look_at_the_whole(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> float:
    for part, target in cut(x, y, parts):
        (loss_function(net(part), target) * len(part) / len(x)).backward()
    with torch.no_grad():
        return float(loss_function(net(x), y))


@wrong("05-accumulate", "4 times that of the whole batch")
def summed(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    for part, target in cut(x, y, parts):
        loss_function(net(part), target).backward()


@wrong("05-accumulate", "parts of [3, 3, 2, 2], your gradient is not that of all 10 samples: each part counts the same")
def averaged(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    for part, target in cut(x, y, parts):
        (loss_function(net(part), target) / parts).backward()


@wrong("05-accumulate", "your gradient is 12 times that of the whole batch")
def never_divided(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    for part, target in cut(x, y, parts):
        (loss_function(net(part), target) * len(part)).backward()


@wrong("05-accumulate", "your gradient is 0.25 times that of the whole batch")
def divided_twice(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    for part, target in cut(x, y, parts):
        (loss_function(net(part), target) * len(part) / len(x) / parts).backward()


@wrong("05-accumulate", "only the last part's gradient is left")
def zeroed_in_the_loop(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    for part, target in cut(x, y, parts):
        net.zero_grad()
        (loss_function(net(part), target) * len(part) / len(x)).backward()


@wrong("05-accumulate", "only the last part's gradient is left")
def overwritten(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    parameters = list(net.parameters())
    for part, target in cut(x, y, parts):
        for parameter, each in zip(
            parameters, torch.autograd.grad(loss_function(net(part), target), parameters), strict=True
        ):
            parameter.grad = each


@wrong("05-accumulate", "there is no gradient in .grad afterwards.")
def zeroed_at_the_end(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    weighed(net, loss_function, x, y, parts)
    net.zero_grad()


@wrong("05-accumulate", "all gradients are 0 afterwards")
def filled_with_zeros(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    weighed(net, loss_function, x, y, parts)
    net.zero_grad(set_to_none=False)


@wrong("05-accumulate", "the activations of 12 samples were kept at a time, and the largest part has 3")
def one_backward_at_the_end(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    sum(loss_function(net(part), target) * len(part) / len(x) for part, target in cut(x, y, parts)).backward()


@wrong("05-accumulate", "samples were kept at a time, and the largest part has 3")
def all_forwards_first(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    losses = [loss_function(net(part), target) * len(part) / len(x) for part, target in cut(x, y, parts)]
    for loss in losses:
        loss.backward()


@wrong("05-accumulate", "samples were kept at a time, and the largest part has 3")
def one_forward(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    output = net(x)
    for part, target in cut(output, y, parts):
        (loss_function(part, target) * len(part) / len(x)).backward(retain_graph=True)


@wrong("05-accumulate", "the activations of 6 samples were kept at a time, and the largest part has 3")
def keeps_each_graph(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    for part, target in cut(x, y, parts):
        loss = loss_function(net(part), target) * len(part) / len(x)
        loss.backward(retain_graph=True)


@wrong("05-accumulate", "came in parts of [12], which saves no memory: 4 were asked for")
def at_once(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    loss_function(net(x), y).backward()


@wrong("05-accumulate", "came in parts of [12], which saves no memory: 4 were asked for")
def at_once_recomputed(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    loss_function(checkpoint(net, x, use_reentrant=False), y).backward()


@wrong("05-accumulate", "came in parts of [6, 6], which saves no memory: 4 were asked for")
def always_two(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    weighed(net, loss_function, x, y, 2)


@wrong("05-accumulate", "The 10 samples came in parts of [4, 4, 2]")
def parts_of_four(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    size = min(len(x) // parts + len(x) % parts, len(x))
    for part, target in zip(x.split(size), y.split(size), strict=True):
        (loss_function(net(part), target) * len(part) / len(x)).backward()


@wrong("05-accumulate", "The 12 samples came in 12 parts")
def sample_by_sample(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    for index in range(len(x)):
        (loss_function(net(x[index : index + 1]), y[index : index + 1]) / len(x)).backward()


@wrong("05-accumulate", "The 10 samples came in 5 parts, of [2, 2, 2, 2, 2], and 4 were asked for")
def rounded_down(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    size = len(x) // parts
    for part, target in zip(x.split(size), y.split(size), strict=True):
        (loss_function(net(part), target) * len(part) / len(x)).backward()


@wrong("05-accumulate", "of 10 samples in 4 parts, your losses saw 8".capitalize())
def leaves_the_rest_out(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    size = len(x) // parts
    for index in range(parts):
        mine = slice(index * size, (index + 1) * size)
        (loss_function(net(x[mine]), y[mine]) / parts).backward()


@wrong("05-accumulate", "it is up to")
def always_the_first_targets(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    for part in x.tensor_split(parts):
        (loss_function(net(part), y[: len(part)]) * len(part) / len(x)).backward()


@wrong("05-accumulate", "`loss_function`, which it is given, was never called")
def another_loss(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    weighed(net, F.mse_loss, x, y, parts)


@wrong("05-accumulate", "the net's parameters have changed")
def with_updates(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for part, target in cut(x, y, parts):
        optimizer.zero_grad()
        loss_function(net(part), target).backward()
        optimizer.step()


@wrong("05-accumulate", "there is no gradient in .grad afterwards. No loss with a gradient")
def nothing(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    pass


@wrong("05-accumulate", "there is no gradient in .grad afterwards.")
def on_a_copy(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    twin = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    weighed(twin, loss_function, x, y, parts)


@wrong("05-accumulate", "does not require grad", outcome="raised")
def without_gradients(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    with torch.no_grad():
        weighed(net, loss_function, x, y, parts)


@wrong("05-accumulate", "your losses saw 24")
def everything_twice(net: Net, loss_function: Loss, x: Tensor, y: Tensor, parts: int) -> None:
    for part, target in itertools.chain(cut(x, y, parts), cut(x, y, parts)):
        (loss_function(net(part), target) * len(part) / len(x) / 2).backward()
