"""`torch.vgpu.amp`: mixed precision by its older names, which are `torch.amp`'s with the device filled in."""

from __future__ import annotations

import functools
from typing import Any

import torch

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]

custom_fwd = functools.partial(torch.amp.custom_fwd, device_type="vgpu")
custom_bwd = functools.partial(torch.amp.custom_bwd, device_type="vgpu")


class autocast(torch.amp.autocast_mode.autocast):  # noqa: N801 - the name that torch.cuda.amp has
    """As `torch.autocast("vgpu", ...)`, in float16 unless another dtype is given."""

    def __init__(self, enabled: bool = True, dtype: torch.dtype = torch.float16, cache_enabled: bool = True) -> None:
        super().__init__("vgpu", enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)


class GradScaler(torch.amp.grad_scaler.GradScaler):
    """As `torch.amp.GradScaler("vgpu", ...)`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("vgpu", *args, **kwargs)
