"""The placement graph: traces one training step of a net into layers, the tensors between them, and their bytes.

The step runs on the `meta` device, where tensors have shapes and no numbers, so tracing takes no memory, no random
numbers, and no time on any device. A dispatch mode sees every operation and follows the tensors: what a layer makes
belongs to it, and so does what functional operations (a ReLU, a pooling) make of that alone. An operation that joins
tensors of several layers, such as the addition of a residual connection, becomes a node of its own.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lab._torch_compat import TorchDispatchMode, flop_formula, operator_name, storage_key
from lab.errors import LabError
from lab.events import GraphEdge, GraphNode, PlacementGraph
from lab.layers import LayerHooks
from lab.strategies.base import loss_function

INPUT, LOSS = "input", "loss"


@dataclass(slots=True)
class _Node:
    kind: str
    module: str = ""
    shape: tuple[int, ...] = ()
    output_bytes: int = 0
    calls: int = 0
    activation_bytes: int = 0
    parameters: int = 0
    parameter_bytes: int = 0
    flops: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(slots=True)
class _Edge:
    shape: tuple[int, ...]
    forward_bytes: int = 0
    backward_bytes: int = 0


class Trace:
    """One traced step: what every layer costs, and what goes from where to where, before any placement."""

    def __init__(self, nodes: dict[str, _Node], edges: dict[tuple[str, str], _Edge], batch_size: int) -> None:
        self._nodes = nodes
        self._edges = edges
        self.batch_size = batch_size

    @property
    def layers(self) -> list[str]:
        """The layers in the order in which the net runs them."""
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
                device[name] = device[sources[name][0]]
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
    try:
        return _trace(copy.deepcopy(net).to("meta"), layers, inputs.to("meta"), targets.to("meta"))
    except Exception:  # noqa: BLE001 - whatever the net does not find on the meta device, the CPU decides
        # The net looks at numbers (`.item()`, a branch on a value), which the meta device does not have.
        with torch.random.fork_rng(devices=[]):
            return _trace(copy.deepcopy(net).cpu(), layers, inputs, targets)


def _trace(net: nn.Module, layers: Sequence[str], inputs: Tensor, targets: Tensor) -> Trace:
    follower = _Follower(net, layers)
    follower.enter(inputs)
    # Autograd's engine has a thread for each CUDA device, and a mode belongs to a thread: stay in this one.
    # What the net prints is for its real steps.
    silence = contextlib.redirect_stdout(io.StringIO())
    with torch.autograd.set_multithreading_enabled(False), silence, _OneDevice(inputs.device), follower:
        follower.hooks.start_forward()
        outputs = net(inputs)
        follower.leave(outputs)
        loss = loss_function(outputs, targets)
        follower.hooks.start_backward()
        loss.backward()
    return Trace(follower.nodes, follower.edges, len(inputs))


class _OneDevice(TorchFunctionMode):
    """Keeps a net that moves its own tensors (`.to("vgpu:1")`) on the device where it is traced."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.cpu, Tensor.cuda):
            return args[0]
        if func is Tensor.to:
            kwargs.pop("device", None)
            args = tuple(value for value in args if isinstance(value, bool) or not isinstance(value, _DEVICES))
            if len(args) == 1 and not kwargs:
                return args[0]
        elif kwargs.get("device") is not None:
            kwargs["device"] = self._device
        return func(*args, **kwargs)


_DEVICES = (str, int, torch.device)


