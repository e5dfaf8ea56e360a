"""Saving, loading, pickling and deep copies of tensors on virtual GPUs, with views of one storage kept together.

`torch.save` writes the CPU storage behind a tensor, tagged `vgpu:1` as CUDA's storages are tagged `cuda:1`; so a saved
file has nothing of the lab's in it, loads with `weights_only=True`, and `map_location` works.

Private PyTorch names used here: `torch._utils._rebuild_tensor_v2`, `torch._utils._rebuild_parameter`,
`TypedStorage(wrap_storage=, _internal=)`, `TypedStorage._untyped_storage`, `UntypedStorage._cdata`. Tried on torch
2.13.0.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
import torch.serialization

from lab.vgpu.backing import need_numbers
from lab.vgpu.memory import Block
from lab.vgpu.tensor import VGPUTensor, device_index, machine, wrap, wrap_in

_PRIORITY = 9
"""Before the tagger of CPU storages, which has 10."""


class _Outgoing(torch.TypedStorage):
    """A storage on a virtual GPU on its way into a file or a pickle."""

    def __reduce__(self) -> Any:
        # torch.save never asks: it writes storages itself. This is for plain pickle, between processes for instance.
        storage: Any = self._untyped_storage
        return _storage_from_bytes, (bytes(_bytes_of(storage).cpu().numpy()), self.dtype, f"vgpu:{storage._vgpu_index}")


class _Incoming(torch.UntypedStorage):
    """A storage that was loaded for a virtual GPU, before PyTorch builds tensors on it."""

    behind: VGPUTensor

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.behind.device

    def data_ptr(self) -> int:
        # Of a storage at 0, torch.load makes one for each tensor instead of one for all.
        return self.behind._data.data_ptr()

    def _set_from_file(self, file: Any, offset: Any, is_real_file: bool, element_size: int) -> Any:
        # Files of the time before the zip format bring the numbers after the tensors.
        storage: Any = self.behind._data.untyped_storage()
        return storage._set_from_file(file, offset, is_real_file, element_size)


def _bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _storage_from_bytes(content: bytes, dtype: torch.dtype, location: str) -> torch.TypedStorage:
    storage = torch.UntypedStorage(len(content))
    if content:
        _bytes_of(storage).copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    return torch.TypedStorage(wrap_storage=_restore(storage, location), dtype=dtype, _internal=True)


def register() -> None:
    torch.serialization.register_package(_PRIORITY, _location, _restore)


def _location(storage: Any) -> str | None:
    index = getattr(storage, "_vgpu_index", None)
    return None if index is None else f"vgpu:{index}"


def _restore(storage: Any, location: str) -> Any:
    """Puts a storage that was read from a file on the virtual GPU named; None when none is."""
    if location.partition(":")[0] != "vgpu":
        return None
    index = device_index(torch.device(location))
    machine().pools[index].check_fits(storage.nbytes())
    incoming = _Incoming(0)  # type: ignore[no-untyped-call]
    incoming.behind = wrap(_bytes_of(storage).to(machine().backing), index)
    return incoming


def reduce(tensor: VGPUTensor) -> Any:
    """What `torch.save` and pickle keep of a tensor; the same as of a CUDA tensor."""
    hooks: Any = OrderedDict()
    if getattr(tensor, "_is_param", False):
        return torch._utils._rebuild_parameter, (tensor.detach(), tensor.requires_grad, hooks)
    need_numbers(tensor._data, tensor.device)
    data = tensor._data.resolve_conj().resolve_neg()
    untyped = data.untyped_storage()
    untyped._vgpu_index = tensor._index  # type: ignore[attr-defined]
    storage: Any = torch.TypedStorage(wrap_storage=untyped, dtype=tensor.dtype, _internal=True)
    storage.__class__ = _Outgoing
    about = (storage, data.storage_offset(), tuple(data.size()), data.stride(), tensor.requires_grad, hooks)
    return torch._utils._rebuild_tensor_v2, about


def deep_copy(tensor: VGPUTensor, memo: dict[int, Any]) -> VGPUTensor:
    """A tensor on a copy of the storage, which other copies made with `memo` share."""
    if id(tensor) in memo:
        known: VGPUTensor = memo[id(tensor)]
        return known
    if not tensor.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment. "
            "Detach it first: copy.deepcopy(tensor.detach())."
        )
    data = tensor._data.detach()
    storages = memo.setdefault("vgpu", {})  # type: ignore[call-overload]
    key = data.untyped_storage()._cdata
    if key not in storages:
        size = data.untyped_storage().nbytes()
        machine().pool(tensor._index).check_fits(size)
        copied = data.untyped_storage().clone()
        storages[key] = copied, Block(machine().pool(tensor._index), copied._cdata, size)
    storage, block = storages[key]
    numbers = torch.empty(0, dtype=data.dtype, device=data.device).set_(
        storage, data.storage_offset(), data.size(), data.stride()
    )
    if data.is_conj() or data.is_neg():
        numbers = numbers.conj() if data.is_conj() else torch._neg_view(numbers)
    result = wrap_in(numbers, tensor._index, block)
    memo[id(tensor)] = result
    result.requires_grad_(tensor.requires_grad)
    if tensor.grad is not None:
        result.grad = copy.deepcopy(tensor.grad, memo)
    own = {name: value for name, value in tensor.__dict__.items() if name not in ("_data", "_block", "_index")}
    result.__dict__.update(copy.deepcopy(own, memo))
    return result
