"""The common path of an operation: its tensors all live on one virtual GPU, and its results will.

Private PyTorch names used here: `OpOverload._schema`, `torch._C._meta_in_tls_dispatch_include`,
`torch._C._set_meta_in_tls_dispatch_include`, `torch.utils._mode_utils.no_dispatch`, `UntypedStorage._cdata`,
`torch._C.TensorBase`. Tried on torch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._mode_utils import no_dispatch

from lab.vgpu.storage import check_room, short
from lab.vgpu.tensor import CPU, VGPUTensor, machine, wrap, wrap_in

aten = torch.ops.aten

INSTANT: set[Any] = {
    aten.detach.default,
    aten.alias.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}
"""Operations that launch nothing on a device; views join them as they are met."""


class _Unwrapper:
    """Takes the CPU tensors out of an operation's arguments, and checks that all live on one device."""

    __slots__ = ("_func", "_stranger", "index", "inputs")

    def __init__(self, func: Any) -> None:
        self._func = func
        self._stranger: torch.Tensor | None = None
        self.index = -1
        self.inputs: list[VGPUTensor] = []

    def all_of(self, args: tuple[Any, ...]) -> list[Any]:
        """The arguments by position, with CPU tensors."""
        plain = []
        for value in args:
            kind = type(value)
            if kind is VGPUTensor and value._index == self.index:
                self.inputs.append(value)
                plain.append(value._data)
            elif kind in _NUMBERS or (kind is list and value and type(value[0]) in _COUNTS):
                plain.append(value)
            else:
                plain.append(self(value))
        return plain

    def named(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, with CPU tensors; to be called after `all_of`."""
        plain = dict(kwargs)
        for name, value in kwargs.items():
            if type(value) in _NUMBERS:
                continue
            if name == "device":
                plain[name] = machine().backing
            elif name != "generator":
                plain[name] = self(value)
        return plain

    def __call__(self, value: Any) -> Any:
        if isinstance(value, VGPUTensor):
            if value._index != self.index:
                if self.index >= 0:
                    self._refuse(f"vgpu:{self.index}", value.device)
                self.index = value._index
                if self._stranger is not None:
                    self._refuse(f"vgpu:{self.index}", self._stranger.device)
            self.inputs.append(value)
            return value._data
        if isinstance(value, torch.Tensor):
            # As on CUDA, a number that happens to be a CPU tensor without dimensions may take part.
            if value.dim():
                if self.index >= 0:
                    self._refuse(f"vgpu:{self.index}", value.device)
                self._stranger = value  # until it is known which device it should have been on
            return value
        if type(value) is list or type(value) is tuple:
            if self._func in _CPU_INDICES:
                return type(value)(map(self._index_of, value))
            return type(value)(map(self, value))
        return value

    def _index_of(self, value: Any) -> Any:
        """As on CUDA, an index may lie on the CPU."""
        return value if isinstance(value, torch.Tensor) and value.device == CPU else self(value)

    def _refuse(self, first: str, second: torch.device) -> None:
        name = self._func._schema.name.replace("aten::", "")
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {first} and {second}! "
            f"(when checking arguments in method wrapper_VGPU_{name})"
        )


_CPU_INDICES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}

_NUMBERS = frozenset({int, float, bool, type(None), torch.dtype, str})
"""Types of arguments in which there can be no tensor."""
_COUNTS = frozenset({int, float, bool})
"""A list that begins with one of these is one of sizes, strides or flags."""


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, timed: bool = True, kernel: Any = None) -> Any:
    """Runs an operation whose outputs are new tensors, or views of its inputs, on their one device; by `kernel` where
    the operator has none for the CPU.
    """
    unwrap = _Unwrapper(func)
    plain = unwrap.all_of(args)
    if kwargs:
        kwargs = unwrap.named(kwargs)
    if short:
        check_room(unwrap.inputs)
    here = machine()
    started = here.watch()
    result = (kernel or func)(*plain, **kwargs)
    index = unwrap.index
    if timed:
        here.record(index, started, func, plain, result)
    if isinstance(result, torch.Tensor):
        return wrap(result, index, unwrap.inputs)
    if isinstance(result, tuple | list):
        return type(result)(wrap(r, index, unwrap.inputs) if isinstance(r, torch.Tensor) else r for r in result)
    return result


def compute_instantly(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As `compute`, for an operation that launches nothing."""
    return compute(func, args, kwargs, timed=False)


def view(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs an operation whose results are views of its first argument, the only tensor that it takes."""
    source = args[0]
    if not isinstance(source, VGPUTensor):
        return compute_instantly(func, args, kwargs)
    result = func(source._data, *args[1:], **kwargs)
    if isinstance(result, torch.Tensor):
        return wrap_in(result, source._index, source._block)
    return type(result)([wrap_in(item, source._index, source._block) for item in result])


def compute_in_place(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs an operation that writes into arguments and returns them (`add_`, `out=`), maybe beside new outputs, and may
    change their sizes.
    """
    unwrap, result = _write(func, args, kwargs, timed=func not in INSTANT)
    for tensor in unwrap.inputs:
        data = tensor._data
        if data.layout != torch.strided:
            continue
        if tensor._block.held_bytes != data.untyped_storage().nbytes() or not _same_layout(data, tensor):
            _follow(tensor, unwrap.inputs)
    return _give_back(result, unwrap)


def compute_into(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As `compute_in_place`, for an operation that keeps the sizes of what it writes into (`add_`)."""
    unwrap, result = _write(func, args, kwargs, timed=True)
    return _give_back(result, unwrap)


def _write(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, timed: bool) -> tuple[_Unwrapper, Any]:
    unwrap = _Unwrapper(func)
    plain = unwrap.all_of(args)
    if kwargs:
        kwargs = unwrap.named(kwargs)
    if short and timed:  # those that only move, such as `resize_`, may give it room
        check_room(unwrap.inputs)
    here = machine()
    started = here.watch()
    result = func(*plain, **kwargs)
    if timed and unwrap.index >= 0:
        here.record(unwrap.index, started, func, plain, result)
    return unwrap, result


def _give_back(value: Any, unwrap: _Unwrapper) -> Any:
    """The device tensors that were written into, for the CPU tensors behind them."""
    if isinstance(value, torch.Tensor):
        for tensor in unwrap.inputs:
            if tensor._data is value:
                return tensor
        return wrap(value, unwrap.index, unwrap.inputs)
    if isinstance(value, tuple | list):
        return type(value)([_give_back(item, unwrap) for item in value])
    return value


def _same_layout(data: torch.Tensor, tensor: VGPUTensor) -> bool:
    return data.size() == tensor.size() and data.stride() == tensor.stride()


def _follow(tensor: VGPUTensor, inputs: Sequence[VGPUTensor]) -> None:
    """After `resize_`, `transpose_` or `out=` changed the CPU tensor: the device tensor and its memory follow."""
    data = tensor._data
    storage = data.untyped_storage()
    if tensor._block.key == storage._cdata:
        tensor._block.resize(storage.nbytes())
    else:  # that of another input, or a new one
        tensor._block = wrap(data, tensor._index, inputs)._block
    if not _same_layout(data, tensor):
        # The device tensor's own storage is a size without bytes; it takes over that of a tensor of the new size.
        take_over_storage(tensor, wrap_in(data, tensor._index, tensor._block))


def take_over_storage(tensor: VGPUTensor, other: VGPUTensor) -> None:
    """As torch.utils._python_dispatch does to make a wrapper's output alias its input."""
    included = torch._C._meta_in_tls_dispatch_include()
    torch._C._set_meta_in_tls_dispatch_include(True)
    try:
        with no_dispatch():
            aten.set_.source_Storage_storage_offset(
                tensor, torch._C.TensorBase.untyped_storage(other), other.storage_offset(), other.size(), other.stride()
            )
    finally:
        torch._C._set_meta_in_tls_dispatch_include(included)
