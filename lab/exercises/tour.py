"""Checks of notebook 00: the tour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab import placement
from lab.errors import listed
from lab.exercises.grading import Wrong, exercise
from lab.experiment import Experiment
from lab.outline import outline

FEW_BYTES = 100_000


@exercise(
    "00-cut",
    todo="Write a placement in place of the ..., as the experiment above has one: {'conv1': devices[0], '*': ...}.",
)
def cut(placed: Any) -> str:
    """A placement of Net on two devices that sends little."""
    layers = resolved(placed, outline(Experiment()).layers)
    used = sorted(set(layers.values()))
    if len(used) != 2:
        raise Wrong(f"two devices are asked for, and your placement uses {len(used)}: {listed(used)}")
    graph = outline(Experiment()).graph
    where = {**layers, "input": layers["conv1"], "loss": layers["fc2"]}
    cuts = [edge for edge in graph.edges if where[edge.source] != where[edge.target]]
    crossing = sum(edge.forward_bytes + edge.backward_bytes for edge in cuts)
    between = listed([f"{edge.source} and {edge.target}" for edge in cuts])
    if crossing >= FEW_BYTES:
        raise Wrong(
            f"{crossing:,} bytes cross in a step, between {between}. Which layer's output is smallest? "
            f"Shapes get smaller towards the end of the net."
        )
    return f"{crossing:,} bytes cross in a step, between {between}."


def resolved(placed: Any, layers: tuple[str, ...]) -> dict[str, str]:
    """Layer -> device, of the reader's patterns.

    Raises:
        Wrong: when they are none, or leave a layer without a device.
    """
    if not isinstance(placed, Mapping):
        raise Wrong(
            "a placement is a dictionary from layers to devices, such as {'conv1': devices[0], '*': devices[1]}"
        )
    problems = placement.problems(placed, layers)
    if problems:
        raise Wrong(f"the placement {problems[0].message}")
    return placement.resolve(placed, layers)
