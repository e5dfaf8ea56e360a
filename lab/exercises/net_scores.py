"""The course's Net as a function of its parameters, right and with the mistakes that readers make, each with its name.

parameters = net_scores.drawn(made)                # fresh ones
net_scores.give(net, parameters)                   # to a reader's net, whatever its layers are called
expected = net_scores.scores(parameters, images)
net_scores.mistake(got, parameters, images)        # "a ReLU after conv1 is missing", or None
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import listed

Parameters = dict[str, Tensor]
Function = Callable[[Tensor], Tensor]

SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (10, 1, 5, 5),
    "conv1.bias": (10,),
    "conv2.weight": (20, 10, 5, 5),
    "conv2.bias": (20,),
    "fc1.weight": (50, 320),
    "fc1.bias": (50,),
    "fc2.weight": (10, 50),
    "fc2.bias": (10,),
}
TOLERANCE = 1e-4
"""How far scores of float32 may be apart, as a part of the largest: the order of sums is the backend's own."""
RELUS = ("conv1", "conv2", "fc1")
"""After these layers there is one."""

ENDS: tuple[tuple[str, Function], ...] = (
    ("a log-softmax of the scores: exp of every row adds up to 1", lambda x: x.log_softmax(1)),
    ("a log-softmax of the scores, taken over the images and not over the ten classes", lambda x: x.log_softmax(0)),
    ("a softmax of the scores: every row adds up to 1", lambda x: x.softmax(1)),
    ("a softmax of the scores, taken over the images and not over the ten classes", lambda x: x.softmax(0)),
    ("a log-softmax of the softmax of the scores", lambda x: x.softmax(1).log_softmax(1)),
    ("a softmax of the softmax of the scores: every row adds up to 1", lambda x: x.softmax(1).softmax(1)),
    ("the log-softmax of the scores with the other sign", lambda x: -x.log_softmax(1)),
    ("the softmax of the scores with the other sign", lambda x: (-x).softmax(1)),
    ("a sigmoid of the scores: all are between 0 and 1", torch.sigmoid),
    ("the logarithm of a sigmoid of the scores: none is above 0", F.logsigmoid),
    ("a tanh of the scores: all are between -1 and 1", torch.tanh),
    ("a ReLU of the scores: what is below 0 is lost, with its gradient", F.relu),
    ("the absolute value of the scores", torch.abs),
    ("exp of the scores", torch.exp),
    ("the scores with the other sign", torch.neg),
    ("the scores divided by the length of their row", lambda x: F.normalize(x, dim=1)),
    ("the scores less their mean, as a normalisation gives", lambda x: F.layer_norm(x, x.shape[1:])),
)
"""What is made of the scores at the end -> how."""
IN_PLACE_OF_RELU: tuple[tuple[str, Function], ...] = (
    ("a sigmoid", torch.sigmoid),
    ("a tanh", torch.tanh),
    ("a GELU", F.gelu),
    ("a leaky ReLU", F.leaky_relu),
    ("an ELU", F.elu),
    ("a SiLU", F.silu),
    ("a ReLU6", F.relu6),
)


def drawn(made: torch.Generator) -> Parameters:
    """Fresh parameters of Net, of float32, as large as keeps all activations around 1."""
    return {
        name: torch.randn(shape, generator=made) * (0.5 if len(shape) == 1 else (2 / _inputs(shape)) ** 0.5)
        for name, shape in SHAPES.items()
    }


def give(net: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, nn.Parameter] | None:
    """Puts them into a net whose layers may have other names and another order; None where they are not Net's layers.

    Returns:
        Name in Net -> the net's own parameter.
    """
    found = _matched(dict(net.named_parameters()))
    if found is not None:
        with torch.no_grad():
            for name, own in found.items():
                own.copy_(parameters[name])
    return found


