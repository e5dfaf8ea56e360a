"""Checks of notebook 01: one device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lab.exercises.grading import Wrong, call, exercise

SUM_TOLERANCE = 1e-4
"""How far probabilities of ten classes may add up from 1, in float32."""


@exercise("01-mend", todo="Run the cell with the net, then mend what this check names.")
def mend(answer: Any) -> str:
    """Net without its two mistakes: F without an import, and a log-softmax before CrossEntropyLoss's own."""
    net = call(answer)
    if not isinstance(net, nn.Module):
        raise Wrong(f"give the class of the net; what it makes is a {type(net).__name__}, not an nn.Module")
    images = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    missing = "Python looks a name up only when the line runs, so the class could be defined. What is F short for?"
    scores = call(net, images, about={NameError: missing})
    if not isinstance(scores, Tensor) or scores.shape != (16, 10):
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise Wrong(f"16 images should give a tensor of shape (16, 10); yours give {shape}")
    if (scores.exp().sum(1) - 1).abs().max() < SUM_TOLERANCE:
        raise Wrong(
            "it runs. But exp of every row adds up to 1, so the net returns log-probabilities, and CrossEntropyLoss "
            "takes the log-softmax once more. Return the raw scores."
        )
    if (scores.sum(1) - 1).abs().max() < SUM_TOLERANCE and scores.min() >= 0:
        raise Wrong(
            "it runs. But its rows are probabilities, and CrossEntropyLoss wants raw scores: of probabilities it takes "
            "the softmax again, and that one does change the loss"
        )
    return "It runs and returns raw scores, which is what CrossEntropyLoss wants."


@exercise("01-accuracy", todo="Return the share of rows whose largest score is at the right digit, from 0 to 1.")
def accuracy(answer: Any) -> str:
    """The share of right answers."""
    labels = torch.arange(10)
    right = torch.eye(10)
    for scores, expected, what in (
        (right, 1.0, "ten images that are all read correctly"),
        (right.roll(1, dims=1), 0.0, "ten images that are all read as the next digit"),
        (torch.cat([right[:4], right[4:].roll(1, dims=1)]), 0.4, "ten images of which four are read correctly"),
        (right - 5.0, 1.0, "log-probabilities, which are negative, that are all right"),
    ):
        got = call(answer, scores, labels)
        try:
            value = float(got)
        except (TypeError, ValueError):
            raise Wrong(f"it should be one number; yours is {got!r}") from None
        if abs(value - expected) > 1e-6:
            raise Wrong(f"for {what}, it should be {expected:g}; yours is {value:g}")
    return "It gives 1, 0 and 0.4 where it should, and needs only the order of the scores, not their size."
