"""Checks of notebook 00: the tour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab import placement
from lab.errors import listed
from lab.exercises import reading, surroundings
from lab.exercises.grading import NotWrittenError, Wrong, exercise, shown
from lab.experiment import Experiment
from lab.outline import outline

FEW_BYTES = 100_000
DEVICES = 2


@exercise(
    "00-cut",
    todo="Write a placement in place of the ..., as the experiment above has one: on both devices, and with less than "
    f"{FEW_BYTES:,} bytes across in a step.",
    hints=(
        "What crosses is the output of the last layer before the cut, and its gradient on the way back. How many "
        "numbers does each layer give for one image?",
        "Shapes get smaller towards the end of the net.",
        "The first match wins. So a pattern for a single layer goes first, and '*' after it takes all the others.",
        "fc1 gives 50 numbers for each of the 64 images, conv1 1,440, and conv2 320: cut after fc1.",
    ),
)
def cut(placed: Any) -> str:
    """A placement of Net on two devices that sends little."""
    graph = outline(Experiment()).graph
    layers = resolved(placed, outline(Experiment()).layers)
    used = sorted(set(layers.values()))
    if len(used) != DEVICES:
        raise Wrong(f"Two devices are asked for, and your placement uses {len(used)}: {listed(used)}.{_unused(placed)}")
    where = {**layers, "input": layers["conv1"], "loss": layers["fc2"]}
    cuts = [edge for edge in graph.edges if where[edge.source] != where[edge.target]]
    crossing = sum(edge.forward_bytes + edge.backward_bytes for edge in cuts)
    between = listed([f"{edge.source} and {edge.target}" for edge in cuts])
    if crossing >= FEW_BYTES:
        raise Wrong(f"{crossing:,} bytes cross in a step, between {between}. Less than {FEW_BYTES:,} are asked for.")
    return f"{crossing:,} bytes cross in a step, between {between}."


def resolved(placed: Any, layers: tuple[str, ...]) -> dict[str, str]:
    """Layer -> device, of the reader's patterns.

    Raises:
        Wrong: when they are none, leave a layer without a device, or name a device that is not here.
    """
    if not isinstance(placed, Mapping):
        raise Wrong(f"A placement is a dictionary from layers to devices, and this is {shown(placed)}.")
    patterns = dict(placed)
    if any(device is ... for device in patterns.values()):
        raise NotWrittenError
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise Wrong(f"Layers are given by their names, {listed(layers)}, and {shown(pattern)} is none.")
    devices = {pattern: _here(pattern, device) for pattern, device in patterns.items()}
    if problems := placement.problems(devices, layers):
        raise Wrong(f"The placement {problems[0].message}.")
    return placement.resolve(devices, layers)


def _here(pattern: str, given: Any) -> str:
    """The name of a device, when this notebook has it."""
    try:
        device = str(reading.device(given))
    except Wrong as wrong:
        raise Wrong(f"The placement gives {pattern!r} to {shown(given)}. {wrong}") from None
    here = _devices()
    if device not in here:
        has = (
            f"This notebook has {listed(here)}" if here else "This notebook has none yet: run the cell of its settings"
        )
        what = " is where the images come from, and none of the devices" if device == "cpu" else " is not here"
        raise Wrong(f"The placement gives {pattern!r} to {device}, which{what}. {has}.")
    return device


def _devices() -> list[str]:
    """This machine's GPUs, and the virtual ones of this process."""
    import torch

    machine = surroundings.machine()
    virtual = 0 if machine is None else machine.device_count
    return [
        *(f"cuda:{index}" for index in range(torch.cuda.device_count())),
        *(f"vgpu:{index}" for index in range(virtual)),
    ]


def _unused(placed: Mapping[str, Any]) -> str:
    """Why a pattern that names layers takes none."""
    layers = outline(Experiment()).layers
    return "".join(
        f" {pattern!r} takes no layer: {before!r} stands before it, and the first match wins."
        for pattern, before in placement.without_effect(placed, layers).items()
    )
