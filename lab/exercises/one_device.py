"""Checks of notebook 01: one device."""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lab.errors import listed
from lab.exercises import net_scores, reading
from lab.exercises.grading import Wrong, call, exercise, shown

TOLERANCE = 1e-6
CLASSES = 10


@exercise(
    "01-mend",
    todo="Run the cell with the net, then mend what this check names.",
    hints=(
        "What an error names is in the cell, or nowhere. And what does CrossEntropyLoss do with what the net returns?",
        "F is short for torch.nn.functional. CrossEntropyLoss begins with a log-softmax of its own.",
        "Begin the cell with `import torch.nn.functional as F`, and end forward with what fc2 gives, as it is.",
    ),
)
def mend(answer: Any) -> str:
    """Net without its two mistakes: F without an import, and a log-softmax before CrossEntropyLoss's own."""
    if not callable(answer):
        raise Wrong(f"The class of the net is asked for, and this is {shown(answer)}.")
    net = copy.deepcopy(answer) if isinstance(answer, nn.Module) else call(answer)
    if not isinstance(net, nn.Module):
        raise Wrong(f"The class of the net is asked for; what this makes is {shown(net)}, and not an nn.Module.")
    net.train()
    made = torch.Generator().manual_seed(0)
    _scores(net, _images(16, made))
    parameters = net_scores.drawn(made)
    own = net_scores.give(net, parameters)
    if own is None:
        raise Wrong(_other_layers(net))
    _of_the_images(net, made)
    for count in (16, 5, 1):
        _values(net, parameters, _images(count, made))
    _gradients(net, parameters, own, _images(16, made))
    net.eval()
    _values(net, parameters, _images(16, made), "In eval mode: ")
    return (
        "It runs and returns raw scores, which is what CrossEntropyLoss wants, and every parameter gets its gradient."
    )


def _images(count: int, made: torch.Generator) -> Tensor:
    return 2 * torch.randn(count, 1, 28, 28, generator=made)


def _scores(net: nn.Module, images: Tensor, when: str = "") -> Tensor:
    """What the net returns, when it is scores at all."""
    missing = "Python looks a name up only when the line runs, so the class could be defined."
    device = next((each.device for each in net.parameters()), images.device)
    given = images.clone().to(device)
    got = call(net, given, about={NameError: missing})
    count = len(images)
    if not isinstance(got, Tensor) or got.shape != (count, CLASSES):
        shape = tuple(got.shape) if isinstance(got, Tensor) else shown(got)
        some = f"{count} images" if count > 1 else "one image"
        raise Wrong(f"{when}For {some}, a tensor of shape ({count}, {CLASSES}) is asked for; yours give {shape}.")
    if not bool(got.isfinite().all()):
        raise Wrong(f"{when}It runs, and there are scores that are not finite (nan or inf).")
    if not torch.equal(given.cpu(), images):
        raise Wrong(f"{when}The images that the net was given are others when it has returned: it changes them.")
    return got.cpu()


def _of_the_images(net: nn.Module, made: torch.Generator) -> None:
    """Whether the scores depend on the images, and on nothing that is random."""
    images, others = _images(16, made), _images(16, made)
    seeded = []
    for each in (images, others):
        _seed()
        seeded.append(_scores(net, each).detach())
    again = [_scores(net, images).detach() for _ in range(2)]
    changing = not torch.equal(*again)
    if torch.equal(*seeded):
        if not bool(seeded[0].any()):
            raise Wrong("It runs. But all its scores are 0, whatever the images are.")
        numbers = "random numbers" if changing else "the same numbers for all images"
        raise Wrong(f"It runs. But its scores are {numbers}: they do not depend on the images.")
    if changing:
        apart = float((again[0] - again[1]).abs().max())
        raise Wrong(
            f"It runs. But for the same images it gives scores that are {apart:.2g} apart in two calls: something in "
            "it is random, as a dropout is."
        )


def _seed() -> None:
    """The same for all that an answer may draw from; `surroundings` puts it back."""
    import numpy as np

    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def _values(net: nn.Module, parameters: net_scores.Parameters, images: Tensor, when: str = "") -> None:
    with _LogSoftmaxes() as taken:
        got = _scores(net, images, when).detach()
    expected = net_scores.scores(parameters, images)
    if net_scores.close(got, expected):
        return
    mistake = net_scores.mistake(got, parameters, images)
    if mistake is None:
        first, wanted = (", ".join(f"{each:.2f}" for each in row[0, :3].tolist()) for row in (got, expected))
        mistake = f"With the same parameters, the first scores of Net are {wanted}, and yours are {first}."
    elif taken.count > 1:
        mistake += f" It takes the log-softmax {taken.count} times."
    raise Wrong(f"{when}It runs. But it does not return Net's raw scores. {mistake}")


