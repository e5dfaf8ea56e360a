"""Modules keep their parameters when they go to a virtual GPU or leave one, as they do between the CPU and CUDA.

`Module.to` changes a parameter in place, so that the optimizer's and tied ones follow. Where one of the two places is a
virtual GPU, the class of the tensor changes, and PyTorch swaps the two tensors instead; but it refuses when a graph
still holds the parameter. On CUDA such a move works, and only a backward through the old graph does not. So it is here.
`parameter.data = tensor`, by which people move parameters themselves, swaps in the same way.

Private PyTorch names used here: `nn.Module._apply`, `torch._C._swap_tensor_impl`. Tried on torch 2.13.0.
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
    """From now on, every module and parameter moves so."""
    setattr(nn.Parameter, "data", property(_get_data, _set_data))  # noqa: B010 - mypy knows `data` as an attribute
    users: Any
    for users in (torch.nn.modules.module, torch.nn.utils.parametrize):
        users.is_traceable_wrapper_subclass = _is_swapped(users.is_traceable_wrapper_subclass)
    nn.Module._apply = _keeping_parameters(nn.Module._apply)  # type: ignore[method-assign]
    torch.utils.swap_tensors = _swapping(torch.utils.swap_tensors)
    UninitializedTensorMixin.materialize = _materialize


def _is_swapped(is_wrapper: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """By which PyTorch decides that a parameter is to be swapped for what becomes of it."""
    return lambda value: isinstance(value, VGPUTensor) or is_wrapper(value)


def _keeping_parameters(apply: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply)
    def _apply(self: nn.Module, fn: Callable[..., Any], recurse: bool = True) -> Any:
        if any(isinstance(t, UninitializedTensorMixin) for t in (*self._parameters.values(), *self._buffers.values())):
            fn = _noting_device(fn)
        swaps = torch.__future__.get_swap_module_params_on_conversion()
        if swaps or not any(isinstance(parameter, VGPUTensor) for parameter in self._parameters.values()):
            return apply(self, fn, recurse)
        if recurse:
            for module in self.children():
                module._apply(fn)
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return apply(self, fn, recurse=False)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)

    return _apply


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


def _get_data(self: Tensor) -> Tensor:
    data: Tensor = torch.Tensor.data.__get__(self)  # type: ignore[attr-defined]
    return data


def _set_data(self: Tensor, other: Tensor) -> None:
    if isinstance(other, VGPUTensor):
        replace_data(self, other)
    else:
        torch.Tensor.data.__set__(self, other)  # type: ignore[attr-defined]


def replace_data(tensor: Tensor, other: Tensor) -> None:
    """`tensor.data = other` where one of them is on a virtual GPU and the other on the CPU; the gradient goes along."""
    gradient, tensor.grad = tensor.grad, None
    if isinstance(tensor, nn.Parameter):
        replacement: Tensor = nn.Parameter(other.detach(), requires_grad=tensor.requires_grad)
    else:
        replacement = other.detach().requires_grad_(tensor.requires_grad)
    torch.utils.swap_tensors(tensor, replacement)
    if gradient is not None and gradient.shape == tensor.shape:
        tensor.grad = gradient.to(tensor.device)


def _swapping(swap: Callable[[Tensor, Tensor], None]) -> Callable[[Tensor, Tensor], None]:
    """`torch.utils.swap_tensors`, which swaps a tensor on a virtual GPU although a graph holds it."""

    @functools.wraps(swap)
    def swap_tensors(t1: Tensor, t2: Tensor) -> None:
        if not (isinstance(t1, VGPUTensor) or isinstance(t2, VGPUTensor)):
            swap(t1, t2)
            return
        if t1.requires_grad and t1.is_leaf:
            node: Any = torch.autograd.graph.get_gradient_edge(t1).node
            node.register_prehook(functools.partial(_refuse, t1.device, t2.device))
        t1.__class__, t2.__class__ = t2.__class__, t1.__class__
        t1.__dict__, t2.__dict__ = t2.__dict__, t1.__dict__
        torch._C._swap_tensor_impl(t1, t2)

    return swap_tensors


def _refuse(before: torch.device, after: torch.device, gradients: Any) -> None:
    raise RuntimeError(
        f"a parameter that this backward computes the gradient of was moved from {before} to {after} after "
        "the forward: move the module before the forward, or after the backward"
    )
