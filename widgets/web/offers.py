"""What the page offers: how many of everything, and which controls a strategy has a use for."""

from __future__ import annotations

import functools
from typing import Any

from lab import checks, data, nets, strategies

MAX_RANKS = 8
"""Most ranks that the page starts; a server may allow fewer, and the command line takes more."""
MAX_PER_RANK = 4
"""Most virtual GPUs on which the page places each rank's copy of the net."""
TROUBLE_STEP = 20
"""Where trouble begins that is planned for a run."""
OWN_LINK, AS_OPENED = "own", "given"
"""Choices beside the names: the link of the hardware itself, and what a link or preset brought that has no name."""
TOPOLOGIES = ("pairs", "ports", "bus", "nodes:2")
FIRST_BUCKET_MB = 0.05
"""So that the gradients of a small net travel in more than one bucket."""
EACH = ("cpu", "cuda", "vgpu", "split")
"""What a rank can run on; `split` is several virtual GPUs, with the net placed on them."""
MAX_VIRTUAL = 8
"""Most virtual GPUs that the slider offers; the command line takes more."""


def _entry(strategy: Any) -> strategies.StrategyEntry | None:
    return strategies.REGISTRY.get(strategy) if isinstance(strategy, str) else None


def takes_several(strategy: Any) -> bool:
    """Whether one process can use several devices, which the reader lists."""
    entry = _entry(strategy)
    return entry is not None and entry.several_devices and not entry.several_ranks


def takes_ranks(strategy: Any) -> bool:
    """Whether the strategy starts several ranks."""
    entry = _entry(strategy)
    return entry is not None and entry.several_ranks


def takes_placement(strategy: Any) -> bool:
    """Whether the reader places the layers."""
    entry = _entry(strategy)
    return entry is not None and entry.takes_placement and not entry.several_ranks


def takes_microbatches(strategy: Any) -> bool:
    entry = _entry(strategy)
    return entry is not None and entry.takes_placement


def suiting_data(net: Any, name: Any) -> Any:
    """The data set, or the net's own where it cannot read that one; unchanged for a net that is not there."""
    if not isinstance(net, str) or net not in nets.REGISTRY:
        return name
    known = isinstance(name, str) and name in data.REGISTRY
    if known and not any(each.field == "data" for each in checks.static_problems({"net": net, "data": name})):
        return name
    return nets.REGISTRY[net].default_data


def layers(net: Any) -> tuple[str, ...]:
    """The layers of a net of the registry, with the data that suits it; `()` for one that is not there."""
    return _layers(net) if isinstance(net, str) and net in nets.REGISTRY else ()


@functools.cache
def _layers(net: str) -> tuple[str, ...]:
    return nets.layer_names(net, nets.REGISTRY[net].default_data)
