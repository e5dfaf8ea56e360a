"""Modules keep their parameters when they go to a virtual GPU or leave one, as they do between the CPU and CUDA.

`Module.to` changes a parameter in place, so that the optimizer's and tied ones follow, and hooks and attributes stay.
Where one of the two places is a virtual GPU, the class of the tensor changes, which PyTorch refuses to do in place. So
the object here gets another tensor of C++'s, and what hung on the old one is hung on the new one. On CUDA such a move
works while a graph still holds the parameter, and only a backward through the old graph does not; so it is here.
`parameter.data = tensor`, by which people move parameters themselves, does the same.

Private PyTorch names used here: `nn.Module._apply`, `torch._C._swap_tensor_impl`, `torch._C.TensorBase`,
`Tensor._backward_hooks`, `Tensor._post_accumulate_grad_hooks`, `Tensor._version`,
`torch._C._autograd._unsafe_set_version_counter`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from lab.vgpu.tensor import VGPUTensor


def register() -> None:
    """From now on, every module, parameter and tensor moves so."""
    plain: Any = torch._C.TensorBase.data
    setattr(Tensor, "data", property(plain.__get__, _set_data))  # noqa: B010 - mypy knows `data` as an attribute
    users: Any
    for users in (torch.nn.modules.module, torch.nn.utils.parametrize):
        users.is_traceable_wrapper_subclass = _is_swapped(users.is_traceable_wrapper_subclass)
    nn.Module._apply = _keeping_parameters(nn.Module._apply)  # type: ignore[method-assign]
    nn.Parameter.__new__ = _keeping_class(nn.Parameter.__new__)  # type: ignore[method-assign]
    torch.utils.swap_tensors = _swapping(torch.utils.swap_tensors)
    UninitializedTensorMixin.materialize = _materialize


def _is_swapped(is_wrapper: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """By which PyTorch decides that a parameter is to be swapped for what becomes of it."""
    return lambda value: isinstance(value, VGPUTensor) or is_wrapper(value)


def _keeping_parameters(apply: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply)
    def _apply(self: nn.Module, fn: Callable[..., Any], recurse: bool = True) -> Any:
        if recurse:
            for module in self.children():
                module._apply(fn)
        if any(isinstance(t, UninitializedTensorMixin) for t in (*self._parameters.values(), *self._buffers.values())):
            return apply(self, _noting_device(fn), recurse=False)
        mine = {key: parameter for key, parameter in self._parameters.items() if parameter is not None}
        with torch.no_grad():
            applied = {key: fn(parameter) for key, parameter in mine.items()}
        moved = {key: p for key, p in mine.items() if isinstance(p, VGPUTensor) or isinstance(applied[key], VGPUTensor)}
        rest = {id(parameter): applied[key] for key, parameter in mine.items() if key not in moved}
        if not moved:
            return apply(self, lambda tensor: rest.pop(id(tensor)) if id(tensor) in rest else fn(tensor), recurse=False)
        for key, parameter in moved.items():
            self._parameters[key] = _move(parameter, applied.pop(key), fn)
        if rest:  # by PyTorch's own way, which a module without the others goes
            others = dict(self._parameters)
            self._parameters.update(dict.fromkeys(moved))
            try:
                apply(self, lambda tensor: rest.pop(id(tensor)) if id(tensor) in rest else fn(tensor), recurse=False)
            finally:
                self._parameters.update({key: others[key] for key in moved})
            return self
        for key, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[key] = fn(buffer)
        return self

    return _apply


def _move(parameter: Any, applied: Tensor, fn: Callable[[Tensor], Tensor]) -> Any:
    """Gives a parameter the data that a module's conversion has made of it, and converts its gradient as well."""
    gradient = parameter.grad
    future = torch.__future__
    if future.get_overwrite_module_params_on_conversion() and not future.get_swap_module_params_on_conversion():
        replacement = nn.Parameter(applied, parameter.requires_grad)
        if gradient is not None:
            replacement.grad = fn(gradient).requires_grad_(gradient.requires_grad)
        return replacement
    if gradient is not None:
        with torch.no_grad():
            converted = fn(gradient)
        parameter.grad = None
        gradient.data = converted
    if applied is not parameter:
        parameter.data = applied
    parameter.grad = gradient
    return parameter


