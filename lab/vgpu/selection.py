"""The current device of a thread: the one that is meant by `device="vgpu"`, without an index.

PyTorch's device guard for backends in Python knows one device. Where PyTorch itself puts an index to a device without
one, in `Tensor.to`, `torch.tensor`, `torch.as_tensor` and `torch.asarray`, it would always take 0. So these four name
the current device themselves, from the first time on that a program makes another device than vgpu:0 the current one.

Private PyTorch names used here: of `torch.utils._device`, `DeviceContext` and `_device_constructors`; of
`torch.overrides`, `_get_current_function_mode_stack`; `torch._dynamo.trace_rules.clear_lru_cache`. Tried on torch
2.13.0.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _device

from lab.vgpu import early_imports
from lab.vgpu.tensor import machine, thread_state

DeviceLike: TypeAlias = "torch.device | str | int | device | None"

_lock = threading.Lock()
_naming = False


def index_of(place: DeviceLike) -> int:
    """The index of a device given as in torch.cuda: an int, `"vgpu:1"`, a torch.device; None is the current one.

    Raises:
        ValueError: for a device of another type.
        DeviceError: when there is no such device.
    """
    if isinstance(place, device):
        place = place.idx
    if isinstance(place, str):
        place = torch.device(place)
    if isinstance(place, torch.device):
        if place.type != "vgpu":
            raise ValueError(f"Expected a vgpu device, but got: {place}")
        place = place.index
    return machine().check(thread_state.current_device if place is None else place)


def select(index: int) -> None:
    """Makes it the current device of this thread."""
    if index and not _naming:
        _name_the_current_device()
    machine().chosen = True
    thread_state.current_device = index


class device:  # noqa: N801 - the name that torch.cuda has
    """`with torch.vgpu.device(1):` makes vgpu:1 the current device of this thread inside.

    Args:
        device: nothing happens when it is None or negative.
    """

    def __init__(self, device: DeviceLike) -> None:
        nothing = device is None or (isinstance(device, int) and device < 0)
        self.idx = -1 if nothing else index_of(device)
        self.prev_idx = -1

    def __enter__(self) -> None:
        self.prev_idx = thread_state.current_device
        if self.idx >= 0:
            select(self.idx)

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        select(self.prev_idx)


class device_of(device):  # noqa: N801
    """The device of a tensor is the current one inside; nothing happens when it is on no virtual GPU."""

    def __init__(self, obj: torch.Tensor) -> None:
        super().__init__(obj.device if obj.device.type == "vgpu" else None)


def _name_the_current_device() -> None:
    global _naming
    with _lock:
        if _naming:
            return
        before = early_imports.names()
        _device._device_constructors()  # remembers the functions as they are, for torch.set_default_device
        torch.Tensor.to = _named(torch.Tensor.to, makes=False)  # type: ignore[method-assign]
        UninitializedTensorMixin._allowed_methods.append(torch.Tensor.to)  # what a lazy module may do with its own
        for name in ("tensor", "as_tensor", "asarray"):
            setattr(torch, name, _named(getattr(torch, name), makes=True))
        early_imports.follow(before)
        rules: Any = sys.modules.get("torch._dynamo.trace_rules")
        if rules is not None:
            rules.clear_lru_cache()  # it knows PyTorch's functions by what they were
        _naming = True


def _named(function: Callable[..., Any], *, makes: bool) -> Callable[..., Any]:
    """The function, with an index put to `vgpu`; one that `makes` tensors also looks at the default device."""

    @functools.wraps(function)
    def named(*args: Any, **kwargs: Any) -> Any:
        current = thread_state.current_device
        if current:
            args = args[:1] + tuple(_with_index(value, current) for value in args[1:])
            wanted = kwargs.get("device")
            if wanted is None and makes:
                wanted = _default_device()
            if _is_nameless(wanted):
                kwargs["device"] = torch.device("vgpu", current)
        return function(*args, **kwargs)

    return named


def _default_device() -> torch.device | None:
    """As it was given to `torch.set_default_device` or `with torch.device(...)`, without an index put to it."""
    modes = _get_current_function_mode_stack()
    return next((mode.device for mode in reversed(modes) if isinstance(mode, _device.DeviceContext)), None)


def _is_nameless(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == "vgpu" and value.index is None
    return isinstance(value, str) and value == "vgpu"


def _with_index(value: Any, index: int) -> Any:
    return torch.device("vgpu", index) if _is_nameless(value) else value
