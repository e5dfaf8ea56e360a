"""Tensors that are not one block of numbers with strides: sparse ones, and nested ones, such as a padded batch becomes
in a transformer encoder.

Private PyTorch names used here: `Tensor._make_wrapper_subclass`, `Tensor._nested_tensor_size`,
`UntypedStorage._cdata`. Tried on torch 2.13.0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def parts(data: Tensor) -> list[Tensor]:
    """The plain tensors that it is made of; itself when it is plain, or nested."""
    if data.layout == torch.sparse_coo:
        return [data._indices(), data._values()]
    if data.layout != torch.strided:  # compressed rows or columns
        return [data.values()]
    return [data]


def bytes_of(data: Tensor) -> int:
    """What it occupies."""
    return sum(part.untyped_storage().nbytes() for part in parts(data))


def key_of(data: Tensor) -> int:
    """Tells its memory from that of others: the storage of its numbers."""
    key: int = parts(data)[-1].untyped_storage()._cdata
    return key


def outer(cls: Any, data: Tensor, device: torch.device) -> Any:
    """The tensor that a virtual GPU shows for it; a nested one shows the size to which it would be padded."""
    if data.is_nested:
        rows: Any = data._nested_tensor_size()
        size = [len(rows), *rows.max(0).values.tolist()] if len(rows) else [0]
        return torch.Tensor._make_wrapper_subclass(cls, size, dtype=data.dtype, device=device)
    if data.layout != torch.sparse_coo:
        name = str(data.layout).removeprefix("torch.")
        raise NotImplementedError(
            f"{device} has no {name} tensors: keep it on the CPU, or use a COO tensor (tensor.to_sparse_coo())"
        )
    return torch.Tensor._make_wrapper_subclass(cls, data.size(), dtype=data.dtype, layout=data.layout, device=device)
