"""From an Experiment to a device for every layer: as given, even by parameters, or balanced by measured time."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lab import placement
from lab._torch_compat import TorchDispatchMode
from lab.errors import ExperimentError, PlacementError, listed
from lab.events import Placed
from lab.experiment import Experiment
from lab.graph import Trace
from lab.layers import ITSELF, NO_LAYER, LayerHooks, layer_at, own_parameters, tied
from lab.own_nets import as_written, copy_of, without_numbers
from lab.placement import LayerCost
from lab.strategies.base import loss_function
from lab.vgpu.roofline import Roofline

MEASURED_STEPS = 3
OPTIMIZER_COPIES = {"sgd": 1, "adam": 2, "adamw": 2}
"""Tensors that the optimizer keeps for each parameter."""


def place(
    experiment: Experiment,
    devices: tuple[str, ...],
    net: nn.Module,
    layers: Sequence[str],
    traced: Trace,
    inputs: Tensor,
    targets: Tensor,
    capacities: Mapping[str, int],
    hardware: Roofline | None = None,
) -> Placed:
    """Resolves the Experiment's placement.

    Args:
        devices: of the rank: all of the Experiment's, unless several ranks share them out.
        net: on the CPU.
        layers: its layers' paths.
        traced: one step of it.
        inputs, targets: one batch, for measuring.
        capacities: device -> bytes.
        hardware: the model of the virtual GPUs, where they are modelled; automatic placement balances by it.

    Raises:
        ExperimentError: when patterns and layers do not match.
        PlacementError: when automatic placement finds nothing that fits, or the net has parameters outside its layers.
    """
    layers = layers or [ITSELF]
    order = [*traced.layers, *(path for path in layers if path not in traced.layers)]
    if experiment.placement is None or len(devices) == 1:
        return Placed(dict.fromkeys(order, devices[0]), "given", _whole(experiment, devices), copies=devices[1:])
    loose = own_parameters(net)
    if loose:
        raise PlacementError(f"{listed(loose)} {'belongs' if len(loose) == 1 else 'belong'} to no layer, {NO_LAYER}")
    if experiment.placement == "even":
        counts = {path: traced.parameters(path) if path in traced.layers else 0 for path in order}
        layers_on = placement.even(counts, devices, tied(net, order))
        total = sum(counts.values())
        shares = [
            f"{sum(counts[path] for path in order if layers_on[path] == device) / max(1, total):.0%} on {device}"
            for device in devices
        ]
        return Placed(layers_on, "even", f"Cut evenly by parameters: {listed(shares)}.")
    if experiment.placement == "auto":
        return _automatic(experiment, devices, net, order, traced, inputs, targets, capacities, hardware)
    patterns = dict(experiment.placement)
    problems = placement.problems(patterns, layers)
    if problems:
        raise ExperimentError(problems)
    return Placed(placement.resolve(patterns, order), "given", _given(patterns, order))


def _given(patterns: Mapping[str, str], order: Sequence[str]) -> str:
    """What is to be said of patterns: which of them have no effect, since the first match wins."""
    idle = placement.without_effect(patterns, order)
    told = [f"{pattern!r} never applies, since {first!r} before it matches first" for pattern, first in idle.items()]
    return f"As given; but {listed(told)}." if told else "As given."


def _whole(experiment: Experiment, devices: tuple[str, ...]) -> str:
    if (experiment.world_size or 1) > 1:
        return f"Each of the {experiment.world_size} ranks holds the whole net."
    reason = f"The whole net is on {devices[0]}"
    return f"{reason}, and a copy of it on {listed(devices[1:])}." if len(devices) > 1 else f"{reason}."


def _automatic(
    experiment: Experiment,
    devices: tuple[str, ...],
    net: nn.Module,
    order: Sequence[str],
    traced: Trace,
    inputs: Tensor,
    targets: Tensor,
    capacities: Mapping[str, int],
    hardware: Roofline | None = None,
) -> Placed:
    times = measure(net, order, inputs, targets) if hardware is None else model(net, order, inputs, targets, hardware)
    costs = layer_costs(experiment, traced.layers, traced, times) + idle_costs(net, order, traced)
    layers = placement.balance(costs, {device: capacities[device] for device in devices}, tied(net, order))
    expected = dict.fromkeys(devices, 0)
    for cost in costs:
        expected[layers[cost.path]] += cost.time_ns
    stages = listed([f"{ns / 1e6:.2f} ms on {device}" for device, ns in expected.items()])
    whole, slowest = sum(expected.values()), max(expected.values())
    reason = (
        f"Balanced by {'modelled' if hardware else 'measured'} time: each step expects {stages}; with many "
        f"microbatches at best {whole / max(1, slowest):.2f} times as fast as one device, transfers left out."
    )
    return Placed(layers, "auto", reason, expected)


def layer_costs(
    experiment: Experiment, layers: Sequence[str], traced: Trace, times: Mapping[str, int]
) -> list[LayerCost]:
    """What each layer asks of a device in one step; `times` are nanoseconds of forward and backward."""
    copies = 2 + OPTIMIZER_COPIES[experiment.optimizer]
    if experiment.optimizer == "sgd" and not experiment.momentum:
        copies = 2
    return [
        LayerCost(
            path,
            times.get(path, 0),
            traced.parameter_bytes(path) * copies + traced.activation_bytes(path),
            traced.output_bytes(path),
        )
        for path in layers
    ]


def idle_costs(net: nn.Module, layers: Sequence[str], traced: Trace) -> list[LayerCost]:
    """Of layers that a step does not use: they take the memory of their parameters, which get no gradient."""
    idle = [path for path in layers if path not in traced.layers]
    sizes = {path: sum(p.numel() * p.element_size() for p in layer_at(net, path).parameters()) for path in idle}
    return [LayerCost(path, 0, size, 0) for path, size in sizes.items()]


def measure(net: nn.Module, layers: Sequence[str], inputs: Tensor, targets: Tensor) -> dict[str, int]:
    """Layer path -> nanoseconds of its forward and backward on this machine's CPU, the median of a few steps."""
    timed = copy_of(net)
    stopwatch = _Stopwatch()
    hooks = LayerHooks(timed, layers, stopwatch)
    samples: dict[str, list[int]] = defaultdict(list)
    with torch.random.fork_rng(devices=[]):
        for step in range(MEASURED_STEPS + 1):
            hooks.start_forward()
            loss = loss_function(timed(inputs), targets)
            hooks.start_backward()
            loss.backward()
            for path, spent in stopwatch.take().items():
                if step:  # the first step allocates and warms up
                    samples[path].append(spent)
    return {path: round(statistics.median(values)) for path, values in samples.items()}


