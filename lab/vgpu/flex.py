"""`flex_attention` on virtual GPUs: by its formula in PyTorch's own operations, forward and backward, uncompiled.

PyTorch allows the devices that it has compiled kernels for. On a virtual GPU the same function runs with other parts:
its check lets the device pass, and its operator is the formula, which takes the memory of all scores at once.

Private PyTorch names used here: of `torch.nn.attention.flex_attention`, `_validate_device`, `flex_attention_hop` and
`_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG`; `torch._higher_order_ops.flex_attention.math_attention`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

from lab.vgpu import early_imports
from lab.vgpu.tensor import VGPUTensor

_MODULE = "torch.nn.attention.flex_attention"


def register() -> None:
    """Now where it is loaded, which takes a second, and when it is loaded elsewhere."""
    if _MODULE in sys.modules:
        _extend(sys.modules[_MODULE])
    else:
        sys.meta_path.insert(0, _WhenLoaded())


class _WhenLoaded(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = _extending(loader.exec_module)
        return spec


def _extending(load: Callable[[types.ModuleType], None]) -> Callable[[types.ModuleType], None]:
    def exec_module(module: types.ModuleType) -> None:
        load(module)
        _extend(module)

    return exec_module


def _extend(module: Any) -> None:
    plain = module.flex_attention
    module.flex_attention = _beside(plain)
    early_imports.turn([(plain, module.flex_attention)])


def _beside(plain: Any) -> Any:
    @functools.wraps(plain)
    def flex_attention(query: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(query, VGPUTensor):
            return plain(query, *args, **kwargs)
        from torch._higher_order_ops.flex_attention import math_attention

        parts = {
            **plain.__globals__,
            "_validate_device": _any_device,
            "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG": True,
            "flex_attention_hop": math_attention,
        }
        here = types.FunctionType(plain.__code__, parts, plain.__name__, plain.__defaults__, plain.__closure__)
        here.__kwdefaults__ = plain.__kwdefaults__
        return here(query, *args, **kwargs)

    return flex_attention


def _any_device(query: Any, key: Any, value: Any) -> None:
    """All are on one device, which is checked before."""
