"""Saving, loading, pickling and deep copies of tensors on virtual GPUs, with views of one storage kept together.

`torch.save` writes a tensor's storage, tagged `vgpu:1` as CUDA's storages are tagged `cuda:1`; so a saved
file has nothing of the lab's in it, loads with `weights_only=True`, and `map_location` works.

Private PyTorch names used here: `torch._utils._rebuild_tensor_v2`, `torch._utils._rebuild_parameter`,
`torch._utils._rebuild_parameter_with_state`,
`TypedStorage(wrap_storage=, _internal=)`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
import torch.serialization

from lab.vgpu.backing import need_numbers
from lab.vgpu.storage import VGPUStorage, bytes_of
from lab.vgpu.tensor import VGPUTensor, device_index, machine, wrap, wrap_in

_PRIORITY = 9
"""Before the tagger of CPU storages, which has 10."""


def register() -> None:
    torch.serialization.register_package(_PRIORITY, _location, _restore)


def _location(storage: Any) -> str | None:
    return str(storage.device) if isinstance(storage, VGPUStorage) else None


def _restore(storage: Any, location: str) -> Any:
    """Puts a storage that was read from a file on the virtual GPU named; None when none is."""
    if location.partition(":")[0] != "vgpu":
        return None
    index = device_index(torch.device(location))
    machine().pools[index].check_fits(storage.nbytes())
    return wrap(bytes_of(storage).to(machine().backing), index)._block


def reduce(tensor: VGPUTensor) -> Any:
    """What `torch.save` and pickle keep of a tensor; the same as of a CUDA tensor."""
    hooks: Any = OrderedDict()
    if getattr(tensor, "_is_param", False):
        own = own_attributes(tensor)
        if own:
            return torch._utils._rebuild_parameter_with_state, (tensor.detach(), tensor.requires_grad, hooks, own)
        return torch._utils._rebuild_parameter, (tensor.detach(), tensor.requires_grad, hooks)
    need_numbers(tensor._data, tensor.device)
    plain: Any = tensor.detach().resolve_conj().resolve_neg()
    storage = torch.TypedStorage(wrap_storage=plain.untyped_storage(), dtype=tensor.dtype, _internal=True)
    about = (storage, plain.storage_offset(), tuple(plain.size()), plain.stride(), tensor.requires_grad, hooks)
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
    result = _copied(tensor, memo)
    memo[id(tensor)] = result
    result.requires_grad_(tensor.requires_grad)
    if tensor.grad is not None:
        result.grad = copy.deepcopy(tensor.grad, memo)
    result.__class__ = type(tensor)
    result.__dict__.update(copy.deepcopy(own_attributes(tensor), memo))
    if getattr(tensor, "_is_param", False):
        result._is_param = True
    return result


def own_attributes(tensor: VGPUTensor) -> dict[str, Any]:
    """What a program has hung on it."""
    ours = ("_data", "_block", "_index", "_is_param")
    return {name: value for name, value in tensor.__dict__.items() if name not in ours}


def _copied(tensor: VGPUTensor, memo: dict[int, Any]) -> VGPUTensor:
    if tensor._block.real is None:  # a sparse tensor has several storages
        return wrap(tensor._data.detach().clone(), tensor._index)
    block: VGPUStorage = copy.deepcopy(tensor._block, memo)  # type: ignore[assignment]
    data = tensor._data
    numbers = torch.empty(0, dtype=data.dtype, device=data.device)
    numbers.set_(block.real, data.storage_offset(), data.size(), data.stride())
    if data.is_conj() or data.is_neg():
        numbers = numbers.conj() if data.is_conj() else torch._neg_view(numbers)
    return wrap_in(numbers, tensor._index, block)
