"""Operators that reach tensors on virtual GPUs where PyTorch has switched Python's dispatch off.

`torch.tensor([x[0], 3.0])` reads its numbers so, and fully sharded training tells the streams that use a tensor. There
an operator arrives at the device's own key, and needs a kernel there by its name: a fallback is not asked.

Private PyTorch names used here: the operator `aten::_local_scalar_dense`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from lab.vgpu.tensor import PLANS

aten = torch.ops.aten
_OPERATORS = (aten._local_scalar_dense.default, aten.record_stream.default)
"""Not those of which PyTorch's fake tensors have a kernel of their own: compiling would end here, and come back."""


def register(library: torch.library.Library) -> None:
    for operator in _OPERATORS:
        library.impl(operator, functools.partial(_as_above, operator), "PrivateUse1")


def _as_above(operator: Any, *args: Any, **kwargs: Any) -> Any:
    return PLANS[operator](operator, args, kwargs)
