"""Tensors inside of what layers take and give: tuples, dictionaries, dataclasses, and PyTorch's packed sequences."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def tensors(value: Any) -> list[Tensor]:
    """Every tensor in it, from the first. The lengths in a PackedSequence are not among them: they belong on the CPU,
    wherever its data are."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in _items(value) for tensor in tensors(item)]


def _items(value: Any) -> list[Any]:
    if isinstance(value, PackedSequence):
        return [value.data, value.sorted_indices, value.unsorted_indices]
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, tuple | list):
        return list(value)
    if _is_record(value):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return []


def changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The value with every tensor changed: of the same classes, and the very same object where nothing changes."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, PackedSequence):
        old = _items(value)
        new = [changed(item, change) for item in old]  # the indices may be None
        return value if _same(old, new) else PackedSequence(new[0], value.batch_sizes, *new[1:])
    if not (isinstance(value, dict | tuple | list) or _is_record(value)):
        return value
    old = _items(value)
    new = [changed(item, change) for item in old]
    return value if _same(old, new) else _rebuilt(value, old, new)


def _rebuilt(value: Any, old: list[Any], new: list[Any]) -> Any:
    """A value like this one, with the new items in place of the old."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind(new)
    if isinstance(value, tuple):  # a named tuple takes its fields one by one, and those of torch.return_types together
        return kind._make(new) if hasattr(kind, "_make") else kind(new)
    made = copy.copy(value)
    if isinstance(value, list):
        made[:] = new
    elif isinstance(value, dict):
        for key, item in zip(value, new, strict=True):
            made[key] = item
    # Of a dataclass the fields; what a dictionary keeps as attributes too, as the outputs of language models do.
    by_identity = {id(before): after for before, after in zip(old, new, strict=True)}
    for name, held in getattr(value, "__dict__", {}).items():
        if id(held) in by_identity:
            object.__setattr__(made, name, by_identity[id(held)])
    if _is_record(value) and not isinstance(value, dict):
        for field in dataclasses.fields(value):
            held = getattr(value, field.name, None)
            if id(held) in by_identity:
                object.__setattr__(made, field.name, by_identity[id(held)])
    return made


def _same(old: list[Any], new: list[Any]) -> bool:
    return all(before is after for before, after in zip(old, new, strict=True))


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
