"""`torch.accelerator` on virtual GPUs.

Once `vgpu` is registered, it is PyTorch's current accelerator (a backend on the PrivateUse1 key comes before CUDA). The
functions of `torch.accelerator` ask C++, which knows one device of a backend in Python, and neither its streams nor its
memory. They are replaced by those of `torch.vgpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lab.vgpu import module

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


def register() -> None:
    """Puts them in place, those that this version of PyTorch has."""
    for name, function in REPLACED.items():
        if hasattr(torch.accelerator, name):
            setattr(torch.accelerator, name, function)
