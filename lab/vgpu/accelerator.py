"""`torch.accelerator` on virtual GPUs.

Once `vgpu` is registered, it is PyTorch's current accelerator (a backend on the PrivateUse1 key comes before CUDA). The
functions of `torch.accelerator` ask C++, which knows one device of a backend in Python, and neither its streams nor its
memory. They are replaced by those of `torch.vgpu`, and so is what they ask, for those who have imported them by name.

Private PyTorch names used here: `torch._C._accelerator_*`, those in ASKED. Tried on torch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lab.vgpu import module, tensor_types

REPLACED: dict[str, Callable[..., Any]] = {
    "current_device_idx": module.current_device,
    "current_device_index": module.current_device,
    "current_stream": module.current_stream,
    "device_index": module.device,
    "empty_cache": module.empty_cache,
    "get_memory_info": module.mem_get_info,
    "max_memory_allocated": module.max_memory_allocated,
    "max_memory_reserved": module.max_memory_reserved,
    "memory_allocated": module.memory_allocated,
    "memory_reserved": module.memory_reserved,
    "memory_stats": module.memory_stats,
    "reset_accumulated_memory_stats": module.reset_accumulated_memory_stats,
    "reset_peak_memory_stats": module.reset_peak_memory_stats,
    "set_device_idx": module.set_device,
    "set_device_index": module.set_device,
    "set_stream": module.set_stream,
    "synchronize": module.synchronize,
}


def _exchange(index: int) -> int:
    """Makes it the current device, unless it is negative; returns which was."""
    before = module.current_device()
    module.set_device(index)
    return before


def _nothing() -> None:
    """No memory is kept back."""


def _always() -> bool:
    return True


def _capability(index: int) -> dict[str, Any]:
    return {"supported_dtypes": set(tensor_types.DTYPES.values()) | {torch.complex64, torch.complex128}}


ASKED: dict[str, Callable[..., Any]] = {
    "_accelerator_emptyCache": _nothing,
    "_accelerator_emptyHostCache": _nothing,
    "_accelerator_exchangeDevice": _exchange,
    "_accelerator_getDeviceCapability": _capability,
    "_accelerator_getDeviceIndex": module.current_device,
    "_accelerator_getDeviceStats": module.memory_stats_as_nested_dict,
    "_accelerator_getMemoryInfo": module.mem_get_info,
    "_accelerator_getStream": module.current_stream,
    "_accelerator_isAllocatorInitialized": _always,
    "_accelerator_maybeExchangeDevice": _exchange,
    "_accelerator_resetAccumulatedStats": module.reset_accumulated_memory_stats,
    "_accelerator_resetPeakStats": module.reset_peak_memory_stats,
    "_accelerator_setDeviceIndex": module.set_device,
    "_accelerator_setStream": module.set_stream,
    "_accelerator_synchronizeDevice": module.synchronize,
}


def register() -> None:
    """Puts them in place, those that this version of PyTorch has."""
    for name, function in ASKED.items():
        if hasattr(torch._C, name):
            setattr(torch._C, name, function)
    for name, function in REPLACED.items():
        if hasattr(torch.accelerator, name):
            setattr(torch.accelerator, name, function)
