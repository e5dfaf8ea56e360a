"""Operations that draw random numbers: each draws from the generator of its device, or from the one that it is given.

Private PyTorch names used here: `OpOverload._schema`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

from lab.vgpu import rng
from lab.vgpu.generator import Numbers, numbers_of
from lab.vgpu.tensor import Plan, VGPUTensor, device_index

_lock = threading.RLock()
_places: dict[Any, int | None] = {}
"""For each operator that draws, where in its schema the generator stands."""


def draws(func: Any) -> bool:
    """Whether an operator draws random numbers."""
    return torch.Tag.nondeterministic_seeded in func.tags


def drawing(plan: Plan) -> Plan:
    """The plan, with numbers from where they belong."""

    def draw(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        index = device_of(args, kwargs)
        return plan(func, args, kwargs) if index is None else draw_on(index, plan, func, args, kwargs)

    return draw


def draw_on(index: int, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs an operation of vgpu:`index` that draws."""
    place = _place(func)
    given = None if place is None else args[place] if place < len(args) else kwargs.get("generator")
    numbers = _of_device(index) if given is None else numbers_of(given, index)
    if numbers is None or (isinstance(numbers, rng.DeviceNumbers) and numbers.follows):
        return plan(func, *_naming(None, place, args, kwargs))
    numbers.begin()
    if place is None:
        result = _lend(numbers, plan, func, args, kwargs)
    else:
        result = plan(func, *_naming(numbers.source, place, args, kwargs))
    first = result if isinstance(result, torch.Tensor) else result[0]
    numbers.end(first.numel())
    return result


def device_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """The device on which an operation draws; None where it is the CPU."""
    device = kwargs.get("device")
    if device is not None:
        return device_index(device) if device.type == "vgpu" else None
    values = (*args, *kwargs.values())
    return next((value._index for value in values if isinstance(value, VGPUTensor)), None)


def _of_device(index: int) -> Numbers | None:
    generators = rng.generators()
    return generators[index].numbers if index < len(generators) else None


def _place(func: Any) -> int | None:
    if func not in _places:
        names = [argument.name for argument in func._schema.arguments]
        _places[func] = names.index("generator") if "generator" in names else None
    return _places[func]


def _naming(
    source: torch.Generator | None, place: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with another generator."""
    if place is None:
        return args, kwargs
    if place < len(args):
        return (*args[:place], source, *args[place + 1 :]), kwargs
    return args, {**kwargs, "generator": source}


def _lend(numbers: Numbers, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """For an operator that takes no generator, PyTorch's default one draws these numbers for once."""
    lent = torch.cuda.default_generators[numbers.source.device.index] if numbers.is_real else torch.default_generator
    with _lock:
        kept = lent.get_state()
        lent.set_state(numbers.source.get_state())
        try:
            return plan(func, args, kwargs)
        finally:
            numbers.source.set_state(lent.get_state())
            lent.set_state(kept)
