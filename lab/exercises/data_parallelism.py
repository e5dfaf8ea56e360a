"""Checks of notebook 02: data parallelism."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lab.exercises.grading import Wrong, call, exercise

TOLERANCE = 1e-5


@exercise("02-update", todo="Return theta minus eta times the mean of the gradients, whatever their number.")
def update(answer: Any) -> str:
    """theta - eta * mean of the gradients."""
    for ranks in (2, 1, 5):
        made = torch.Generator().manual_seed(ranks)
        theta = torch.randn(2, 3, generator=made).double().requires_grad_()
        before = theta.detach().clone()
        gradients = [torch.randn(2, 3, generator=made).double() for _ in range(ranks)]
        with torch.no_grad():
            got = call(answer, theta, gradients, 0.1)
        total = torch.stack(gradients).sum(0)
        expected = before - 0.1 * total / ranks
        if not torch.equal(theta.detach(), before):
            raise Wrong("theta itself has changed: compute a new tensor instead of writing into it (no -=)")
        _same_shape(got, expected)
        for wrong, why in (
            (before - 0.1 * total, f"your step is {ranks} times too long: it uses the sum of the gradients"),
            (before + 0.1 * total / ranks, "your step goes uphill: the gradient is subtracted"),
            (before - total / ranks, "the learning rate eta is missing"),
            (before - 0.1 * total / 2, f"the sum is divided by 2, and there are {ranks} ranks: divide by their number"),
            (before - 0.1 * gradients[0], "only the first rank's gradient is used"),
        ):
            if not _close(wrong, expected) and _close(got, wrong):
                raise Wrong(f"with {ranks} ranks, {why}")
        if not _close(got, expected):
            raise Wrong(f"with {ranks} ranks, it is {_off(got, expected)} away from theta - eta * mean")
    return "It holds for 1, 2 and 5 ranks, and theta was left as it was."


@exercise("02-unequal", todo="Return the gradient of the whole batch, from the shares' gradients and their sizes.")
def unequal(answer: Any) -> str:
    """The mean of the shares' gradients, weighted by their sizes, held against the gradient of the whole batch."""
    made = torch.Generator().manual_seed(0)
    net = nn.Linear(6, 3).double()
    inputs, targets = torch.randn(64, 6, generator=made).double(), torch.randint(3, (64,), generator=made)
    for sizes in ([32, 32], [40, 24], [1, 60, 3]):
        shares = zip(inputs.split(sizes), targets.split(sizes), strict=True)
        gradients = [_gradient(net, x, y) for x, y in shares]
        whole = _gradient(net, inputs, targets)
        got = call(answer, gradients, sizes)
        _same_shape(got, whole)
        if _close(got, whole):
            continue
        if _close(got, torch.stack(gradients).mean(0)):
            raise Wrong(
                f"for shares of {sizes}, the plain mean is {_off(got, whole)} away from the whole batch's gradient: an "
                "image in a small share counts for more than one in a large share. Let every image count the same."
            )
        if _close(got, sum(size * gradient for size, gradient in zip(sizes, gradients, strict=True))):
            raise Wrong(f"for shares of {sizes}, it is {sum(sizes)} times too large: divide by the number of images")
        raise Wrong(f"for shares of {sizes}, it is {_off(got, whole)} away from the gradient of the whole batch")
    return "For every split it is the gradient of the whole batch: each image counts the same, whoever has it."


def _gradient(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Of the mean loss, for the weights."""
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(net(inputs), targets), list(net.parameters())[:1])
    return gradient


def _same_shape(got: Any, expected: Tensor) -> None:
    if not isinstance(got, Tensor):
        raise Wrong(f"it should return a tensor, and returned a {type(got).__name__}")
    if got.shape != expected.shape:
        raise Wrong(f"it should have the parameter's shape {tuple(expected.shape)}; yours is {tuple(got.shape)}")


def _close(a: Any, b: Any) -> bool:
    return bool(torch.allclose(a, b, atol=TOLERANCE, rtol=0))


def _off(got: Tensor, expected: Tensor) -> str:
    return f"{float((got - expected).detach().abs().max()):.2g}"