def model(net: nn.Module, layers: Sequence[str], inputs: Tensor, targets: Tensor, hardware: Roofline) -> dict[str, int]:
    """Layer path -> nanoseconds of its forward and backward on modelled hardware; nothing is computed, unless the net
    looks at numbers."""
    try:
        return _modelled(without_numbers(net), layers, inputs.to("meta"), targets.to("meta"), hardware)
    except Exception:  # noqa: BLE001 - whatever the net does not find on the meta device, the CPU decides
        with torch.random.fork_rng(devices=[]):
            return _modelled(copy_of(net).cpu(), layers, inputs, targets, hardware)


def _modelled(
    net: nn.Module, layers: Sequence[str], inputs: Tensor, targets: Tensor, hardware: Roofline
) -> dict[str, int]:
    adder = _ModelledTime(hardware)
    hooks = LayerHooks(net, layers, adder)
    silence = contextlib.redirect_stdout(io.StringIO())  # what the net prints is for its real steps
    with torch.autograd.set_multithreading_enabled(False), silence, as_written(net), adder:
        hooks.start_forward()
        loss = loss_function(net(inputs), targets)
        hooks.start_backward()
        loss.backward()
    return dict(adder.spent)


class _ModelledTime(TorchDispatchMode):
    """Adds up the modelled times of the operations in each layer's turns."""

    def __init__(self, hardware: Roofline) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.spent: dict[str, int] = defaultdict(int)
        self._hardware = hardware
        self._layer: str | None = None

    def forward_turn(self, layer: str, call: int) -> None:
        self._layer = layer

    backward_turn = forward_turn

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._layer is not None and not func.is_view:
            self.spent[self._layer] += self._hardware.duration_ns(func, args, result)
        return result


class _Stopwatch:
    """Adds up how long each layer's turns last."""

    def __init__(self) -> None:
        self._spent: dict[str, int] = defaultdict(int)
        self._turn: tuple[str, int] | None = None

    def forward_turn(self, layer: str, call: int) -> None:
        self._switch((layer, time.perf_counter_ns()))

    backward_turn = forward_turn

    def _switch(self, turn: tuple[str, int] | None) -> None:
        if self._turn is not None:
            layer, began = self._turn
            self._spent[layer] += time.perf_counter_ns() - began
        self._turn = turn

    def take(self) -> dict[str, int]:
        self._switch(None)
        spent, self._spent = dict(self._spent), defaultdict(int)
        return spent
