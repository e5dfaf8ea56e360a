"""Which way an operation goes, and the operators that need a way of their own: copies, `.item()`, factories.

Private PyTorch names used here: `OpOverload._schema`, `decompose` and `has_kernel_for_dispatch_key`,
`torch._C.DispatchKey`. Tried on torch 2.13.0.
"""

from __future__ import annotations

from typing import Any

import torch

from lab.vgpu import fused
from lab.vgpu.backing import need_numbers
from lab.vgpu.dispatch import (
    INSTANT,
    compute,
    compute_in_place,
    compute_instantly,
    compute_into,
    take_over_storage,
    view,
)
from lab.vgpu.drawing import drawing, draws
from lab.vgpu.links import HOST
from lab.vgpu.storage import check_room, short
from lab.vgpu.tensor import Plan, VGPUTensor, device_index, machine, wrap, wrap_in

aten = torch.ops.aten


def move(data: torch.Tensor, source: int, target: int, *, host_waits: bool) -> None:
    """Counts a copy of `data` between devices (or HOST) on the clock."""
    here = machine()
    if here.timing:
        here.clock.transfer(source, target, data.numel() * data.element_size(), host_waits=host_waits)


def _place(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The CPU tensor behind it, and its device's index (or HOST)."""
    return (tensor._data, tensor._index) if isinstance(tensor, VGPUTensor) else (tensor, HOST)


def _copy_(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return copy(*args, **kwargs)


def copy(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Copies numbers into `target`, within a device or from one to another."""
    if short:
        check_room(tensor for tensor in (target, source) if isinstance(tensor, VGPUTensor))
    (to, to_index), (data, from_index) = _place(target), _place(source)
    if to_index == HOST and from_index != HOST:
        need_numbers(data, source.device)
    started = machine().watch()
    to.copy_(data)
    if from_index == to_index:
        machine().record(to_index, started, aten.copy_.default, (to, data), to)
    elif HOST in (from_index, to_index):
        # From and to memory that is not pinned, CUDA copies by way of a buffer of its own, and the host has to help.
        beside = non_blocking and (data if from_index == HOST else to).is_pinned()
        move(data, from_index, to_index, host_waits=not beside)
    else:
        move(data, from_index, to_index, host_waits=False)
    return target


def _to_copy(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Tensor.to` of a tensor on a virtual GPU; copies to another device, or changes the dtype on the same one."""
    source: VGPUTensor = args[0]
    if short:
        check_room((source,))
    kwargs = dict(kwargs)
    device = kwargs.pop("device", None) or source.device
    non_blocking = kwargs.pop("non_blocking", False)
    kwargs.pop("pin_memory", None)
    if device.type != "vgpu":
        need_numbers(source._data, source.device)
        move(source._data, source._index, HOST, host_waits=not non_blocking)
        return aten._to_copy.default(source._data, **kwargs).to(device)
    started = machine().watch()
    data = aten._to_copy.default(source._data, **kwargs)
    index = device_index(device)
    if index == source._index:
        machine().record(index, started, func, (source._data,), data)
    else:
        move(source._data, source._index, index, host_waits=False)
    return wrap(data, index, (source,))


def _scalar(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`.item()`: the host waits for the device."""
    source: VGPUTensor = args[0]
    if short:
        check_room((source,))
    need_numbers(source._data, source.device)
    move(source._data, source._index, HOST, host_waits=True)
    return func(source._data)


def _fill(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`x.fill_(number)`, whose number may lie on another device; then the host reads it, as on CUDA."""
    target, number = args
    if number.device != target.device and number.dim() == 0:
        target.fill_(number.item())
        return target
    return compute_into(func, args, kwargs)


def _index_put(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`x[mask] = number`, whose number may lie on another device too."""
    target, indices, number, *rest = args
    if number.device != target.device and number.dim() == 0:
        number = number.to(target.device)
        if not isinstance(target, VGPUTensor):
            return func(target, indices, number, *rest, **kwargs)
    return compute_into(func, (target, indices, number, *rest), kwargs)


def _record_stream(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """`Tensor.record_stream`: nothing to do, for no numbers are overwritten that an operation still needs."""


def _pack(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`pack_padded_sequence`: as on CUDA, the lengths lie on the CPU, and so do the sizes of the batches."""
    source, lengths, *rest = args
    if not isinstance(source, VGPUTensor) or isinstance(lengths, VGPUTensor):
        return compute(func, args, kwargs)
    started = machine().watch()
    data, batch_sizes = func(source._data, lengths, *rest)
    machine().record(source._index, started, func, (source._data,), data)
    return wrap(data, source._index), batch_sizes


def _set_storage(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Tensor.set_` on a storage."""
    target, source, *layout = args
    if source.device != target.device:
        raise RuntimeError(
            f'Attempted to set the storage of a tensor on device "{target.device}" to a storage on different device '
            f'"{source.device}".  This is no longer allowed; the devices must match.'
        )
    before = source.nbytes()
    func(target._data, source.real, *layout, **kwargs)
    target._block = source
    if source.nbytes() != before:  # it was too small
        grown = source.nbytes()
        source.real.resize_(before)
        source.resize_(grown)
    take_over_storage(target, wrap_in(target._data, target._index, source))
    return target


def _like(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`zeros_like`, `new_empty` and the like, which may name another device than their input's."""
    device = kwargs.get("device")
    timed = func not in INSTANT
    if device is None:
        return compute(func, args, kwargs, timed=timed)
    if device.type != "vgpu":
        return func(*map(_cpu, args), **kwargs)
    index = device_index(device)
    if all(value._index == index for value in args if isinstance(value, VGPUTensor)):
        return compute(func, args, kwargs, timed=timed)
    return wrap(func(*map(_cpu, args), **{**kwargs, "device": machine().backing}), index)


def _decompose(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Tensor.to` and the like where autograd is off, which else takes such an operator apart before it comes here."""
    return func.decompose(*args, **kwargs)


def _cpu(value: Any) -> Any:
    return value._data if isinstance(value, VGPUTensor) else value


def _share_a_kind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Asked of `tensor.data = other` in inference mode: between virtual GPUs, on whichever they are."""
    return all(isinstance(tensor, VGPUTensor) for tensor in args)


_OWN: dict[Any, Plan] = {
    aten._has_compatible_shallow_copy_type.default: _share_a_kind,
    aten.copy_.default: _copy_,
    aten._to_copy.default: _to_copy,
    aten._local_scalar_dense.default: _scalar,
    aten._pack_padded_sequence.default: _pack,
    aten.fill_.Tensor: _fill,
    aten.index_put_.default: _index_put,
    aten._index_put_impl_.default: _index_put,
    aten.record_stream.default: _record_stream,
    aten.set_.source_Storage: _set_storage,
    aten.set_.source_Storage_storage_offset: _set_storage,
}

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_COLLECTIVES = frozenset(
    {"c10d", "_c10d_functional", "_c10d_functional_autograd", "c10d_functional", "_dtensor", "symm_mem"}
)
"""Namespaces of operators that several ranks run together."""


def plan_for(func: Any) -> Plan:
    """Decides once per operator how it is run."""
    return drawing(_plan_for(func)) if draws(func) else _plan_for(func)


def _plan_for(func: Any) -> Plan:
    """From its schema."""
    if func in _OWN:
        return _OWN[func]
    if func.namespace in _COLLECTIVES:
        from lab.vgpu import distributed  # imported here, for there are builds of PyTorch without it

        return distributed.plan_for(func)
    own = fused.plan_for(func)
    if own is not None:
        return own
    schema = func._schema
    returns = [value.alias_info for value in schema.returns]
    moves = torch.Tag.inplace_view in func.tags or "resize" in schema.name
    if moves:
        INSTANT.add(func)
    written = [value for value in schema.arguments if value.alias_info is not None and value.alias_info.is_write]
    if written:
        # What stands after the star, `out=`, is resized to the result.
        return compute_in_place if moves or any(value.kwarg_only for value in written) else compute_into
    if returns and all(info is not None for info in returns):
        INSTANT.add(func)
    named = any(argument.name == "device" for argument in schema.arguments)
    if (named or func in (aten.to.other, aten.type_as.default)) and func.has_kernel_for_dispatch_key(_COMPOSITE):
        return _decompose
    if named:
        return _like
    tensors = [argument for argument in schema.arguments if "Tensor" in str(argument.type)]
    if func in INSTANT and len(tensors) == 1 and returns and all(info is not None for info in returns):
        return view
    return compute_instantly if func in INSTANT else compute
