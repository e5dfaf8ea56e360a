"""Registers `vgpu` as a device type of PyTorch's, on the PrivateUse1 key.

Private PyTorch names used here: `torch.utils.backend_registration._setup_privateuseone_for_python_backend` (from torch
2.10 on). Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import torch
import torch.distributed
from torch.utils import backend_registration

from lab.vgpu import (
    accelerator,
    attention,
    autocast,
    below_python,
    compiling,
    drawing,
    early_imports,
    engine,
    flex,
    generator,
    module,
    modules,
    operators,
    parallel,
    pinning,
    recurrent,
    rng,
    saving,
    scripting,
    storage,
    submodules,
)
from lab.vgpu import tensor as vt

aten = torch.ops.aten
_COMPOSITE_BESIDE_CPU = ("silu_backward", "mish_backward", "native_channel_shuffle")
"""Operators with a kernel for the CPU and a composite for every device without one; ours is to take the CPU's."""
_lock = threading.Lock()
_libraries: list[torch.library.Library] = []


def register() -> None:
    """Makes `vgpu` known to PyTorch; does nothing the second time."""
    with _lock:
        if _libraries:
            return
        before = early_imports.names()
        backend_registration._setup_privateuseone_for_python_backend(
            "vgpu", backend_module=module, device_guard=engine.Guard()
        )
        submodules.register()
        engine.register()
        library = torch.library.Library("aten", "IMPL")
        library.impl("empty.memory_format", _empty, "PrivateUse1")
        library.impl("empty_strided", _empty_strided, "PrivateUse1")
        library.impl("_copy_from", _copy_from, "PrivateUse1")
        attention.register(library)
        flex.register()
        library.impl("ctc_loss.Tensor", _ctc_loss, "AutogradPrivateUse1")
        for name in _COMPOSITE_BESIDE_CPU:
            library.impl(name, functools.partial(_factory, getattr(aten, name).default), "PrivateUse1")
        recurrent.register(library)
        below_python.register(library)
        saving.register()
        storage.register(module)
        modules.register()
        scripting.register()
        accelerator.register()
        if torch.distributed.is_available():
            from lab.vgpu import distributed

            distributed.register()
        everything = torch.library.Library("_", "IMPL")
        everything.fallback(_factory, "PrivateUse1")
        autocast.register(library, everything)
        pinning.register(library)
        generator.register()
        rng.register()
        parallel.register()
        compiling.register()
        early_imports.follow(before)
        _libraries.extend((library, everything))


def _empty(
    size: Any,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> torch.Tensor:
    if vt.thread_state.makes_reducer and dtype is torch.int32:
        return torch.empty(size, dtype=dtype)
    index = vt.device_index(device)
    vt.machine().pools[index].check_fits(torch.empty(size, dtype=dtype, device="meta").nbytes)
    data = torch.empty(
        size, dtype=dtype, device=vt.machine().backing, memory_format=memory_format or torch.contiguous_format
    )
    return vt.wrap(data, index)


def _empty_strided(
    size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> torch.Tensor:
    index = vt.device_index(device)
    vt.machine().pools[index].check_fits(
        torch.empty_strided(size, stride, dtype=dtype, device="meta").untyped_storage().nbytes()
    )
    return vt.wrap(torch.empty_strided(size, stride, dtype=dtype, device=vt.machine().backing), index)


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """`copy_` where PyTorch passes over `__torch_dispatch__`, as `torch.tensor([1, 2], device="vgpu:0")` does."""
    copied: torch.Tensor = operators.copy(target, source, non_blocking)
    return copied


def _ctc_loss(logs: Any, targets: Any, input_lengths: Any, target_lengths: Any, *options: Any) -> torch.Tensor:
    """As on CUDA, the lengths may lie anywhere, and the host reads them."""
    loss: torch.Tensor = aten.ctc_loss.IntList(logs, targets, input_lengths.tolist(), target_lengths.tolist(), *options)
    return loss


def _factory(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Every other operator that reaches the key with no tensor of ours: it makes one (`arange`, `randperm`, ...)."""
    device = kwargs.get("device")
    index = vt.device_index(device if device is not None else torch.device("vgpu"))
    make = functools.partial(_make, index)
    return drawing.draw_on(index, make, op, args, kwargs) if drawing.draws(op) else make(op, args, kwargs)


def _make(index: int, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if op is aten._efficientzerotensor.default:
        op = aten.zeros.default  # zeros that have no memory crash every kernel that meets them
    started = vt.machine().watch()
    result = op(*args, **{**kwargs, "device": vt.machine().backing})
    vt.machine().record(index, started, op, args, result)
    return vt.wrap(result, index) if isinstance(result, torch.Tensor) else result
