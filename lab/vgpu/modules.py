"""Modules keep their parameters when they leave a virtual GPU, as they do when they leave a CUDA device.

`Module.to` normally changes a parameter in place, so that the optimizer's and tied ones follow; from a virtual GPU to
the CPU the class of the tensor changes, where PyTorch would make new parameters. It has a switch to swap them in place
instead, which is set while a module with parameters on virtual GPUs moves.

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
    """From now on, every module moves so."""
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
