"""Where the nodes of a placement graph stand: columns by depth, lanes by device; large graphs are folded first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from lab.events import GraphNode, PlacementGraph

MAX_BOXES = 16


@dataclass(slots=True)
class Box:
    """One or more layers that follow each other on one device."""

    label: str
    device: str
    nodes: list[GraphNode] = field(default_factory=list)
    column: int = 0
    row: int = 0
    """Within its lane: boxes of one column on one device stand below each other."""

    @property
    def parameters(self) -> int:
        return sum(node.parameters for node in self.nodes)

    @property
    def forward_flops(self) -> int:
        return sum(node.forward_flops for node in self.nodes)

    @property
    def layers(self) -> int:
        return sum(node.kind == "layer" for node in self.nodes)


@dataclass(slots=True)
class Line:
    """What goes from one box to another."""

    source: int
    target: int
    forward_bytes: int
    backward_bytes: int
    crosses: bool


@dataclass(slots=True)
class Layout:
    boxes: list[Box]
    lines: list[Line]
    columns: int
    rows: dict[str, int]
    """Device -> rows in its lane."""


def layout(graph: PlacementGraph, max_boxes: int = MAX_BOXES) -> Layout:
    """Places every node, or every group of nodes when there are more than `max_boxes`."""
    boxes = _folded(graph, max_boxes)
    home = {node.name: index for index, box in enumerate(boxes) for node in box.nodes}
    lines: dict[tuple[int, int], Line] = {}
    for edge in graph.edges:
        if edge.source not in home or edge.target not in home:
            continue
        pair = home[edge.source], home[edge.target]
        if pair[0] == pair[1]:
            continue
        line = lines.setdefault(pair, Line(*pair, 0, 0, False))
        line.forward_bytes += edge.forward_bytes
        line.backward_bytes += edge.backward_bytes
        line.crosses |= edge.crosses
    _columns(boxes, list(lines.values()))
    taken: dict[tuple[str, int], int] = defaultdict(int)
    for box in boxes:
        box.row = taken[box.device, box.column]
        taken[box.device, box.column] += 1
    rows = {
        device: max(n for (name, _), n in taken.items() if name == device) for device in {box.device for box in boxes}
    }
    return Layout(boxes, list(lines.values()), 1 + max((box.column for box in boxes), default=0), rows)


def _columns(boxes: list[Box], lines: list[Line]) -> None:
    """Longest path from the inputs: the boxes come in the order in which they run, so one pass is enough."""
    for line in sorted(lines, key=lambda line: line.source):
        if line.target > line.source:
            boxes[line.target].column = max(boxes[line.target].column, boxes[line.source].column + 1)
    # A box that nothing leads to, such as a position embedding, stands just before the first that it leads to.
    targets = {line.target for line in lines}
    for index, box in enumerate(boxes):
        leads_to = [boxes[line.target].column for line in lines if line.source == index]
        if index not in targets and leads_to:
            box.column = min(leads_to) - 1


def _folded(graph: PlacementGraph, max_boxes: int) -> list[Box]:
    """Joins runs of nodes with the same path prefix and device, deepest paths first, until few enough are left.

    Only nodes that follow each other in the order of the run are joined, so no circle can arise.
    """
    deepest = max((node.name.count(".") for node in graph.nodes), default=0)
    boxes = [Box(node.name, node.device, [node]) for node in graph.nodes]
    for depth in range(deepest, 0, -1):
        if len(boxes) <= max_boxes:
            return boxes
        boxes = _join(graph.nodes, depth)
    while len(boxes) > max_boxes:
        pairs = [(len(a.nodes) + len(b.nodes), i) for i, (a, b) in enumerate(pairwise(boxes)) if _alike(a, b)]
        if not pairs:
            return boxes
        _, i = min(pairs)
        first, second = boxes[i], boxes[i + 1]
        nodes = first.nodes + second.nodes
        boxes[i : i + 2] = [Box(f"{first.nodes[0].name} … {second.nodes[-1].name}", first.device, nodes)]
    return boxes


def _join(nodes: tuple[GraphNode, ...], depth: int) -> list[Box]:
    """Groups by the first `depth` parts of the path; a join (an addition) goes with the group before it."""
    boxes: list[Box] = []
    for node in nodes:
        parts = node.name.split(".")
        prefix = ".".join(parts[:depth]) if len(parts) > depth else node.name
        last = boxes[-1] if boxes else None
        same = last is not None and last.device == node.device and last.nodes[0].kind in ("layer", "join")
        if last is not None and same and (last.label == prefix or (node.kind == "join" and "." in last.nodes[0].name)):
            last.nodes.append(node)
        else:
            boxes.append(Box(prefix, node.device, [node]))
    return boxes


def _alike(first: Box, second: Box) -> bool:
    kinds = {node.kind for box in (first, second) for node in box.nodes}
    return first.device == second.device and not kinds & {"input", "loss"}
