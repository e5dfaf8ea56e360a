"""The nets, one file each, and their registry. A new net is one file and one line here."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

    from lab.data import DataSpec


@dataclass(frozen=True, slots=True)
class NetEntry:
    """A net of the registry. Nothing here needs torch."""

    module: str
    """The file that builds it; its `build(data: DataSpec) -> nn.Module` is called after seeding."""
    title: str
    reads: Literal["images", "tokens"]
    default_data: str
    smallest_image: int = 1
    """Least height and width in pixels."""
    exact_image: tuple[int, int, int] | None = None
    """The only image shape (C, H, W) that it reads, if there is only one."""
    batch_norm: bool = False
    """True when splitting the batch changes the result, because batch norm sees each part alone."""


REGISTRY: dict[str, NetEntry] = {
    "net": NetEntry(
        "lab.nets.net", "Net: two convolutions, two linear layers", "images", "mnist", exact_image=(1, 28, 28)
    ),
    "mlp": NetEntry("lab.nets.mlp", "MLP: three linear layers", "images", "mnist"),
    "resnet18": NetEntry(
        "lab.nets.resnet", "ResNet-18 (torchvision)", "images", "shapes", smallest_image=28, batch_norm=True
    ),
    "gpt": NetEntry("lab.nets.gpt", "GPT: a small decoder-only transformer", "tokens", "sums"),
}
NAMES = tuple(REGISTRY)


def build(name: str, data: DataSpec) -> nn.Module:
    """A fresh net for data of that shape, initialised from torch's current random state."""
    module: nn.Module = importlib.import_module(REGISTRY[name].module).build(data)
    return module


@functools.cache
def layer_names(net: str, data: str) -> tuple[str, ...]:
    """The paths of a net's layers, as `lab.layers` finds them, when it is built for a data set; both of the registries.

    The net is built without memory for its parameters, on torch's meta device.
    """
    import torch

    from lab import layers
    from lab.data import REGISTRY as DATA

    with torch.device("meta"):
        module = build(net, DATA[data].spec)
    return tuple(layers.layer_paths(module))
