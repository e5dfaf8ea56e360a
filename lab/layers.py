"""Layers: the parts of a net that a placement moves, and a listener's ear on them.

A layer is a direct child of the net; containers that only hold others (Sequential, ModuleList, ModuleDict) are
opened. So Net has conv1, conv2, fc1 and fc2, and ResNet-18 has conv1, bn1, ..., layer1.0, layer1.1, ..., fc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def layer_paths(net: nn.Module) -> list[str]:
    """The paths of the net's layers, in the order of their definition; `[]` for a net without children."""
    return [path for path, _ in _walk(net, "")]


def _walk(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, _CONTAINERS) and len(child):
            yield from _walk(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


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
        self._layers = [net.get_submodule(path) for path in paths]
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
                tensor = args[0] if args and isinstance(args[0], Tensor) else _first_tensor((*args, *kwargs.values()))
                node = tensor.grad_fn if tensor is not None else None
                # No gradient flows through this layer's input (a second embedding of the same tokens, say): then the
                # turn of the layer before begins where its own output's gradient arrives.
                self._on_gradient(self._made_by if node is None else node, self._last)
            call = self._calls.get(path, 0)
            self._calls[path] = call + 1
            self._last = (path, call)
            self._listener.forward_turn(path, call)
            output = forward(*args, **kwargs)
            tensor = output if isinstance(output, Tensor) else _first_tensor((output,))
            self._made_by = None if tensor is None else tensor.grad_fn
            return output

        return announced

    def _on_gradient(self, node: Node | None, turn: tuple[str, int]) -> None:
        if node is not None:
            node.register_prehook(lambda gradients: self._listener.backward_turn(*turn))


def _first_tensor(values: tuple[Any, ...]) -> Tensor | None:
    for value in values:
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, tuple | list):
            found = _first_tensor(tuple(value))
            if found is not None:
                return found
    return None
