"""Pinned host memory: what `pin_memory()` gives beside virtual GPUs, which need none, is a copy that says it is pinned.

Where this machine has a CUDA device, memory is really pinned.

Private PyTorch names used here: the operators `aten::_pin_memory` and `aten::is_pinned`. Tried on torch 2.13.0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def register(library: torch.library.Library) -> None:
    # PyTorch asks the backend's C++ hooks for an allocator of pinned memory, and a backend in Python has none.
    pin = torch.library.get_kernel("aten::_pin_memory", "CPU")
    is_pinned = torch.library.get_kernel("aten::is_pinned", "CPU")

    def _pin(keys: Any, tensor: Tensor, device: torch.device | None = None) -> Tensor:
        if torch.cuda.is_available():
            pinned: Tensor = pin.call_boxed(keys, tensor, torch.device("cuda"))
        else:
            pinned = torch.empty_like(tensor, memory_format=torch.preserve_format).copy_(tensor)
            pinned.untyped_storage()._pinned_for_vgpu = True  # type: ignore[attr-defined]
        return pinned

    def _is_pinned(keys: Any, tensor: Tensor, device: torch.device | None = None) -> bool:
        if tensor.layout != torch.strided:
            return False
        if getattr(tensor.untyped_storage(), "_pinned_for_vgpu", False):
            return True
        return torch.cuda.is_available() and bool(is_pinned.call_boxed(keys, tensor, torch.device("cuda")))

    library.impl("_pin_memory", _pin, "CPU", with_keyset=True)
    library.impl("is_pinned", _is_pinned, "CPU", with_keyset=True)
