"""Placement: which layer lives on which device.

A placement is written as an ordered mapping from layer-path patterns to devices; the first match wins:

    {"conv1": "vgpu:0", "blocks.*": "vgpu:1", "*": "vgpu:0"}

This file turns patterns into a device for every layer, and finds good placements by itself.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lab.errors import PlacementError, Problem, did_you_mean, listed


def match(pattern: str, path: str) -> bool:
    """True when the pattern names this layer: as a shell pattern, or as a prefix that ends at a dot."""
    return pattern == path or path.startswith(pattern + ".") or fnmatch.fnmatchcase(path, pattern)


def resolve(patterns: Mapping[str, str], paths: Sequence[str]) -> dict[str, str]:
    """Layer path -> device, for every path that some pattern matches, in the order of `paths`."""
    placed = {}
    for path in paths:
        for pattern, device in patterns.items():
            if match(pattern, path):
                placed[path] = device
                break
    return placed


def without_effect(patterns: Mapping[str, str], paths: Sequence[str]) -> dict[str, str]:
    """Pattern that never applies -> the first pattern before it that takes a layer from it."""
    found: dict[str, str] = {}
    before: list[str] = []
    for pattern in patterns:
        wanted = [path for path in paths if match(pattern, path)]
        taken = [next((other for other in before if match(other, path)), None) for path in wanted]
        if taken and taken[0] is not None and all(taken):
            found[pattern] = taken[0]
        before.append(pattern)
    return found


def shortest(placed: Mapping[str, str]) -> dict[str, str]:
    """The shortest ordered patterns with that meaning: the device with most layers takes all that are left."""
    if not placed:
        return {}
    most, _ = Counter(placed.values()).most_common(1)[0]
    return {path: device for path, device in placed.items() if device != most} | {"*": most}


def problems(patterns: Mapping[str, str], paths: Sequence[str]) -> list[Problem]:
    """Patterns that name no layer, and layers that no pattern names."""
    found = [
        Problem(
            "placement", f"{pattern!r} matches no layer{did_you_mean(pattern, paths)}; the layers are {listed(paths)}"
        )
        for pattern in patterns
        if not any(match(pattern, path) for path in paths)
    ]
    placed = resolve(patterns, paths)
    missing = [path for path in paths if path not in placed]
    if missing:
        found.append(
            Problem(
                "placement", f"gives no device to {listed(missing)}; name them, or end with '*' for all that are left"
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one layer asks of a device in one training step."""

    path: str
    time_ns: int
    """Forward and backward."""
    memory_bytes: int
    """Parameters, gradients, optimizer state, and activations kept for backward."""
    output_bytes: int
    """What crosses if the next layer lives elsewhere."""


def even(parameters: Mapping[str, int], devices: Sequence[str], tied: Sequence[Sequence[str]] = ()) -> dict[str, str]:
    """A contiguous cut that gives each device about the same number of parameters.

    Args:
        parameters: layer path -> number of parameters, in the order in which the net runs them.
        tied: groups of layers that have to be on one device.
    """
    costs = [LayerCost(path, count, 0, 0) for path, count in parameters.items()]
    return balance(costs, dict.fromkeys(devices), tied)


def balance(
    costs: Sequence[LayerCost], capacities: Mapping[str, int | None], tied: Sequence[Sequence[str]] = ()
) -> dict[str, str]:
    """The contiguous cut whose slowest stage is fastest, with every stage within its device's memory.

    Of equal cuts, the one that moves fewer bytes wins. Exact, by dynamic programming over (layers done, devices used):
    `O(layers² · devices)`; this is the linear partition problem, as pipeline planners such as PipeDream
    (Narayanan et al., SOSP 2019, section 3.1) solve it.

    Layers that share parameters stay together, with all that runs between them. Where that would leave a device without
    layers (the first and the last layer of many language models are tied), the later ones go to the first of them
    instead, and what runs between may be elsewhere.

    Args:
        capacities: device -> bytes, None for no limit, in the order in which the stages use them.
        tied: groups of layers that have to be on one device.

    Raises:
        PlacementError: when no such cut fits in memory.
    """
    if not tied:
        return _balanced([[cost] for cost in costs], capacities)
    apart = _blocks(costs, tied)
    try:
        together = _balanced(_with_all_between(costs, tied), capacities)
    except PlacementError:
        return _in_order(costs, _balanced(apart, capacities))
    other: dict[str, str] | None
    try:
        other = _balanced(apart, capacities)
    except PlacementError:
        other = None
    if other is not None and len(set(other.values())) > len(set(together.values())):
        together = other
    return _in_order(costs, together)


def _in_order(costs: Sequence[LayerCost], placed: Mapping[str, str]) -> dict[str, str]:
    return {cost.path: placed[cost.path] for cost in costs}


