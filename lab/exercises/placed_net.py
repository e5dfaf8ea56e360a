"""Check of 04-anywhere: a net that takes its two devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lab.exercises import net_scores, reading
from lab.exercises.grading import Wrong, call, exercise, shown
from lab.exercises.watching import Operations

LAYERS = {"conv1": 0, "conv2": 0, "fc1": 1, "fc2": 1}
"""Layer -> which of the two devices it is on."""


@exercise(
    "04-anywhere",
    todo="Let the net take its two devices, Anywhere(first, second), in place of those that are written into it.",
    hints=(
        "Where is a device written into the net now? There are places in __init__ and in forward.",
        "A layer goes to a device with `.to(first)`. forward needs the devices too: keep them in self.",
        "forward brings x to self.first before conv1, and to self.second before fc1.",
    ),
)
def anywhere(answer: Any, devices: Sequence[Any]) -> str:
    """A net that runs on any two devices, and computes what Net computes on one."""
    first, second = (reading.device(device) for device in devices[:2])
    cpu = torch.device("cpu")
    places = ((first, second), (second, first), (first, first), (cpu, cpu), (first, cpu))
    for number, place in enumerate(places):
        made = torch.Generator().manual_seed(number)
        given = place if number % 2 else tuple(str(device) for device in place)
        shown_as = [f"torch.device('{each}')" if isinstance(each, torch.device) else repr(each) for each in given]
        case = f"Anywhere({', '.join(shown_as)})"
        _one(answer, place, given, (made, place[1] if number == 1 else cpu), case)
    return f"It runs on {first} and {second}, the other way round, and on the CPU, with the same results."


def _one(
    answer: Any,
    place: tuple[torch.device, torch.device],
    given: tuple[Any, ...],
    data: tuple[torch.Generator, torch.device],
    case: str,
) -> None:
    """The net on two devices, with fresh parameters and images, held against Net on one."""
    made, images_on = data
    net = call(answer, *given, about={TypeError: "The class is called with two devices."})
    if not isinstance(net, nn.Module):
        raise Wrong(f"{case} makes {shown(net)}, and a net is asked for, an nn.Module.")
    parameters = net_scores.drawn(made)
    own = _placed(net, place, case)
    with torch.no_grad():
        for name, value in parameters.items():
            own[name].copy_(value)
    images = torch.randn(5, 1, 28, 28, generator=made)
    about: dict[type[Exception], str] = {RuntimeError: f"Here first is {place[0]}, and second is {place[1]}."}
    with Operations() as watch:
        output = call(net, images.to(images_on), about=about)
    if not isinstance(output, Tensor) or tuple(output.shape) != (len(images), 10):
        what = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else shown(output)
        raise Wrong(
            f"{case} makes {what} of {len(images)} images, and scores of shape ({len(images)}, 10) are asked for."
        )
    if watch.refused:
        raise Wrong(f'{case}: a call was refused, and it went on with something else: "{watch.refused[0]}".')
    _same_scores(output.detach().cpu(), parameters, images, case)
    if any(own[name] is not parameter for name, parameter in _placed(net, place, f"{case}, after a forward,").items()):
        raise Wrong(f"{case} has other parameters after a forward than before it.")
    for function, device in (("conv2d", place[0]), ("linear", place[1])):
        elsewhere = [each for each in watch.of_layers(function) if each != device]
        if elsewhere:
            raise Wrong(f"{case}: {function} was computed on {elsewhere[0]}, and its layers are on {device}.")
    _same_gradients(output, own, parameters, images, case)


def _placed(net: nn.Module, place: tuple[torch.device, torch.device], case: str) -> dict[str, nn.Parameter]:
    """The layers' parameters by their names.

    Raises:
        Wrong: unless they are those of Net, and where they belong.
    """
    own = {}
    for name, shape in net_scores.SHAPES.items():
        layer = name.split(".")[0]
        device = place[LAYERS[layer]]
        try:
            parameter = net.get_parameter(name)
        except AttributeError:
            raise Wrong(f"{case} has no {name} any more: keep conv1, conv2, fc1 and fc2.") from None
        if tuple(parameter.shape) != shape:
            raise Wrong(f"{case} has {name} of shape {tuple(parameter.shape)}, and it was {shape}.")
        if parameter.device != device:
            raise Wrong(f"{case} has {layer} on {parameter.device}, and it belongs on {device}.")
        own[name] = parameter
    return own


def _same_scores(got: Tensor, parameters: net_scores.Parameters, images: Tensor, case: str) -> None:
    expected = net_scores.scores(parameters, images)
    if net_scores.close(got, expected):
        return
    if not bool(got.any()):
        raise Wrong(f"{case}: all scores are 0, whatever the image.")
    known = net_scores.mistake(got, parameters, images)
    away = float((got - expected).abs().max())
    raise Wrong(
        f"{case}: {known}"
        if known
        else f"{case}: the scores are up to {away:.2g} away from those of Net with the same parameters, on one device."
    )


def _same_gradients(
    output: Tensor, own: dict[str, nn.Parameter], parameters: net_scores.Parameters, images: Tensor, case: str
) -> None:
    """Raises:
    Wrong: unless each parameter gets the gradient that it gets on one device.
    """
    if not output.requires_grad:
        raise Wrong(f"{case} cannot be trained: its scores are right, but no gradient leads back from them.")
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    alone = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    (net_scores.scores(alone, images) * weights).sum().backward()
    call(lambda: (output.cpu() * weights).sum().backward())
    without = [name for name, parameter in own.items() if parameter.grad is None]
    if without:
        layers = ", ".join(dict.fromkeys(name.split(".")[0] for name in without))
        raise Wrong(f"{case}: no gradient reaches {layers}, so it would never learn there.")
    for name, parameter in own.items():
        wanted = alone[name].grad
        if parameter.grad is not None and wanted is not None and not net_scores.close(parameter.grad.cpu(), wanted):
            away = float((parameter.grad.cpu() - wanted).abs().max())
            raise Wrong(f"{case}: the gradient of {name} is {away:.2g} away from that on one device.")
