"""What a net's layers cost and send each other in one training step, before anything runs.

Everything is traced and modelled on the `meta` device: nothing is computed, no data is loaded, no device is touched.
A net of one's own that looks at numbers, or has layers that wait for an input, is given random ones on the CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lab import data, nets, placement, placing
from lab.experiment import Experiment
from lab.graph import trace, untraced
from lab.layers import run_layers, tied
from lab.own_nets import copy_of, input_dtype, materialise, to_dtype
from lab.placement import LayerCost
from lab.vgpu import profiles
from lab.vgpu.roofline import Roofline

if TYPE_CHECKING:
    from torch import nn

    from lab.events import PlacementGraph

KEPT = 64
"""How many outlines are remembered: one takes a good part of a second to make."""


@dataclass(frozen=True, slots=True)
class Outline:
    """One training step of a net, before any placement."""

    graph: PlacementGraph
    """Layers, joins and the bytes between them; every device is `""`."""
    costs: tuple[LayerCost, ...]
    """Of the layers, in the order in which the net runs them. Without a model of the devices all times are 0."""
    activation_bytes: int = 0
    """Of all layers together: at most this is kept for backward."""
    idle: tuple[str, ...] = ()
    """Layers that a training step does not use."""
    idle_costs: tuple[LayerCost, ...] = ()
    """Of those."""
    tied: tuple[tuple[str, ...], ...] = ()
    """Groups of layers that share parameters, and so have to be on one device."""
    timed: bool = False
    """True when `costs` have times, which the hardware's model gives."""

    @property
    def layers(self) -> tuple[str, ...]:
        return (*(cost.path for cost in self.costs), *self.idle)

    def even(self, devices: Sequence[str]) -> dict[str, str]:
        """The placement that `even` stands for: a cut by parameters."""
        counts = {node.name: node.parameters for node in self.graph.nodes}
        return placement.even({path: counts.get(path, 0) for path in self.layers}, devices, self.tied)

    def auto(self, capacities: Mapping[str, int]) -> dict[str, str] | None:
        """The placement that `auto` stands for, or None where only a run can measure the times that it balances.

        Raises:
            PlacementError: when no cut fits in memory.
        """
        if not self.timed:
            return None
        return placement.balance([*self.costs, *self.idle_costs], capacities, self.tied)


def outline(experiment: Experiment, net: nn.Module | Callable[[], nn.Module] | None = None) -> Outline:
    """The outline of one step of this Experiment, for the batch of one rank.

    Args:
        net: the user's own module, where the Experiment names one.
    """
    size = max(1, experiment.batch_size // (experiment.world_size or 1))
    modelled = _profile(experiment)
    # Only what the outline depends on, so that other changes find it again.
    kept = Experiment(
        net=experiment.net,
        data=experiment.data,
        batch_size=size,
        dtype=experiment.dtype,
        optimizer=experiment.optimizer,
        momentum=experiment.momentum,
    )
    if net is None:
        return _of_registry(kept.to_json(), modelled)
    return _outline(kept, copy_of(net) if isinstance(net, torch.nn.Module) else net(), modelled)


def _profile(experiment: Experiment) -> str | None:
    """The profile by which the devices are modelled; None where times are measured."""
    if not all(name.startswith("vgpu") for name in experiment.devices) or experiment.clock not in ("auto", "virtual"):
        return None
    timing = profiles.find(experiment.hardware).timing if experiment.timing == "auto" else experiment.timing
    return experiment.hardware if timing == "modelled" else None


@functools.lru_cache(KEPT)
def _of_registry(written: str, hardware: str | None) -> Outline:
    experiment = Experiment.from_json(written)
    with torch.device("meta"):
        net = nets.build(experiment.net, data.REGISTRY[str(experiment.data)].spec)
    return _outline(experiment, net, hardware)


def _outline(experiment: Experiment, net: nn.Module, hardware: str | None) -> Outline:
    dtype = getattr(torch, experiment.dtype)
    made = next(net.parameters(), torch.empty(0)).device.type != "meta"
    inputs, targets = _numbers(experiment) if made else _example(experiment)
    materialise(net, inputs)
    net = to_dtype(net, dtype)
    inputs = inputs.to(input_dtype(net, dtype)) if inputs.is_floating_point() else inputs
    paths = run_layers(net)
    try:
        traced = trace(net, paths, inputs, targets)
        times = placing.model(net, paths, inputs, targets, Roofline(profiles.find(hardware))) if hardware else {}
    except Exception:  # noqa: BLE001 - whatever the net misses here, a run may have: what can be said is said
        traced, times, hardware = untraced(net, paths, inputs), {}, None
    costs = placing.layer_costs(experiment, traced.layers, traced, times)
    idle = placing.idle_costs(net, paths, traced)
    kept = sum(map(traced.activation_bytes, traced.layers))
    return Outline(
        graph=traced.placed(dict.fromkeys(traced.layers, "")),
        costs=tuple(costs),
        activation_bytes=kept,
        idle=tuple(cost.path for cost in idle),
        idle_costs=tuple(idle),
        tied=tuple(map(tuple, tied(net, paths))),
        timed=bool(hardware),
    )


def _example(experiment: Experiment) -> tuple[Tensor, Tensor]:
    """A batch of the data's shape without numbers: inputs and targets."""
    spec = data.REGISTRY[str(experiment.data)].spec
    tokens = spec.kind == "tokens"
    shape = (experiment.batch_size, *spec.shape)
    inputs = torch.empty(shape, dtype=torch.int64 if tokens else None, device="meta")
    targets = torch.empty(shape if tokens else shape[:1], dtype=torch.int64, device="meta")
    return inputs, targets


def _numbers(experiment: Experiment) -> tuple[Tensor, Tensor]:
    """The same with numbers, for nets that look at them: what they find in data is found in a run only."""
    inputs, targets = _example(experiment)
    classes = data.REGISTRY[str(experiment.data)].spec.classes
    generator = torch.Generator().manual_seed(0)
    if inputs.is_floating_point():
        made = torch.randn(inputs.shape, generator=generator)
    else:
        made = torch.randint(classes, inputs.shape, generator=generator)
    return made, torch.randint(classes, targets.shape, generator=generator)