def _blocks(costs: Sequence[LayerCost], tied: Sequence[Sequence[str]]) -> list[list[LayerCost]]:
    """Each tied group as one block, where its first layer is; other layers alone."""
    group_of = {path: place for place, group in enumerate(tied) for path in group}
    blocks: list[list[LayerCost]] = []
    known: dict[int, list[LayerCost]] = {}
    for cost in costs:
        place = group_of.get(cost.path)
        if place is not None and place in known:
            known[place].append(cost)
            continue
        blocks.append([cost])
        if place is not None:
            known[place] = blocks[-1]
    return blocks


def _with_all_between(costs: Sequence[LayerCost], tied: Sequence[Sequence[str]]) -> list[list[LayerCost]]:
    """Blocks of layers that follow each other, none of which cuts a tied group in two."""
    place = {cost.path: index for index, cost in enumerate(costs)}
    spans = [[place[path] for path in group if path in place] for group in tied]
    inside = {index for span in spans if span for index in range(min(span) + 1, max(span) + 1)}
    blocks: list[list[LayerCost]] = []
    for index, cost in enumerate(costs):
        if index in inside:
            blocks[-1].append(cost)
        else:
            blocks.append([cost])
    return blocks


def _balanced(blocks: Sequence[Sequence[LayerCost]], capacities: Mapping[str, int | None]) -> dict[str, str]:
    """Layer path -> device, with the layers of a block on the same."""
    summed = [
        LayerCost(
            block[0].path,
            sum(cost.time_ns for cost in block),
            sum(cost.memory_bytes for cost in block),
            block[-1].output_bytes,
        )
        for block in blocks
    ]
    placed = _assign(summed, list(capacities), _cut(summed, list(capacities.values())))
    return {cost.path: placed[block[0].path] for block in blocks for cost in block}


def _assign(costs: Sequence[LayerCost], devices: Sequence[str], bounds: Sequence[int]) -> dict[str, str]:
    placed = {}
    for stage, (first, last) in enumerate(pairwise(bounds)):
        placed.update({cost.path: devices[stage] for cost in costs[first:last]})
    return placed


def _cut(costs: Sequence[LayerCost], capacities: Sequence[int | None]) -> list[int]:
    """Bounds of the stages: stage d runs the layers `bounds[d]` to `bounds[d + 1] - 1`. A stage may be empty.

    In two passes, since a cut whose first stages are not the fastest may still be the one that moves fewest bytes:
    first how fast the slowest stage can be, then the fewest bytes among the cuts with no slower one.
    """
    fastest = _sweep(costs, capacities, None, lambda slowest, time_ns, _: max(slowest, time_ns))
    if fastest is None:
        needed = sum(cost.memory_bytes for cost in costs)
        limit = sum(capacity for capacity in capacities if capacity is not None)
        largest = max(costs, key=lambda cost: cost.memory_bytes)
        raise PlacementError(
            f"no contiguous placement fits: the net needs about {needed / 1e6:.1f} MB, its largest layer "
            f"{largest.path!r} {largest.memory_bytes / 1e6:.1f} MB, and the {len(capacities)} devices hold "
            f"{limit / 1e6:.1f} MB together. Use more devices, more memory, or a smaller batch."
        )
    fewest = _sweep(costs, capacities, fastest[0], lambda crossing, _, cut_bytes: crossing + cut_bytes)
    return (fewest or fastest)[1]


def _sweep(
    costs: Sequence[LayerCost],
    capacities: Sequence[int | None],
    slowest_ns: int | None,
    combine: Callable[[int, int, int], int],
) -> tuple[int, list[int]] | None:
    """The least value of a cut and its bounds; None when none fits.

    Args:
        slowest_ns: no stage may take longer; None for no limit.
        combine: (value of the stages before, time of this stage, bytes that leave it) -> value with this stage.
    """
    count = len(costs)
    time, memory = [0], [0]
    for cost in costs:
        time.append(time[-1] + cost.time_ns)
        memory.append(memory[-1] + cost.memory_bytes)

    # best[i]: the least value of running the first i layers on the devices so far, and how.
    best: list[tuple[int, list[int]] | None] = [(0, [0])] + [None] * count
    for capacity in capacities:
        step: list[tuple[int, list[int]] | None] = [None] * (count + 1)
        for start, before in enumerate(best):
            if before is None:
                continue
            value, bounds = before
            for end in range(start, count + 1):
                if capacity is not None and memory[end] - memory[start] > capacity:
                    break
                if slowest_ns is not None and time[end] - time[start] > slowest_ns:
                    break
                cut_bytes = costs[end - 1].output_bytes if start < end < count else 0
                option = combine(value, time[end] - time[start], cut_bytes)
                known = step[end]
                # Of equal ones the last wins, which gives the first devices most: they are not left empty.
                if known is None or option <= known[0]:
                    step[end] = (option, [*bounds, end])
        best = step
    return best[count]
