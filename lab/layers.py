"""Layers: the parts of a net that a placement moves, and a listener's ear on them.

A layer is a direct child of the net; containers that only hold others (Sequential, ModuleList, ModuleDict) are
opened. So Net has conv1, conv2, fc1 and fc2, and ResNet-18 has conv1, bn1, ..., layer1.0, layer1.1, ..., fc. A net
around one other net (`self.model = resnet18()`) has that one's layers: model.conv1, model.bn1, ..., model.fc.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils import parametrize

from lab import structures
from lab._torch_compat import is_compiled

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
ITSELF = "net"
"""The layer that a net without children is: all of it."""


def layer_paths(net: nn.Module) -> list[str]:
    """The paths of the net's layers, in the order of their definition; `[]` for a net without children."""
    layers = list(_walk(net, "", set()))
    while (inner := _only_one(layers)) is not None:
        path, module = inner
        opened = list(_walk(module, f"{path}.", set()))
        layers = [each for layer in layers for each in (opened if layer[0] == path else [layer])]
    return [path for path, _ in layers]


def run_layers(net: nn.Module) -> list[str]:
    """The paths of the layers as a run on one device has them: a net without children is one layer."""
    return layer_paths(net) or [ITSELF]


def layer_at(net: nn.Module, path: str) -> nn.Module:
    """The layer of this path, as `run_layers` gives it."""
    return net if path == ITSELF and not layer_paths(net) else net.get_submodule(path)


def _walk(module: nn.Module, prefix: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Layers below a module, each once, under the first of its names."""
    for name, child in _children(module):
        if child in seen:
            continue
        seen.add(child)
        if isinstance(child, _CONTAINERS) and len(child) and _is_plain(child):
            yield from _walk(child, f"{prefix}{name}.", seen)
        else:
            yield f"{prefix}{name}", child


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    computed = parametrize.is_parametrized(module)
    return [pair for pair in module.named_children() if not (computed and pair[0] == "parametrizations")]


def _only_one(layers: Sequence[tuple[str, nn.Module]]) -> tuple[str, nn.Module] | None:
    """The one layer that has parameters, if it is a net with layers of its own."""
    trained = [(path, layer) for path, layer in layers if next(layer.parameters(), None) is not None]
    if len(trained) != 1 or not _is_plain(trained[0][1]) or not _children(trained[0][1]):
        return None
    return trained[0]


def _is_plain(module: nn.Module) -> bool:
    """Whether all that it has belongs to its children, which run in plain Python: what is scripted or compiled is one
    piece."""
    if isinstance(module, torch.jit.ScriptModule) or is_compiled(module) or parametrize.is_parametrized(module):
        return False
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return not own


def own_name(name: str, paths: Iterable[str]) -> str:
    """A name for what is no layer, such as the net's input: in brackets where a layer has that name already."""
    taken = set(paths)
    while name in taken:
        name = f"({name})"
    return name


def tied(net: nn.Module, paths: Sequence[str]) -> list[list[str]]:
    """Groups of layers that share parameters, directly or through others; layers that share none are in no group."""
    owners: dict[nn.Parameter, list[str]] = defaultdict(list)
    for path in paths:
        for parameter in layer_at(net, path).parameters():
            owners[parameter].append(path)
    groups: list[set[str]] = []
    for together in owners.values():
        touching = [group for group in groups if group & set(together)]
        groups = [group for group in groups if group not in touching] + [set(together).union(*touching)]
    order = {path: place for place, path in enumerate(paths)}
    return sorted(
        (sorted(group, key=order.__getitem__) for group in groups if len(group) > 1), key=lambda group: order[group[0]]
    )


def own_parameters(net: nn.Module) -> list[str]:
    """Names of the parameters and buffers that belong to no layer, which no placement can move."""
    layers = tuple(f"{path}." for path in layer_paths(net))
    named = [*(name for name, _ in net.named_parameters()), *(name for name, _ in net.named_buffers())]
    return [name for name in named if not name.startswith(layers)]


NO_LAYER = "so no placement can move it: put what belongs to the net itself into a module of its own"


class Listener(Protocol):
    """Told when a layer's turn begins. A turn lasts until the next one's begins, so that the functional operations
    between two layers (a ReLU, a pooling) count with the layer before them, forward and backward alike."""

    def forward_turn(self, layer: str, call: int) -> None: ...

    def backward_turn(self, layer: str, call: int) -> None: ...


class LayerHooks:
    """Tells a listener which layer's turn it is, forward and backward, while attached.

    Forward turns come from the layers' `forward` methods, wrapped, which costs less than module hooks. Backward turns
    come from hooks on the graph's nodes at the same boundaries: the gradient of a layer's input is ready exactly when
    the backward of the layer before it begins. Such hooks leave the graph as it is, unlike full backward hooks on
    modules.
    """

    def __init__(self, net: nn.Module, paths: Sequence[str], listener: Listener) -> None:
        self._listener = listener
        self._last: tuple[str, int] | None = None
        self._made_by: Node | None = None
        self._calls: dict[str, int] = {}
        self._layers = [layer_at(net, path) for path in paths]
        self._own = [vars(layer).get("forward") for layer in self._layers]
        """What stood in the way of the class's forward before: a compiled layer has its own there."""
        for path, layer in zip(paths, self._layers, strict=True):
            layer.forward = self._announced(path, layer.forward)

    def start_forward(self) -> None:
        """Call before each forward, so that the calls of shared layers count from 0."""
        self._last = self._made_by = None
        self._calls.clear()

    def start_backward(self) -> None:
        """Call before each backward: the last layer's turn begins with the loss."""
        self._made_by = None
        if self._last is not None:
            self._listener.backward_turn(*self._last)

    def expect_backward(self, output: Tensor) -> None:
        """In place of `start_backward`, where one backward goes through several nets: the last layer's turn begins when
        the gradient of this net's output arrives."""
        if self._last is not None:
            self._on_gradient(output.grad_fn, self._last)

    def detach(self) -> None:
        for layer in self._layers:
            layer.__dict__.pop("forward", None)  # the class's own shows again
        self._layers.clear()

    def _announced(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def announced(*args: Any, **kwargs: Any) -> Any:
            if self._last is not None:
                tensor = args[0] if args and isinstance(args[0], Tensor) else _first_tensor((args, kwargs))
                node = tensor.grad_fn if tensor is not None else None
                # No gradient flows through this layer's input (a second embedding of the same tokens, say): then the
                # turn of the layer before begins where its own output's gradient arrives.
                self._on_gradient(self._made_by if node is None else node, self._last)
            call = self._calls.get(path, 0)
            self._calls[path] = call + 1
            self._last = (path, call)
            self._listener.forward_turn(path, call)
            output = forward(*args, **kwargs)
            tensor = output if isinstance(output, Tensor) else _first_tensor(output)
            self._made_by = None if tensor is None else tensor.grad_fn
            return output

        return announced

    def _on_gradient(self, node: Node | None, turn: tuple[str, int]) -> None:
        if node is not None:
            node.register_prehook(lambda gradients: self._listener.backward_turn(*turn))


def _first_tensor(value: Any) -> Tensor | None:
    return next(iter(structures.tensors(value)), None)
