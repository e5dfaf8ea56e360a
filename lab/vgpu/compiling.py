"""`torch.compile` beside virtual GPUs: what works on their tensors runs as it stands, uncompiled.

Compiled code would compute on the memory of a device, of which a virtual GPU has none that a compiler knows.

Private PyTorch names used here: `torch._dynamo.config.nontraceable_tensor_subclasses`,
`torch._dynamo.disable`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch

from lab.vgpu.tensor import VGPUTensor


def register() -> None:
    if "torch._dynamo" in sys.modules:
        _leave_alone()
    torch.compile = _leaving_alone(torch.compile)


def _leaving_alone(compile_: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(compile_)
    def compile_beside(*args: Any, **kwargs: Any) -> Any:
        _leave_alone()
        return compile_(*args, **kwargs)

    return compile_beside


def _leave_alone() -> None:
    # Loading it takes a second, which only those who compile shall pay.
    from torch._dynamo import config, disable

    if VGPUTensor not in config.nontraceable_tensor_subclasses:
        config.nontraceable_tensor_subclasses.add(VGPUTensor)
        # Nor are the lab's own functions compiled, which run in between.
        plain: Any = VGPUTensor.__torch_dispatch__
        VGPUTensor.__torch_dispatch__ = classmethod(disable(plain.__func__))  # type: ignore[method-assign,assignment]