class _LogSoftmaxes(TorchFunctionMode):
    """How often one was taken; in a log-softmax of a log-softmax the numbers do not tell."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += getattr(func, "__name__", "") == "log_softmax"
        return func(*args, **(kwargs or {}))


def _gradients(net: nn.Module, parameters: net_scores.Parameters, own: dict[str, nn.Parameter], images: Tensor) -> None:
    labels = torch.arange(len(images)) % CLASSES
    got = _scores(net, images)
    if not got.requires_grad:
        raise Wrong("It runs, and its scores are right. But they come without a gradient: nothing could be trained.")
    net.zero_grad()
    call(F.cross_entropy(got, labels).backward)
    leaves = {name: each.clone().requires_grad_() for name, each in parameters.items()}
    loss = F.cross_entropy(net_scores.scores(leaves, images), labels)
    for name, expected in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
        found = own[name].grad
        if found is None:
            raise Wrong(
                f"It runs, and its scores are right. But no gradient reaches {name}: it would never be trained."
            )
        if not net_scores.close(found.cpu(), expected):
            factor = float(found.cpu().double().norm() / expected.double().norm())
            raise Wrong(
                f"It runs, and its scores are right. But the gradient of {name} is not Net's: it is {factor:.3g} times "
                "as long."
            )


def _other_layers(net: nn.Module) -> str:
    """In what a net's parameters are not those of Net."""
    own = Counter(tuple(each.shape) for each in net.parameters())
    net_has = Counter(net_scores.SHAPES.values())
    if others := [str(shape) for shape in own if shape not in net_has]:
        return f"It runs. But it is another net: Net has no parameter of shape {listed(others, 'or')}."
    if not own:
        return (
            f"It runs. But net.parameters() is empty, and Net has {net_has.total()} tensors: nothing could be trained."
        )
    missing = [str(shape) for shape in net_has - own]
    return (
        f"It runs. But net.parameters() has {own.total()} of Net's {net_has.total()} tensors: none of shape "
        f"{listed(missing, 'or')} is registered, and so no optimizer would train it."
        if missing
        else "It runs. But its parameters are not those of Net's layers."
    )


@exercise(
    "01-accuracy",
    todo="Return the share of images that are read correctly, from 0 to 1.",
    hints=(
        "Which digit does the net read in an image, when its row of scores is known?",
        "scores.argmax(dim=1) is the place of the largest score in each row. How many of them are the right digit?",
        "(scores.argmax(dim=1) == labels) is True where the net is right. What is the mean of ones and zeros?",
    ),
)
def accuracy(answer: Any) -> str:
    """The share of right answers."""
    known: list[tuple[_Case, float]] = []
    for cases in (_square_cases(), _other_cases()):
        known += [(case, _of(answer, case)) for case in cases]
        for case, value in known:
            if abs(value - case.share) > TOLERANCE:
                raise Wrong(f"For {case.name}, it should be {case.share:.4g}; yours is {value:.4g}.{_why(known)}")
    return "It is right for 1 to 64 images, of 3 and of 10 classes, and needs only the order of the scores."


@dataclass(frozen=True, slots=True)
class _Case:
    """Scores (B, C), labels (B,), and what they are."""

    name: str
    scores: Tensor
    labels: Tensor

    @property
    def right(self) -> int:
        """How many of the images are read correctly, counted row by row."""
        rows = zip(self.scores.tolist(), self.labels.tolist(), strict=True)
        return sum(row.index(max(row)) == label for row, label in rows)

    @property
    def share(self) -> float:
        return self.right / len(self.labels)


def _square_cases() -> Iterator[_Case]:
    """As many images as classes: what mixes up rows and columns is told here, and raises in others."""
    digits = torch.arange(10)
    eye = torch.eye(10)
    yield _Case("ten images that are all read correctly", eye, digits)
    yield _Case("ten images that are all read as the next digit", eye.roll(1, dims=1), digits)
    four = torch.cat([eye[:4], eye[4:].roll(1, dims=1)])
    yield _Case("ten images of which four are read correctly", four, digits)
    yield _Case("ten log-probabilities, which are negative, that are all right", eye - 5.0, digits)
    made = torch.Generator().manual_seed(28)
    for right in (7, 3, 8, 0, 9):
        yield _made(10, 10, right, 0.0, made)