def _noting_device(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A parameter of a lazy module has no numbers to move yet; it is to remember where they shall be."""

    def move(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, UninitializedTensorMixin):
            return fn(tensor)
        moved = fn(torch.empty(0, dtype=tensor.dtype, device=tensor.device))
        tensor._vgpu_device = moved.device if isinstance(moved, VGPUTensor) else None
        if not isinstance(moved, VGPUTensor):
            return fn(tensor)
        # A parameter takes over the data of what is returned, a buffer is replaced by it.
        return torch.empty(0, dtype=moved.dtype) if isinstance(tensor, nn.Parameter) else tensor

    return move


def _materialize(self: Any, shape: Any, device: Any = None, dtype: torch.dtype | None = None) -> None:
    """`UninitializedTensorMixin.materialize`, where the device may be one that was noted."""
    there = torch.device(device or getattr(self, "_vgpu_device", None) or self.data.device)
    dtype = dtype or self.data.dtype
    self.data = torch.empty(shape, dtype=dtype, device="cpu" if there.type == "vgpu" else there)
    self.__class__ = self.cls_to_become
    if there.type == "vgpu":
        replace_data(self, torch.empty(shape, dtype=dtype, device=there))


def _set_data(self: Tensor, other: Tensor) -> None:
    if isinstance(other, VGPUTensor):
        replace_data(self, other)
    else:
        torch._C.TensorBase.data.__set__(self, other)  # type: ignore[attr-defined]


def replace_data(tensor: Any, other: Tensor) -> None:
    """`tensor.data = other` where one of them is on a virtual GPU and the other on the CPU; the gradient goes along.

    The object stays what it was: its attributes, hooks, version and weak references. What PyTorch keeps of it in C++ is
    another's from now on, and so is its class.

    Raises:
        RuntimeError: when it is computed from others, for then its place in the graph would be lost.
    """
    if not tensor.is_leaf:
        raise RuntimeError(
            f"data of a tensor that was computed from others cannot move from {tensor.device} to {other.device}: "
            "take tensor.to(device) instead, or detach it first"
        )
    gradient, tensor.grad = tensor.grad, None
    version = None if tensor.is_inference() or other.is_inference() else tensor._version
    with torch.inference_mode(other.is_inference()):  # outside of it, such a tensor may not be told to
        replacement: Any = other.data.requires_grad_(tensor.requires_grad)
    if tensor.requires_grad:
        _refuse_old_graph(tensor, other.device)
    before: Any = type(tensor)
    is_parameter = isinstance(tensor, nn.Parameter)
    mine = replacement.__dict__
    # A graph may hold the old tensor of C++'s, and finds it whole in the replacement.
    replacement.__dict__ = {name: tensor.__dict__.pop(name) for name in _OURS if name in tensor.__dict__}
    if isinstance(other, VGPUTensor):
        tensor.__class__ = class_on_device(before)
        tensor.__dict__.update(mine)
        if is_parameter:
            tensor._is_param = True
    else:
        tensor.__class__ = getattr(before, "_plain_class", nn.Parameter if is_parameter else Tensor)
    replacement.__class__ = before
    torch._C._swap_tensor_impl(tensor, replacement)
    if version is not None:
        torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))
    for hooks in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        kept = getattr(tensor, hooks)
        if kept is not None:
            setattr(tensor, hooks, kept)  # tells C++ of them
    if gradient is not None and gradient.shape == tensor.shape:
        gradient.data = gradient.to(tensor.device)
        tensor.grad = gradient


_OURS = ("_data", "_block", "_index", "_is_param")
"""Attributes that a tensor on a virtual GPU has of ours."""


@functools.cache
def class_on_device(plain: Any) -> Any:
    """The class that a tensor of a class of the user's has on a virtual GPU: both of them."""
    if plain in (Tensor, nn.Parameter, nn.Buffer) or issubclass(plain, VGPUTensor):
        return plain if issubclass(plain, VGPUTensor) else VGPUTensor
    about = {"_plain_class": plain, "__module__": plain.__module__, "__qualname__": plain.__qualname__}
    return type(plain)(plain.__name__, (VGPUTensor, plain), about)


def _keeping_class(new: Callable[..., Any]) -> Callable[..., Any]:
    """`nn.Parameter.__new__`, for a subclass of it around a tensor that is on a virtual GPU."""

    @functools.wraps(new)
    def new_parameter(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
        made = new(cls, data, requires_grad)
        if isinstance(data, VGPUTensor) and not isinstance(made, cls):
            made.__class__ = class_on_device(cls)
        return made

    return new_parameter


def _swapping(swap: Callable[[Tensor, Tensor], None]) -> Callable[[Tensor, Tensor], None]:
    """`torch.utils.swap_tensors`, which swaps a tensor on a virtual GPU although a graph holds it."""

    @functools.wraps(swap)
    def swap_tensors(t1: Tensor, t2: Tensor) -> None:
        if not (isinstance(t1, VGPUTensor) or isinstance(t2, VGPUTensor)):
            swap(t1, t2)
            return
        if t1.requires_grad and t1.is_leaf:
            _refuse_old_graph(t1, t2.device)
        t1.__class__, t2.__class__ = t2.__class__, t1.__class__
        t1.__dict__, t2.__dict__ = t2.__dict__, t1.__dict__
        torch._C._swap_tensor_impl(t1, t2)

    return swap_tensors


def _refuse_old_graph(leaf: Tensor, after: torch.device) -> None:
    """A graph from before refers to what the leaf was; its gradient would go nowhere."""
    if leaf.is_inference():
        return  # no graph takes one
    with torch.inference_mode(False):
        node: Any = torch.autograd.graph.get_gradient_edge(leaf).node
    node.register_prehook(functools.partial(_refuse, leaf.device, after))


def _refuse(before: torch.device, after: torch.device, gradients: Any) -> None:
    raise RuntimeError(
        f"a parameter that this backward computes the gradient of was moved from {before} to {after} after "
        "the forward: move the module before the forward, or after the backward"
    )
