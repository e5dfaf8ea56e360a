"""`torch.Generator(device="vgpu:1")`: a source of random numbers that belongs to a virtual GPU.

It draws as the CPU's generator with the same seed does, so that results stay the CPU's.

Private PyTorch names used here: `Generator._cdata`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

_Plain = torch.Generator
_ours: weakref.WeakValueDictionary[int, Generator] = weakref.WeakValueDictionary()
"""By the address of the generator in C++: PyTorch hands operators another Python object around the same one."""


class _Kind(type(_Plain)):  # type: ignore[misc]
    """`isinstance(x, torch.Generator)` holds for the generators that PyTorch itself makes as well."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Plain)


class Generator(_Plain, metaclass=_Kind):
    """As `torch.Generator`, on virtual GPUs too."""

    _vgpu: torch.device

    def __new__(cls, device: Any = None) -> Any:
        from lab.vgpu.tensor import device_index, machine

        there = torch.device("cpu" if device is None else device)
        if there.type != "vgpu":
            return _Plain(there)
        # The `meta` backing draws no numbers.
        behind = machine().backing
        generator: Any = super().__new__(cls, torch.device("cpu") if behind.type == "meta" else behind)  # type: ignore[call-arg]
        generator._vgpu = torch.device("vgpu", device_index(there))
        _ours[generator._cdata] = generator
        return generator

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._vgpu

    def clone_state(self) -> Generator:
        clone: Generator = Generator(self.device)
        clone.set_state(self.get_state())
        return clone


def check(generator: Any, index: int) -> None:
    """Refuses a generator of another device than that of the numbers.

    Raises:
        RuntimeError: when it belongs to another device than vgpu:`index`, as CUDA says it.
    """
    here = torch.device("vgpu", index)
    known = _ours.get(generator._cdata)
    device = generator.device if known is None else known.device
    if device.type != "vgpu":
        raise RuntimeError(f"Expected a 'vgpu' device type for generator but found '{device.type}'")
    if device != here:
        raise RuntimeError(f"Expected a generator of {here} but found one of {device}")


def register() -> None:
    torch.Generator = Generator  # type: ignore[misc]
