"""The ways to train, one file each, and their registry. A new strategy is one file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.strategies.base import Job, Strategy


@dataclass(frozen=True, slots=True)
class StrategyEntry:
    """A strategy of the registry. Nothing here needs torch."""

    module: str
    """The file whose `STRATEGY` makes it."""
    title: str
    lesson: str
    """One line for the screens."""
    default_devices: tuple[str, ...]
    several_devices: bool
    """True when it can use more than one device."""
    takes_placement: bool = False
    """True when its devices can hold different layers, so it takes a placement, and microbatches to overlap them."""
    several_ranks: bool = False
    """True when it runs in several processes, and so takes a world size."""


REGISTRY: dict[str, StrategyEntry] = {
    "single": StrategyEntry(
        "lab.strategies.single",
        "One device",
        "The whole net on one device: the yardstick.",
        ("cpu",),
        several_devices=False,
    ),
    "model_parallel": StrategyEntry(
        "lab.strategies.model_parallel",
        "Model parallel",
        "Each device holds a part of the layers; activations cross forward, gradients cross back.",
        ("vgpu:0", "vgpu:1"),
        several_devices=True,
        takes_placement=True,
    ),
    "data_parallel": StrategyEntry(
        "lab.strategies.data_parallel",
        "Data parallel",
        "Each device holds a copy of the net and takes a share of the batch; the gradients are added up.",
        ("vgpu:0", "vgpu:1"),
        several_devices=True,
    ),
    "ddp": StrategyEntry(
        "lab.strategies.ddp",
        "Distributed data parallel",
        "A process for each rank with a full copy of the net; gradients are averaged while they are computed.",
        ("cpu",),
        several_devices=True,
        takes_placement=True,
        several_ranks=True,
    ),
}
NAMES = tuple(REGISTRY)


def load(name: str) -> Callable[[Job], Strategy]:
    """What makes a strategy of the registry: its class, or a function that chooses one."""
    strategy: Callable[[Job], Strategy] = importlib.import_module(REGISTRY[name].module).STRATEGY
    return strategy
