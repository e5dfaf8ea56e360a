"""Follows the tensors of one traced step: which layer makes each of them, and what goes from where to where.

What a layer makes belongs to it, and so does what functional operations (a ReLU, a pooling) make of that alone. An
operation that joins tensors of several layers becomes a node of its own, where its first operand is. A layer's weight
that is used without a call of the layer (`F.linear(x, self.embed.weight)`) is something that the layer sends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lab._torch_compat import TorchDispatchMode, flop_formula, operator_name, storage_key
from lab.errors import LabError
from lab.layers import LayerHooks, layer_at, own_name
from lab.structures import tensors


@dataclass(slots=True)
class Node:
    """As `GraphNode`, while it is being found out."""

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
class Edge:
    """As `GraphEdge`, while it is being found out."""

    shape: tuple[int, ...]
    forward_bytes: int = 0
    backward_bytes: int = 0


class Functions(TorchFunctionMode):
    """Tells the follower which function the net calls, and keeps a net that moves its own tensors (`.to("vgpu:1")`) on
    the device where it is traced."""

    def __init__(self, device: torch.device, follower: Follower) -> None:
        super().__init__()
        self._device, self._follower = device, follower

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
        self._follower.function_begins((args, kwargs))
        return func(*args, **kwargs)


_DEVICES = (str, int, torch.device)


class Follower(TorchDispatchMode):
    """Follows tensors by their storage, which views share with what they are views of.

    Args:
        net: a copy of the net, which is hooked.
        layers: their paths, as `lab.layers.run_layers` has them.
    """

    def __init__(self, net: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._layers = {path: layer_at(net, path) for path in layers}
        self.input, self.loss = own_name("input", layers), own_name("loss", layers)
        self.nodes: dict[str, Node] = {self.input: Node("input")}
        self.edges: dict[tuple[str, str], Edge] = {}
        self._origin: dict[int, str] = {}
        self._owners: dict[int, list[str]] = {storage_key(t): [] for t in (*net.parameters(), *net.buffers())}
        """Storage of a parameter or buffer -> the layers that it belongs to."""
        for path, layer in self._layers.items():
            for tensor in (*layer.parameters(), *layer.buffers()):
                self._owners[storage_key(tensor)].append(path)
        self._counted: set[nn.Parameter] = set()
        self._kept: list[Tensor] = []  # a storage that is gone could lend its identity to another
        self._running: list[tuple[str, set[int]]] = []
        """The layer that runs, behind those that have called it, each with the storages that its inputs are in."""
        self._first: str | None = None
        """Where the first operand of the function comes from that the net has called last."""
        self._joined: str | None = None
        """The join that this function has become."""
        self._turn: tuple[str, str] | None = None
        self._recomputing = False
        for path, layer in self._layers.items():
            self._hook(path, layer)
        self.hooks = LayerHooks(net, layers, self)

    def _hook(self, path: str, layer: nn.Module) -> None:
        if not isinstance(layer, torch.jit.ScriptModule):
            layer.register_forward_pre_hook(
                lambda layer, args, kwargs: self._enter(path, (args, kwargs)), with_kwargs=True
            )
            layer.register_forward_hook(lambda layer, args, output: self._leave(output))
            return
        forward = layer.forward  # a scripted layer takes no hooks

        def followed(*args: Any, **kwargs: Any) -> Any:
            self._enter(path, (args, kwargs))
            output = forward(*args, **kwargs)
            self._leave(output)
            return output

        layer.forward = followed

    # -- the turns of the layers, for counting FLOPs ---------------------------------------------------------------

    def forward_turn(self, layer: str, call: int) -> None:
        self._turn = ("forward", layer)

    def backward_turn(self, layer: str, call: int) -> None:
        self._turn = ("backward", layer)

    # -- the step ------------------------------------------------------------------------------------------------------

    def begins(self, inputs: Tensor) -> None:
        self._claim(inputs, self.input)
        self._describe(self.input, inputs)
        self.hooks.start_forward()

    def knows_layers(self, inputs: Tensor) -> None:
        """In place of a step, where none can be run."""
        self._describe(self.input, inputs)
        for path in self._layers:
            self._node(path)
        self.nodes[self.loss] = Node("loss", module="cross_entropy")

    def computes_loss(self, outputs: Tensor) -> None:
        """The net has given this.

        Raises:
            LabError: when that is not one tensor.
        """
        if not isinstance(outputs, Tensor):
            raise LabError(
                f"the net returned a {type(outputs).__name__}; the lab trains nets that return one tensor: "
                "(B, classes), or (B, T, classes) for tokens"
            )
        self.nodes[self.loss] = Node("loss", module="cross_entropy")
        self._connect(outputs, self.loss)
        self._turn = None
        self._running = [(self.loss, set())]

    def goes_back(self) -> None:
        """From here on a layer that is called computes again what a checkpoint dropped."""
        self._running, self._recomputing = [], True
        self.hooks.start_backward()

    # -- where tensors come from -----------------------------------------------------------------------------------

    def _enter(self, path: str, given: Any) -> None:
        found = tensors(given)
        for tensor in found:
            self._connect(tensor, path)
        self._node(path).calls += not self._recomputing
        self._running.append((path, {storage_key(tensor) for tensor in found}))

    def _leave(self, output: Any) -> None:
        path, _ = self._running.pop()
        for tensor in tensors(output):
            self._claim(tensor, path)
            self._describe(path, tensor)

    def _node(self, path: str) -> Node:
        """A layer's node, made when the layer is first called or its weight first used. What layers share counts for
        the first of them."""
        node = self.nodes.get(path)
        if node is None:
            layer = self._layers[path]
            own = [parameter for parameter in layer.parameters() if parameter not in self._counted]
            self._counted.update(own)
            node = self.nodes[path] = Node(
                "layer",
                module=type(layer).__name__,
                parameters=sum(p.numel() for p in own),
                parameter_bytes=sum(p.numel() * p.element_size() for p in own),
            )
        return node

    def _claim(self, tensor: Tensor, owner: str) -> None:
        self._kept.append(tensor)
        self._origin[storage_key(tensor)] = owner

    def _describe(self, name: str, tensor: Tensor) -> None:
        self.nodes[name].shape = tuple(tensor.shape)
        self.nodes[name].output_bytes = tensor.numel() * tensor.element_size()

    def _source(self, tensor: Tensor) -> str | None:
        key = storage_key(tensor)
        owners = self._owners.get(key)
        if owners:
            return next((path for path in owners if path in self.nodes), owners[0])
        return self._origin.get(key)

    def _connect(self, tensor: Tensor, target: str) -> None:
        source = self._source(tensor)
        if source is None or source == target or target in self._owners.get(storage_key(tensor), ()):
            return
        if self._recomputing and (source, target) not in self.edges:
            return
        if source in self._layers:
            self._node(source)
        size = tensor.numel() * tensor.element_size()
        edge = self.edges.setdefault((source, target), Edge(tuple(tensor.shape)))
        edge.forward_bytes += size
        # What is computed again moves again, and its gradient flows once: it may be that only this time it has one.
        flows = tensor.requires_grad and not (self._recomputing and edge.backward_bytes)
        edge.backward_bytes += size if flows else 0

    # -- operations ----------------------------------------------------------------------------------------------------

    def function_begins(self, given: Any) -> None:
        """The net calls a function of PyTorch's: its operands come together where the first one is."""
        self._joined = None
        first = next((tensor for tensor in tensors(given) if tensor.dim()), None)
        self._first = None if first is None else self._source(first)
        if self._running and self._running[-1][0] != self.loss:
            inside, brought = self._running[-1]
            for tensor in tensors(given):
                # What a layer uses besides its inputs and its own: another layer's weight, or what that has made.
                if tensor.dim() and storage_key(tensor) not in brought:
                    self._connect(tensor, inside)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._turn is not None:
            count = flop_formula(func)
            if count is not None and self._turn[1] in self.nodes:
                self.nodes[self._turn[1]].flops[self._turn[0]] += count(*args, **kwargs, out_val=result)
        if self._turn is None or self._turn[0] == "forward":
            self._follow(func, (args, kwargs), tensors(result))
        return result

    def _follow(self, func: Any, given: Any, outputs: list[Tensor]) -> None:
        owner = self._running[-1][0] if self._running else self._outside(func, tensors(given))
        if owner is None:
            return
        for tensor in outputs:
            key = storage_key(tensor)
            if key in self._owners:
                continue  # a view of a weight, or a running mean: no layer makes it
            fresh = key not in self._origin
            if fresh and not self._recomputing and self._turn is not None and self._turn[1] in self.nodes:
                self.nodes[self._turn[1]].activation_bytes += tensor.numel() * tensor.element_size()
            if fresh or not func.is_view:  # a view that a layer takes of its input leaves the input another layer's
                self._claim(tensor, owner)
            if self.nodes[owner].kind == "join":
                self._describe(owner, tensor)

    def _outside(self, func: Any, operands: list[Tensor]) -> str | None:
        """Whose the results of an operation between layers are: that of the one whose tensors it takes, or a join's."""
        sources = list(dict.fromkeys(filter(None, (self._source(tensor) for tensor in operands))))
        if not sources:
            return None
        owner = self._first if self._first in sources else sources[0]
        if len(sources) > 1:
            owner = self._join(func, operands, owner)
        if owner in self._layers:
            self._node(owner)
        return owner

    def _join(self, func: Any, operands: list[Tensor], first: str) -> str:
        """The node for an operation on tensors of several layers: one for all operations of a function."""
        operator = operator_name(func)
        name = self._joined or (self._join_again(operator, first) if self._recomputing else self._new_join(operator))
        if name is None:
            return first  # backward's own, before it comes to a layer
        for tensor in sorted(operands, key=lambda tensor: self._source(tensor) != first):
            self._connect(tensor, name)
        if name not in self.nodes:
            self.nodes[name] = Node("join", module=operator)
        self._joined = name
        return name

    def _new_join(self, operator: str) -> str:
        number = sum(node.kind == "join" and node.module == operator for node in self.nodes.values())
        return own_name(f"{operator}_{number + 1}" if number else operator, (*self._layers, *self.nodes))

    def _join_again(self, operator: str, first: str) -> str | None:
        """The join that a checkpoint computes again."""
        joins = (target for source, target in self.edges if source == first and self.nodes[target].module == operator)
        return next(joins, None)
