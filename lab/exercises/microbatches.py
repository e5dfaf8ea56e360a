"""Checks of notebook 05: microbatches and the bubble."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.exercises.grading import Wrong, call, exercise
from lab.exercises.watching import Activations, kept_bytes

TOLERANCE = 1e-5
CASES = ((12, 4), (10, 4), (11, 3), (6, 6), (7, 1), (10, 5))
"""Samples, and parts that are asked for."""
SLACK = 1.05
"""Of the largest part's activations: how much may be kept, since losses keep a little that does not grow."""


@dataclass(frozen=True)
class _Task:
    """What the answer is given, and what it does with the loss function."""

    net: nn.Module
    mean_loss: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor
    parts: int
    sizes: list[int] = field(default_factory=list)
    """Samples of each loss that was asked for, where gradients can come of it."""

    def loss_function(self, output: Tensor, target: Tensor) -> Tensor:
        if output.requires_grad:
            self.sizes.append(len(output))
        return self.mean_loss(output, target)

    @property
    def most(self) -> int:
        """Samples of the largest part, where parts are as equal as they can be."""
        return -(-len(self.x) // self.parts)

    @property
    def case(self) -> str:
        return f"With {len(self.x)} samples in {self.parts} part{'s' * (self.parts > 1)}"


@exercise(
    "05-accumulate",
    todo="Write accumulate: afterwards .grad has the gradient of the whole batch's mean loss, with one part in memory "
    "at a time.",
    hints=(
        "When can the activations of a part be given back? What has to come before the next part's forward?",
        "Gradients add up in .grad by themselves: one backward for each part. What is the sum of four means, and of "
        "how many samples is each the mean?",
        "A part's loss counts for as many samples as it has: times len(part) / len(x). `tensor_split` cuts.",
    ),
)
def accumulate(answer: Any) -> str:
    """Gradients of a batch, one part at a time."""
    for number, (count, parts) in enumerate(CASES):
        task = _task(number, count, parts)
        reference = copy.deepcopy(task.net)
        task.mean_loss(reference(task.x), task.y).backward()
        before = nn.utils.parameters_to_vector(task.net.parameters()).detach().clone()
        watch = Activations()
        with watch.watched():
            call(answer, task.net, task.loss_function, task.x.clone(), task.y.clone(), parts)
        sizes = list(task.sizes)
        found = _gradient(task.net, task)
        _in_parts(task, sizes)
        largest = kept_bytes(lambda task=task: _backward(task, task.x[: task.most], task.y[: task.most]))  # type: ignore[misc]
        if watch.peak_bytes > SLACK * largest:
            raise Wrong(
                f"{task.case}, the activations of {watch.peak_bytes / largest * task.most:.0f} samples were kept at a "
                f"time, and the largest part has {task.most}: that saves no memory."
            )
        if not torch.equal(before, nn.utils.parameters_to_vector(task.net.parameters())):
            raise Wrong(f"{task.case}, the net's parameters have changed. Gradients are asked for, and no update.")
        _compare(found, _gradient(reference, task), task, sizes)
    return "The gradients are those of the whole batch, also where the parts are not of the same size."


def _task(number: int, count: int, parts: int) -> _Task:
    torch.manual_seed(5 + number)
    x = torch.randn(count, 6)
    if number % 2:
        net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        return _Task(net, F.cross_entropy, x, torch.randint(3, (count,)), parts)
    return _Task(
        nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), F.mse_loss, x, torch.randn(count, 3), parts
    )


def _gradient(net: nn.Module, task: _Task) -> Tensor:
    """Of all parameters, as a copy.

    Raises:
        Wrong: when there is none.
    """
    gradients = [parameter.grad for parameter in net.parameters()]
    if any(gradient is None for gradient in gradients):
        unused = "" if task.sizes else " No loss with a gradient was asked of `loss_function`."
        raise Wrong(f"{task.case}, there is no gradient in .grad afterwards.{unused}")
    found = torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]).detach().clone()
    if not found.isfinite().all():
        raise Wrong(f"{task.case}, there are gradients that are no numbers (nan or inf): of parts of {task.sizes}.")
    return found


def _backward(task: _Task, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the mean loss of some samples, on a copy of the net."""
    net = copy.deepcopy(task.net)
    net.zero_grad()
    task.mean_loss(net(x), y).backward()
    return _gradient(net, task)


def _in_parts(task: _Task, sizes: Sequence[int]) -> None:
    """Raises:
    Wrong: unless all samples came, in as many parts as were asked for.
    """
    count, asked = len(task.x), f"{task.parts} {'was' if task.parts == 1 else 'were'} asked for"
    if not sizes:
        raise Wrong(f"{task.case}, `loss_function`, which it is given, was never called: others have other losses.")
    if sum(sizes) != count:
        raise Wrong(f"Of {count} samples in {task.parts} parts, your losses saw {sum(sizes)}: {list(sizes)}.")
    if max(sizes) > task.most:
        raise Wrong(f"The {count} samples came in parts of {list(sizes)}, which saves no memory: {asked}.")
    if len(sizes) > task.parts:
        raise Wrong(f"The {count} samples came in {len(sizes)} parts, of {list(sizes)}, and {asked}.")


def _compare(found: Tensor, wanted: Tensor, task: _Task, sizes: Sequence[int]) -> None:
    """Raises:
    Wrong: unless the gradients are the same. It names the mistake where another computation gives what was found.
    """
    if torch.allclose(found, wanted, rtol=1e-4, atol=TOLERANCE):
        return
    count, where = len(task.x), f"With parts of {list(sizes)}"
    if not found.any():
        raise Wrong(f"{where}, all gradients are 0 afterwards: they were there, and something has cleared them.")
    of_parts = [
        _backward(task, x, y) for x, y in zip(task.x.split(list(sizes)), task.y.split(list(sizes)), strict=True)
    ]
    if len(sizes) > 1 and _ratio(found, of_parts[-1]) is not None:
        raise Wrong(f"{where}, only the last part's gradient is left at the end, and those of the others are lost.")
    ratio = _ratio(found, wanted)
    if ratio is not None:
        raise Wrong(f"{where}, your gradient is {ratio:.3g} times that of the whole batch.")
    if (times := _ratio(found, torch.stack(of_parts).mean(0))) is not None:
        raise Wrong(
            f"{where}, your gradient is not that of all {count} samples: each part counts the same, whatever its "
            f"size{'' if abs(times - 1) < 0.01 else f', and all of it is {times:.3g} times too large'}."
        )
    raise Wrong(
        f"{where}, your gradient is not that of all {count} samples: it is up to "
        f"{float((found - wanted).abs().max()):.2g} away."
    )


def _ratio(found: Tensor, other: Tensor) -> float | None:
    """How many times the other a gradient is; None when it is no multiple of it."""
    ratio = float((found @ other) / (other @ other))
    return ratio if torch.allclose(found, ratio * other, rtol=1e-3, atol=TOLERANCE) else None
