"""What the placement board shows of an Experiment, as plain data that goes to the browser. See model.js."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lab import breakdown, checks, devices, placement, rank_devices, strategies
from lab.errors import PlacementError
from lab.experiment import Experiment
from lab.outline import Outline, outline
from lab.vgpu import profiles
from widgets.board import words

if TYPE_CHECKING:
    from torch import nn

    from lab.state import RunState


def state(
    experiment: Experiment, chosen: Any = None, net: nn.Module | Callable[[], nn.Module] | None = None
) -> dict[str, Any]:
    """The board's state.

    Args:
        experiment: its devices become lanes, its net's layers chips.
        chosen: layer -> device, `even` or `auto`, in place of the Experiment's placement. Of a mapping, layers whose
            device is gone go to the first device; one for other layers is as good as none.
        net: the user's own module, where the Experiment names one.
    """
    drawn = outline(experiment, net)
    own = checks.rank_devices(experiment.devices, experiment.world_size or 1, 0)
    lanes = [_device(experiment, name) | {"also": _also(experiment, place)} for place, name in enumerate(own)]
    suggested, refused = _suggested(drawn, {lane["name"]: lane["capacity_bytes"] for lane in lanes})
    chosen = _chosen(drawn, own, experiment.placement if chosen is None else chosen)
    return {
        "devices": lanes,
        **_net(drawn),
        "suggested": suggested,
        "chosen": chosen,
        "refused": refused if chosen == "auto" else "",
        "copies": _copies(experiment, drawn),
        "note": _other_ranks(experiment),
    }


def measured(run: RunState) -> dict[str, Any]:
    """What a run has found out so far: each layer's share of the layers' time, each device's busy share, what crossed
    between them, and the placement that it settled on."""
    placed = run.placed
    spent = {path: sum(run.layers[path].values()) for path in (placed.layers if placed else {}) if path in run.layers}
    whole = sum(spent.values())
    busy = {name: share for name in run.device_names if (share := breakdown.busy(run, name)) is not None}
    return {
        "layers": {path: {"share": ns / whole} for path, ns in spent.items()} if whole else {},
        # Between the devices, in the last step; what the board itself says of it is a forecast.
        "crossed": None if run.group or run.crossing_is_forecast else run.crossing_bytes,
        "buckets": [bucket.bytes for bucket in run.buckets],
        "devices": {name: {"busy": share} for name, share in busy.items()},
        "placed": placed
        and {
            "method": placed.method,
            "layers": dict(placed.layers),
            "reason": placed.reason,
            "devices": list(run.device_names),
            # Every device or rank holds all layers.
            "whole": bool(placed.copies) or (run.world_size > 1 and len(set(placed.layers.values())) == 1),
        },
    }


def _net(drawn: Outline) -> dict[str, Any]:
    nodes = {node.name: node for node in drawn.graph.nodes}
    follows: dict[str, str] = {}
    for edge in drawn.graph.edges:
        follows.setdefault(edge.target, edge.source)
    needs = {cost.path: cost.memory_bytes for cost in drawn.costs}
    layers = [
        {
            "path": path,
            "module": nodes[path].module if path in nodes else "",
            "parameters": nodes[path].parameters if path in nodes else 0,
            "flops": nodes[path].forward_flops if path in nodes else 0,
            "memory_bytes": needs.get(path, 0),
            "share": None,
        }
        for path in drawn.layers
    ]
    others = [
        {
            "name": node.name,
            "kind": node.kind,
            # The input is where the first layer is, a join where its first operand is, the loss where the output is.
            "follows": drawn.layers[0] if node.kind == "input" else follows[node.name],
            "bytes": node.output_bytes,
        }
        for node in drawn.graph.nodes
        if node.kind != "layer" and (node.kind == "input" or node.name in follows)
    ]
    edges = [
        {
            "source": edge.source,
            "target": edge.target,
            "forward_bytes": edge.forward_bytes,
            "backward_bytes": edge.backward_bytes,
        }
        for edge in drawn.graph.edges
    ]
    return {"layers": layers, "others": others, "edges": edges}


def _device(experiment: Experiment, name: str) -> dict[str, Any]:
    if not name.startswith("vgpu"):
        info = _real().get(name)
        return {
            "name": name,
            "title": info.title if info else "",
            "capacity_bytes": info.memory_bytes if info else 0,
            "simulated": False,
        }
    profile = profiles.find(experiment.hardware)
    capacity = max(1, round(experiment.memory_mb * 1e6)) if experiment.memory_mb else profile.capacity_bytes
    return {"name": name, "title": profile.title, "capacity_bytes": capacity, "simulated": True}


@functools.cache
def _real() -> dict[str, Any]:
    return {info.name: info for info in devices.available()}


def _suggested(drawn: Outline, capacities: Mapping[str, int]) -> tuple[dict[str, Any], str]:
    """What Even and Auto would do, and why Auto can do nothing. Auto is None where only a run can measure the times."""
    suggested: dict[str, Any] = {"even": drawn.even(list(capacities)), "auto": None}
    try:
        suggested["auto"] = drawn.auto(capacities)
    except PlacementError as error:
        return suggested, words.NOTHING_AUTO.format(error=error)
    return suggested, ""


def _chosen(drawn: Outline, own: tuple[str, ...], chosen: Any) -> Any:
    if not isinstance(chosen, Mapping):
        return chosen if chosen in ("even", "auto") else "even"
    written = all(isinstance(word, str) for pair in chosen.items() for word in pair)
    if not written or len(chosen) > len(drawn.layers):
        return "even"
    placed = placement.resolve(chosen, drawn.layers)
    if len(placed) < len(drawn.layers):
        return "even"
    return {path: device if device in own else own[0] for path, device in placed.items()}


def _copies(experiment: Experiment, drawn: Outline) -> list[dict[str, Any]] | None:
    """A lane for each device or rank that holds the whole net; None where layers are placed."""
    entry = strategies.REGISTRY[experiment.strategy]
    ranks = experiment.world_size or 1
    if experiment.placement is not None or not entry.several_devices:
        return None
    if entry.several_ranks:
        return [_rank(experiment, drawn, rank) for rank in range(ranks)]
    # nn.DataParallel's scatter is Tensor.chunk: equal parts, and the last is what is left.
    count, batch = len(experiment.devices), experiment.batch_size
    size = -(-batch // count)
    parts = -(-batch // size)
    return [
        _copy(experiment, drawn, name, min(size, max(0, batch - index * size)), parts, index == 0 and count > 1)
        | {"part": [index, count]}
        for index, name in enumerate(experiment.devices)
    ]


def _copy(experiment: Experiment, drawn: Outline, name: str, samples: int, parts: int, keeps: bool) -> dict[str, Any]:
    batch = experiment.batch_size
    sentence = words.KEEPS if keeps else words.COPY if samples else words.NO_SAMPLES
    note = sentence.format(samples=samples, batch=batch, parts=parts)
    return {
        **_device(experiment, name),
        "device": name,
        "note": note,
        "samples": samples,
        "memory_bytes": _whole(drawn, samples, drawn.graph.batch_size),
    }


def _rank(experiment: Experiment, drawn: Outline, rank: int) -> dict[str, Any]:
    ranks = experiment.world_size or 1
    own = checks.rank_devices(experiment.devices, ranks, rank)
    lane = _copy(experiment, drawn, own[0], experiment.batch_size // ranks, ranks, keeps=False)
    if not experiment.gradient_as_bucket_view:
        lane["memory_bytes"] += _parameter_bytes(drawn)  # the buckets, beside the gradients
    shared = rank_devices.lane_names(experiment.devices, ranks, rank)
    return lane | {
        "name": words.RANK.format(rank=rank, devices=words.listed(own)),
        "device": shared.get(own[0], own[0]),
        "part": [rank, ranks],
    }


def _whole(drawn: Outline, samples: int, batch: int) -> int:
    """Bytes of the whole net with its gradients and optimizer state, and of the activations of so many samples."""
    kept = drawn.activation_bytes
    return sum(cost.memory_bytes for cost in drawn.costs) - kept + kept * samples // max(1, batch)


def _parameter_bytes(drawn: Outline) -> int:
    return sum(node.parameter_bytes for node in drawn.graph.nodes)


def _also(experiment: Experiment, place: int) -> list[str]:
    """The devices that hold, in the other ranks, what rank 0 has on its device in this place."""
    ranks = experiment.world_size or 1
    if experiment.placement is None:
        return []
    return [f"rank {rank} · {checks.rank_devices(experiment.devices, ranks, rank)[place]}" for rank in range(1, ranks)]


def _other_ranks(experiment: Experiment) -> str:
    """Where the other ranks have what the board places on rank 0's devices."""
    ranks = experiment.world_size or 1
    if ranks < 2 or experiment.placement is None:
        return ""
    others = [
        words.RANK_ON.format(rank=rank, devices=words.listed(checks.rank_devices(experiment.devices, ranks, rank)))
        for rank in range(1, ranks)
    ]
    return words.SAME_ON.format(others=words.listed(others))