def _other_cases() -> Iterator[_Case]:
    made = torch.Generator().manual_seed(29)
    yield _made(7, 10, 3, -20.0, made)
    yield _made(64, 10, 37, 2.0, made)
    yield _made(12, 3, 5, 0.0, made)
    yield _made(1, 10, 1, 0.0, made)
    yield _made(1, 3, 0, 0.0, made)


def _made(images: int, classes: int, right: int, shift: float, made: torch.Generator) -> _Case:
    """Images with digits in no order, some of them twice, of which the first few in a random order are read right."""
    labels = torch.randint(classes, (images,), generator=made)
    wrong = torch.randint(1, classes, (images,), generator=made)
    read = torch.where(torch.randperm(images, generator=made) < right, labels, (labels + wrong) % classes)
    scores = 3 * torch.randn(images, classes, generator=made) + shift
    rows = torch.arange(images)
    scores[rows, read] = scores.max(1).values + 0.1 + torch.rand(images, generator=made)
    of = "" if classes == 10 else f" of {classes} classes"
    name = f"{images} images{of} of which {right} are read correctly"
    return _Case(
        name if images > 1 else f"one image{of} that is read {'correctly' if right else 'wrongly'}", scores, labels
    )


def _of(answer: Any, case: _Case) -> float:
    scores, labels = case.scores.clone(), case.labels.clone()
    value = reading.number(call(answer, scores, labels), "One number, the share,")
    for name, before, now in (("scores", case.scores, scores), ("labels", case.labels, labels)):
        if not torch.equal(before, now):
            raise Wrong(f"The {name} that your function was given are others when it has returned: it changes them.")
    return value


def _same(places: Tensor, digits: Tensor) -> float:
    """The share in which they are the same; nan where there are not equally many."""
    return float((places == digits).double().mean()) if len(places) == len(digits) else float("nan")


MISTAKES: tuple[tuple[str, Callable[[_Case], float]], ...] = (
    ("It is the number of right answers, and not their share.", lambda case: case.right),
    ("It is in percent.", lambda case: 100 * case.share),
    ("It is the share of images that are read wrongly.", lambda case: 1 - case.share),
    ("It is the number of images that are read wrongly.", lambda case: len(case.labels) - case.right),
    ("The right answers are divided by 10, however many images there are.", lambda case: case.right / 10),
    (
        "The right answers are divided by the number of classes, and not by that of the images.",
        lambda case: case.right / case.scores.shape[1],
    ),
    (
        "The right answers are divided by the number of scores, and each image has many.",
        lambda case: case.right / case.scores.numel(),
    ),
    ("The right answers are divided by the number of images twice.", lambda case: case.share / len(case.labels)),
    ("The share is rounded down to a whole number.", lambda case: case.right // len(case.labels)),
    ("The share is rounded to a whole number.", lambda case: round(case.share)),
    ("The share is rounded to 1 digit.", lambda case: round(case.share, 1)),
    ("The share is rounded to 2 digits.", lambda case: round(case.share, 2)),
    ("The share is rounded to 3 digits.", lambda case: round(case.share, 3)),
    ("The share is rounded to 4 digits.", lambda case: round(case.share, 4)),
    (
        "It takes the largest score of each column, that is of each digit, and not of each image.",
        lambda case: _same(case.scores.argmax(0), case.labels),
    ),
    ("It takes the smallest score of each image.", lambda case: _same(case.scores.argmin(1), case.labels)),
    (
        "It is the share of images that are read as 0, 1, 2 and so on in turn: the labels given are not used.",
        lambda case: _same(case.scores.argmax(1), torch.arange(len(case.labels))),
    ),
    ("It looks at the first image only.", lambda case: _same(case.scores[:1].argmax(1), case.labels[:1])),
    ("It looks at the last image only.", lambda case: _same(case.scores[-1:].argmax(1), case.labels[-1:])),
)
"""What an answer does that gives these for every case."""


def _why(known: list[tuple[_Case, float]]) -> str:
    """The mistake, where it is a known one."""
    values = [value for _, value in known]
    if len(set(values)) == 1:
        return f" It is {values[0]:.4g} for all images and labels that were tried."
    for sentence, wrong in MISTAKES:
        if all(math.isclose(value, wrong(case), rel_tol=TOLERANCE, abs_tol=TOLERANCE) for case, value in known):
            return f" {sentence}"
    return ""
