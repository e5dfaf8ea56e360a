"""What a student may write for a value, as one type: tensors, arrays, lists, generators, dictionaries, devices.

Everything is copied when it is read, so that an answer that goes on to change it changes nothing that was looked at. A
generator is read once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lab.exercises.grading import Wrong, shown

if TYPE_CHECKING:
    import torch

MOST_ITEMS = 100_000
"""That are read of what has no end, or might have none."""


def number(value: Any, asked: str = "One number") -> float:
    """A number, also as a tensor or an array of one element.

    Raises:
        Wrong: when it is none, or not finite.
    """
    try:
        if isinstance(value, str | bytes) or value is None:
            raise TypeError
        found = float(value.item() if hasattr(value, "item") else value)
    except Exception:  # noqa: BLE001 - whatever a reader's own class does, it is no number
        raise Wrong(f"{asked} is asked for, and this is {shown(value)}{_shape(value)}.") from None
    if not math.isfinite(found):
        raise Wrong(f"{asked} is asked for, and this is {found}.")
    return found


def tensor(value: Any, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """A tensor of float64 on the CPU, from a tensor on any device and of any dtype, an array, or lists of numbers.

    Raises:
        Wrong: when it is none of them, has another shape than is asked for, or numbers that are not finite.
    """
    import torch

    try:
        if value is None or isinstance(value, str | bytes | Mapping):
            raise TypeError
        if not hasattr(value, "shape") and isinstance(value, Iterable):
            value = [each.tolist() if hasattr(each, "tolist") else each for each in _limited(value)]
        given = value.detach() if isinstance(value, torch.Tensor) else torch.as_tensor(value)
        found = given.cpu().to(torch.float64).clone()
    except Wrong:
        raise
    except Exception:  # noqa: BLE001 - torch has a kind of error for each thing that is no tensor
        raise Wrong(f"A tensor is asked for, and this is {shown(value)}.") from None
    if shape is not None and tuple(found.shape) != shape:
        raise Wrong(f"A tensor of shape {shape} is asked for, and yours has {tuple(found.shape)}.")
    if not bool(found.isfinite().all()):
        raise Wrong("There are numbers in it that are not finite (nan or inf).")
    return found


def indices(value: Any) -> list[int] | None:
    """Whole numbers, in whatever they stand; None when they are none."""
    found = _items(value)
    if found is None:
        return None
    whole = [_whole(each) for each in found]
    return None if None in whole else [each for each in whole if each is not None]


def lists_of_numbers(value: Any) -> list[list[Any]] | None:
    """An answer that is groups of numbers, as lists; None when it is not.

    The groups may stand in a list, a tensor, an array, a generator, or be the values of a dictionary in the order of
    its keys; and so may the numbers of a group. Whole numbers are given as int, whatever type they had.
    """
    groups = _items(value)
    found = None if groups is None else [_items(group) for group in groups]
    if found is None or any(group is None for group in found):
        return None
    return [[each if (whole := _whole(each)) is None else whole for each in group or ()] for group in found]


def device(value: Any) -> torch.device:
    """A device, from its name or a torch.device; one without an index is the first.

    Raises:
        Wrong: for what is no device, a number too.
    """
    import torch

    try:
        if not isinstance(value, str | torch.device):
            raise TypeError
        found = torch.device(value)
    except (RuntimeError, TypeError):
        raise Wrong(
            f"A device is asked for, such as 'vgpu:0' or torch.device('vgpu:0'), and this is {shown(value)}."
        ) from None
    return found if found.index is not None or found.type == "cpu" else torch.device(found.type, 0)


def _whole(value: Any) -> int | None:
    """A number without a fraction as int; None for anything else, True and False too."""
    if isinstance(value, bool | str | bytes):
        return None
    try:
        found = float(value)
    except Exception:  # noqa: BLE001 - whatever a reader's own class does, it is no number
        return None
    return int(found) if math.isfinite(found) and found == int(found) else None


def _items(value: Any) -> list[Any] | None:
    if isinstance(value, Mapping):
        try:
            value = [value[key] for key in sorted(value)]
        except TypeError:  # keys that have no order
            value = list(value.values())
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return None
    try:
        return [item.tolist() if hasattr(item, "tolist") else item for item in _limited(value)]
    except TypeError:  # a tensor of no dimensions
        return None


def _limited(value: Iterable[Any]) -> list[Any]:
    found = list(itertools.islice(iter(value), MOST_ITEMS + 1))
    if len(found) > MOST_ITEMS:
        raise Wrong(f"It goes on and on: after {MOST_ITEMS:,} items there are still more.")
    return found


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f" of shape {tuple(shape)}" if isinstance(shape, tuple) and shape else ""