def scores(
    parameters: Mapping[str, Tensor],
    images: Tensor,
    activations: Mapping[str, Function] = dict.fromkeys(RELUS, F.relu),
    pool: Function = lambda x: F.max_pool2d(x, 2),
) -> Tensor:
    """Images (B, 1, 28, 28) to scores (B, 10)."""
    p = parameters
    x = activations["conv1"](pool(F.conv2d(images, p["conv1.weight"], p["conv1.bias"])))  # (B, 10, 12, 12)
    x = activations["conv2"](pool(F.conv2d(x, p["conv2.weight"], p["conv2.bias"])))  # (B, 20, 4, 4)
    x = activations["fc1"](F.linear(x.flatten(1), p["fc1.weight"], p["fc1.bias"]))  # (B, 50)
    return F.linear(x, p["fc2.weight"], p["fc2.bias"])


def close(got: Tensor, expected: Tensor) -> bool:
    """Whether they are the same but for rounding."""
    if got.shape != expected.shape:
        return False
    largest = float(expected.detach().abs().max())
    return bool((got.detach().double() - expected.detach().double()).abs().max() <= TOLERANCE * max(largest, 1e-6))


def mistake(got: Tensor, parameters: Mapping[str, Tensor], images: Tensor) -> str | None:
    """What a net with these parameters does that Net does not, as a sentence; None where it is none of those known.

    Args:
        got: what it returned for the images; not Net's scores.
    """
    with torch.no_grad():
        for sentence, wrong in _mistakes(parameters, images):
            if close(got, wrong):
                return sentence
        right = scores(parameters, images)
        factor = float((got.double() * right.double()).sum() / right.double().square().sum())
        if close(got, (factor * right.double())):
            return f"What it returns is {factor:.3g} times the scores of Net."
    return None


def _mistakes(parameters: Mapping[str, Tensor], images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Sentence -> what a net with that mistake returns."""
    right = scores(parameters, images)
    yield from ((f"What it returns is {name}.", end(right)) for name, end in ENDS)
    relus: dict[str, Function] = dict.fromkeys(RELUS, F.relu)
    for count in range(1, len(RELUS) + 1):
        for lost in itertools.combinations(RELUS, count):
            without = scores(parameters, images, {**relus, **dict.fromkeys(lost, lambda x: x)})
            some = f"The ReLU{'s' if count > 1 else ''} after {listed(lost)} {'are' if count > 1 else 'is'}"
            yield f"{some} missing: the scores are those of Net without {'them' if count > 1 else 'it'}.", without
            for name, end in ENDS[:3]:
                yield f"{some} missing, and what it returns is {name}.", end(without)
    for name, function in IN_PLACE_OF_RELU:
        for places in (RELUS, *((place,) for place in RELUS)):
            other = scores(parameters, images, {**relus, **dict.fromkeys(places, function)})
            yield f"There is {name} in place of the ReLU after {listed(places)}.", other
    average = scores(parameters, images, pool=lambda x: F.avg_pool2d(x, 2))
    yield "The mean of each 2 x 2 square is taken where Net takes the largest.", average


def _inputs(shape: tuple[int, ...]) -> int:
    return torch.Size(shape[1:]).numel()


def _matched(own: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter] | None:
    """Weights by their shapes, which all differ, and each bias by the layer of its weight; else all by their order."""
    if sorted(tuple(each.shape) for each in own.values()) != sorted(SHAPES.values()):
        return None
    layers = {tuple(each.shape): path.rpartition("weight")[0] for path, each in own.items() if path.endswith("weight")}
    found = {}
    for name, shape in SHAPES.items():
        layer, _, kind = name.rpartition(".")
        path = f"{layers.get(SHAPES[f'{layer}.weight'], '?')}{kind}"
        if path not in own or tuple(own[path].shape) != shape:
            return _in_order(own)
        found[name] = own[path]
    return found


def _in_order(own: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter] | None:
    """Each parameter to the first of its shape that is left."""
    left, found = list(own.values()), {}
    for name, shape in SHAPES.items():
        place = next((index for index, each in enumerate(left) if tuple(each.shape) == shape), None)
        if place is None:
            return None
        found[name] = left.pop(place)
    return found
