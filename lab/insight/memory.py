"""Findings about layers and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.events import PURPOSES, Purpose
from lab.insight.findings import Finding, HeaviestLayer, LargestLayer, MemoryUse
from lab.insight.settings import Settings
from lab.insight.window import Window
from lab.state import RunState

NEARLY_FULL = 0.85
"""Of a device's capacity: a little more of anything, and it runs out."""
AHEAD = 1.04
"""Times as much as the next layer: from there on it is worth a word."""
STATES = {"sgd": 1, "adam": 2, "adamw": 2}
"""Tensors that the optimizer keeps for each parameter."""


def of_layers(state: RunState, settings: Settings, window: Window) -> list[Finding]:
    """Which layer takes most of the time, in the last steps."""
    known = state.placed.layers if state.placed else {}
    spent: dict[str, int] = dict.fromkeys(known, 0)
    turns: dict[str, set[tuple[str, int]]] = {layer: set() for layer in known}
    for span in window.spans:
        if span.kind in ("forward", "backward") and span.name in known:
            spent[span.name] += span.duration_ns
            turns[span.name].add((span.device, span.rank))
    whole = sum(spent.values())
    if len(spent) < 2 or not whole:
        return []
    layer = _ahead(spent)
    if layer is None:
        return []
    # Copies of the net, in one process or in several, do the same side by side.
    of_step = spent[layer] / len(turns[layer]) / window.length_ns
    each = of_step * (state.step_seconds or 0.0)  # beside the median step, which a few slow ones do not change
    share = spent[layer] / whole
    return [HeaviestLayer(basis=settings.basis, place="aside", layer=layer, share=share, seconds_per_step=each)]


def largest_layer(state: RunState, settings: Settings) -> list[Finding]:
    """Which layer asks for most memory: by its shapes, whatever the device."""
    if state.graph is None:
        return []
    copies = 2 + _states(settings.fields)
    sizes = {
        node.name: node.parameter_bytes * copies + node.output_bytes
        for node in state.graph.nodes
        if node.kind == "layer"
    }
    whole = sum(sizes.values())
    if len(sizes) < 2 or not whole:
        return []
    layer = _ahead(sizes)
    if layer is None:
        return []
    return [LargestLayer(basis="model", place="aside", layer=layer, bytes=sizes[layer], share=sizes[layer] / whole)]


def _ahead(sizes: Mapping[str, int]) -> str | None:
    """The layer with most; None where the next one has about as much, as in a stack of equal blocks."""
    first, second = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:2]
    return first if sizes[first] > AHEAD * sizes[second] else None


def _states(fields: dict[str, Any]) -> int:
    optimizer = str(fields.get("optimizer", "sgd"))
    return 0 if optimizer == "sgd" and not fields.get("momentum") else STATES.get(optimizer, 1)


def ran_out(state: RunState) -> bool:
    """Whether the run failed because a device's memory was full."""
    return state.failure is not None and state.failure.cause.startswith("OutOfMemoryError")


def of_devices(state: RunState) -> list[Finding]:
    """The fullest device with a memory of its own: on a CPU, the rest of the machine is part of the figure."""
    sizes = {
        device.name: (state.memory[device.name].peak, state.memory[device.name].capacity)
        for device in (state.started.devices if state.started else ())
        if device.name in state.memory and device.name.rpartition(" · ")[2] != "cpu"
    }
    full = {name: peak / capacity for name, (peak, capacity) in sizes.items() if capacity and peak}
    if not full:
        return []
    device = max(full, key=lambda name: full[name])
    purpose, share = _purpose(state, device)
    return [
        MemoryUse(
            basis="measured",
            place="urgent" if full[device] >= NEARLY_FULL else "aside",
            device=device,
            peak_bytes=sizes[device][0],
            capacity_bytes=sizes[device][1],
            purpose=purpose,
            purpose_share=share,
        )
    ]


def _purpose(state: RunState, device: str) -> tuple[Purpose | None, float]:
    """What took most of the device's memory when a traced step needed most, and which part of it."""
    traced = state.memory_traces.get(device)
    if traced is None or not traced.times_ns:
        return None, 0.0
    sums = [sum(sizes) for sizes in zip(*traced.sizes.values(), strict=True)]
    peak = max(range(len(sums)), key=lambda index: sums[index])
    if not sums[peak]:
        return None, 0.0
    at_peak = {purpose: traced.sizes[purpose][peak] for purpose in PURPOSES if purpose in traced.sizes}
    most = max(at_peak, key=lambda purpose: at_peak[purpose])
    return most, at_peak[most] / sums[peak]
