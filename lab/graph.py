"""The placement graph: traces one training step of a net into layers, the tensors between them, and their bytes.

The step runs on the `meta` device, where tensors have shapes and no numbers, so tracing takes no memory, no random
numbers, and no time on any device. A dispatch mode sees every operation and follows the tensors (`lab.following`). What
comes of it is a forecast of what will travel: a run measures what did.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lab.events import GraphEdge, GraphNode, PlacementGraph
from lab.following import Edge, Follower, Functions, Node
from lab.layers import ITSELF
from lab.own_nets import as_written, copy_of, without_numbers
from lab.strategies.base import backward, loss_function


class Trace:
    """One traced step: what every layer costs, and what goes from where to where, before any placement."""

    def __init__(self, nodes: dict[str, Node], edges: dict[tuple[str, str], Edge], batch_size: int) -> None:
        self._nodes = nodes
        self._edges = edges
        self.batch_size = batch_size

    @property
    def layers(self) -> list[str]:
        """The layers in the order in which the net first runs them or uses their weights."""
        return [name for name, node in self._nodes.items() if node.kind == "layer"]

    def parameters(self, layer: str) -> int:
        return self._nodes[layer].parameters

    def parameter_bytes(self, layer: str) -> int:
        return self._nodes[layer].parameter_bytes

    def activation_bytes(self, layer: str) -> int:
        """Bytes of all that the layer's forward makes: at most this is kept for backward."""
        return self._nodes[layer].activation_bytes

    def output_bytes(self, layer: str) -> int:
        return self._nodes[layer].output_bytes

    def placed(self, placement: Mapping[str, str]) -> PlacementGraph:
        """The graph with a device for every node; `placement` gives those of the layers.

        The input is on the device of the first layer, and a join where its first operand is, as model parallelism moves
        them; the loss is where the output is.
        """
        device = dict(placement)
        sources: dict[str, list[str]] = defaultdict(list)
        for source, target in self._edges:
            sources[target].append(source)
        for name, node in self._nodes.items():
            if node.kind == "input":
                device[name] = device[self.layers[0]]
            elif node.kind != "layer":
                # An output that no layer has made is where the last one is.
                device[name] = device[sources[name][0] if sources[name] else self.layers[-1]]
        return PlacementGraph(
            nodes=tuple(
                GraphNode(
                    name=name,
                    kind=node.kind,  # type: ignore[arg-type]
                    device=device[name],
                    module=node.module,
                    parameters=node.parameters,
                    parameter_bytes=node.parameter_bytes,
                    forward_flops=node.flops["forward"],
                    backward_flops=node.flops["backward"],
                    output_shape=node.shape,
                    output_bytes=node.output_bytes,
                    calls=max(1, node.calls),
                )
                for name, node in self._nodes.items()
            ),
            edges=tuple(
                GraphEdge(
                    source=source,
                    target=target,
                    shape=edge.shape,
                    forward_bytes=edge.forward_bytes,
                    backward_bytes=edge.backward_bytes,
                    crosses=device[source] != device[target],
                )
                for (source, target), edge in self._edges.items()
            ),
            batch_size=self.batch_size,
        )


def trace(net: nn.Module, layers: Sequence[str], inputs: Tensor, targets: Tensor) -> Trace:
    """Traces one training step.

    Args:
        net: any module, anywhere; a copy of it is traced.
        layers: the paths of its layers (`lab.layers.layer_paths`).
        inputs: one whole batch (B, ...); only its shape and dtype matter, unless the net looks at numbers.
        targets: the batch's targets.
    """
    layers = layers or [ITSELF]
    try:
        return _trace(without_numbers(net), layers, inputs.to("meta"), targets.to("meta"))
    except Exception:  # noqa: BLE001 - whatever the net does not find on the meta device, the CPU decides
        # The net looks at numbers (`.item()`, a branch on a value), which the meta device does not have.
        with torch.random.fork_rng(devices=[]):
            return _trace(copy_of(net).cpu(), layers, inputs, targets)


def untraced(net: nn.Module, layers: Sequence[str], inputs: Tensor) -> Trace:
    """What is known of a net that cannot be run here: its layers and their parameters, in the order of their
    definition, and nothing of what travels between them."""
    follower = Follower(copy_of(net), layers)
    follower.knows_layers(inputs)
    return Trace(follower.nodes, {}, len(inputs))


def _trace(net: nn.Module, layers: Sequence[str], inputs: Tensor, targets: Tensor) -> Trace:
    follower = Follower(net, layers)
    # Autograd's engine has a thread for each CUDA device, and a mode belongs to a thread: stay in this one.
    # What the net prints is for its real steps.
    with (
        torch.autograd.set_multithreading_enabled(False),
        contextlib.redirect_stdout(io.StringIO()),
        as_written(net),
        follower,
    ):
        follower.begins(inputs)
        with Functions(inputs.device, follower):
            outputs = net(inputs)
        follower.computes_loss(outputs)
        loss = loss_function(outputs, targets)
        follower.goes_back()
        backward(loss, Functions(inputs.device, follower))
    return Trace(follower.nodes, follower.edges, len(inputs))