class _Follower(TorchDispatchMode):
    """Follows tensors by their storage, which views share with what they are views of."""

    def __init__(self, net: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: dict[str, _Node] = {INPUT: _Node("input")}
        self.edges: dict[tuple[str, str], _Edge] = {}
        self._origin: dict[int, str] = {}
        state = [*net.parameters(), *net.buffers()]
        self._state = {storage_key(tensor) for tensor in state}
        self._kept: list[Tensor] = []  # a storage that is gone could lend its identity to another
        self._inside: str | None = None
        self._turn: tuple[str, str] | None = None
        for path in layers:
            layer = net.get_submodule(path)
            layer.register_forward_pre_hook(self._enter_layer(path), with_kwargs=True)
            layer.register_forward_hook(self._leave_layer)
        self.hooks = LayerHooks(net, layers, self)

    # -- the turns of the layers, for counting FLOPs ---------------------------------------------------------------

    def forward_turn(self, layer: str, call: int) -> None:
        self._turn = ("forward", layer)

    def backward_turn(self, layer: str, call: int) -> None:
        self._turn = ("backward", layer)

    # -- where tensors come from -----------------------------------------------------------------------------------

    def enter(self, inputs: Tensor) -> None:
        self._claim(inputs, INPUT)
        self._describe(INPUT, inputs)

    def leave(self, outputs: Tensor) -> None:
        if not isinstance(outputs, Tensor):
            raise LabError(
                f"the net returned a {type(outputs).__name__}; the lab trains nets that return one tensor: "
                "(B, classes), or (B, T, classes) for tokens"
            )
        self.nodes[LOSS] = _Node("loss", module="cross_entropy")
        self._connect(outputs, LOSS)
        self._turn = None
        self._inside = LOSS

    def _enter_layer(self, path: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            node = self.nodes.get(path)
            if node is None:
                parameters = list(layer.parameters())
                node = self.nodes[path] = _Node(
                    "layer",
                    module=type(layer).__name__,
                    parameters=sum(p.numel() for p in parameters),
                    parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
                )
            node.calls += 1
            for tensor in _tensors((args, kwargs)):
                self._connect(tensor, path)
            self._inside = path

        return hook

    def _leave_layer(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        path, self._inside = self._inside, None
        for tensor in _tensors(output):
            if path is not None:
                self._claim(tensor, path)
                self._describe(path, tensor)

    def _claim(self, tensor: Tensor, owner: str) -> None:
        self._kept.append(tensor)
        self._origin[storage_key(tensor)] = owner

    def _describe(self, name: str, tensor: Tensor) -> None:
        self.nodes[name].shape = tuple(tensor.shape)
        self.nodes[name].output_bytes = tensor.numel() * tensor.element_size()

    def _connect(self, tensor: Tensor, target: str) -> None:
        source = self._origin.get(storage_key(tensor))
        if source is None or source == target:
            return
        size = tensor.numel() * tensor.element_size()
        edge = self.edges.setdefault((source, target), _Edge(tuple(tensor.shape)))
        edge.forward_bytes += size
        edge.backward_bytes += size if tensor.requires_grad else 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._turn is not None:
            count = flop_formula(func)
            if count is not None:
                self.nodes[self._turn[1]].flops[self._turn[0]] += count(*args, **kwargs, out_val=result)
        if self._turn is None or self._turn[0] == "forward":
            self._follow(func, args, kwargs, result)
        return result

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        outputs = _tensors(result)
        if self._inside is not None:
            owner = self._inside
        else:
            operands = _tensors((args, kwargs))
            sources = list(dict.fromkeys(filter(None, (self._source(tensor) for tensor in operands))))
            if not sources:
                return
            owner = sources[0]
            if len(sources) > 1:
                owner = self._join(func, operands)
        for tensor in outputs:
            if storage_key(tensor) in self._state:
                continue  # a view of a weight, or a running mean: no layer makes it
            fresh = storage_key(tensor) not in self._origin
            if fresh and self._turn is not None and self._turn[1] in self.nodes:
                self.nodes[self._turn[1]].activation_bytes += tensor.numel() * tensor.element_size()
            self._claim(tensor, owner)
            if self.nodes[owner].kind == "join":
                self._describe(owner, tensor)

    def _source(self, tensor: Tensor) -> str | None:
        return self._origin.get(storage_key(tensor))

    def _join(self, func: Any, operands: list[Tensor]) -> str:
        operator = operator_name(func)
        number = sum(node.kind == "join" and node.module == operator for node in self.nodes.values())
        name = operator if not number else f"{operator}_{number + 1}"
        self.nodes[name] = _Node("join", module=operator)
        for tensor in operands:
            self._connect(tensor, name)
        return name


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [tensor for item in value for tensor in _tensors(item)]
