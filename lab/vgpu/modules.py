"""Modules keep their parameters when they leave a virtual GPU, as they do when they leave a CUDA device.

`Module.to` normally changes a parameter in place, so that the optimizer's and tied ones follow; from a virtual GPU to
the CPU the class of the tensor changes, where PyTorch would make new parameters. It has a switch to swap them in place
instead, which is set while a module with parameters on virtual GPUs moves. `parameter.data = tensor`, by which people
move parameters themselves, swaps in the same way.

Private PyTorch names used here: `nn.Module._apply`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lab.vgpu.tensor import VGPUTensor


def register() -> None:
    """From now on, every module and parameter moves so."""
    setattr(nn.Parameter, "data", property(_get_data, _set_data))  # noqa: B010 - mypy knows `data` as an attribute
    nn.Module._apply = _keeping_parameters(nn.Module._apply)  # type: ignore[method-assign]


def _keeping_parameters(apply: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply)
    def _apply(self: nn.Module, fn: Callable[..., Any], recurse: bool = True) -> Any:
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


def _get_data(self: torch.Tensor) -> torch.Tensor:
    data: torch.Tensor = torch.Tensor.data.__get__(self)  # type: ignore[attr-defined]
    return data


def _set_data(self: torch.Tensor, other: torch.Tensor) -> None:
    if isinstance(other, VGPUTensor):
        replace_data(self, other)
    else:
        torch.Tensor.data.__set__(self, other)  # type: ignore[attr-defined]


def replace_data(tensor: torch.Tensor, other: torch.Tensor) -> None:
    """`tensor.data = other` where one of them is on a virtual GPU and the other on the CPU; the gradient goes along."""
    gradient, tensor.grad = tensor.grad, None
    if isinstance(tensor, nn.Parameter):
        replacement: torch.Tensor = nn.Parameter(other.detach(), requires_grad=tensor.requires_grad)
    else:
        replacement = other.detach().requires_grad_(tensor.requires_grad)
    torch.utils.swap_tensors(tensor, replacement)
    if gradient is not None and gradient.shape == tensor.shape:
        tensor.grad = gradient.to(tensor.device)
