"""A model of placed layers: how long a step takes with given times of the layers, and what one move would change.

The schedule of model parallelism is played through: every part of the batch goes forward through the net's graph, part
after part, and then back. A device does what it is given in that order, one thing at a time; what a layer needs from
another device is copied first, which occupies both ends. Left out: what the host, the optimizer and the batch's own way
to the first device take.

For a chain of n equal stages that gives (m + n - 1) turns where there are m for each stage to work, so that each is
idle for (n - 1) / (m + n - 1) of the time (Huang et al., "GPipe", 2019).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.events import GraphEdge, PlacementGraph
from lab.vgpu.links import LinkModel

LIKE_THE_RUN = 0.25
"""The model has to come this close to the run's own step, as a part of it, before it may be asked about another."""
WORTH_IT = 0.05
"""A move that shortens a step by less is not worth a word."""
MOST_TURNS = 40_000
"""Turns of layers that are played through for an answer, at most: a fraction of a second."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the layers of a run take, for a whole batch."""

    forward_ns: Mapping[str, float]
    backward_ns: Mapping[str, float]
    graph: PlacementGraph
    """Its nodes in the order in which the net runs them."""
    microbatches: int
    link: LinkModel | None
    """Between two devices; None counts transfers as nothing."""


def ideal_bubble(stages: int, microbatches: int) -> float:
    """The idle share of each of n equal stages with m microbatches: (n - 1) / (m + n - 1)."""
    return (stages - 1) / (microbatches + stages - 1)


def step_ns(work: Work, layers: Mapping[str, str]) -> float:
    """How long a step takes with this placement, layer -> device."""
    nodes = [node.name for node in work.graph.nodes if node.kind in ("layer", "join")]
    home = {node.name: layers.get(node.name, node.device) for node in work.graph.nodes}
    needs, gives = defaultdict(list), defaultdict(list)
    between = set(nodes)
    for edge in work.graph.edges:
        # The batch comes from the host, and the targets go to the last device, whatever the placement.
        if edge.source in between and edge.target in between:
            needs[edge.target].append((edge.source, edge.forward_bytes))
            gives[edge.source].append((edge.target, edge.backward_bytes))
    free: dict[str, float] = defaultdict(float)
    for order, spent, before in ((nodes, work.forward_ns, needs), (nodes[::-1], work.backward_ns, gives)):
        for _ in range(work.microbatches):
            ended: dict[str, float] = {}
            for node in order:
                ready, here = 0.0, home[node]
                for other, size in before[node]:
                    arrives, there = ended.get(other, 0.0), home[other]
                    if there != here and size and work.link is not None:
                        begins = max(arrives, free[there], free[here])
                        arrives = begins + work.link.latency_ns + size / work.microbatches / work.link.bytes_per_ns
                        free[there] = free[here] = arrives
                    ready = max(ready, arrives)
                ended[node] = free[here] = max(ready, free[here]) + spent.get(node, 0.0) / work.microbatches
    return max(free.values(), default=0.0)


def best_move(
    work: Work, layers: Mapping[str, str], devices: Sequence[str], took_ns: float
) -> tuple[str, str, float] | None:
    """The one layer whose move shortens the modelled step most: (layer, to which device, by which share of it).

    Args:
        took_ns: what a step really took.

    Returns:
        None where the model is too far from the run to be asked, or no move is worth it.
    """
    candidates = _at_a_border(work.graph, layers)
    turns = 2 * work.microbatches * len(work.graph.nodes) * max(1, len(candidates) * (len(devices) - 1))
    if turns > MOST_TURNS:
        return None
    now = step_ns(work, layers)
    if now <= 0 or abs(now - took_ns) > LIKE_THE_RUN * took_ns:
        return None
    best: tuple[str, str, float] | None = None
    for layer in candidates:
        for device in devices:
            if device == layers[layer]:
                continue
            gain = 1 - step_ns(work, {**layers, layer: device}) / now
            if gain >= WORTH_IT and (best is None or gain > best[2]):
                best = layer, device, gain
    return best


def _at_a_border(graph: PlacementGraph, layers: Mapping[str, str]) -> list[str]:
    """Layers with a neighbour elsewhere, and the first and the last one: others would only cut the net once more."""
    home = {node.name: layers.get(node.name, node.device) for node in graph.nodes if node.kind in ("layer", "join")}

    def crosses(edge: GraphEdge) -> bool:
        return {edge.source, edge.target} <= home.keys() and home[edge.source] != home[edge.target]

    ends = {end for edge in graph.edges if crosses(edge) for end in (edge.source, edge.target)}
    order = list(layers)
    return [layer for layer in order if layer in ends or layer in (order[0], order[-1])]
