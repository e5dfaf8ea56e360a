"""Checksums of parameters: cheap enough to be taken after every step, and different as soon as one bit is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from lab import vgpu

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SUMS = {torch.int64: torch.int64}


class Checksum:
    """Sums up the bits of each parameter that is trained, read as integers.

    Integers add up to the same in any order, even where the sum overflows, so that ranks with different numbers of
    threads agree. A sum as wide as what it sums up takes a fifth of the time of a wider one.
    """

    def __init__(self, net: nn.Module) -> None:
        self._parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self._places: list[int] = []
        self._bits: list[torch.Tensor] = []
        self._arrays: list[np.ndarray[Any, Any]] | None = None
        """The bits once more, where NumPy reaches them: for a few numbers, its sum takes a third of the time."""

    def sums(self) -> tuple[int, ...]:
        """One for each parameter, in the net's order; a device's simulated host waits for nothing."""
        places = [parameter.data_ptr() for parameter in self._parameters]
        if places != self._places:
            self._bits = [_as_integers(vgpu.peek(parameter)) for parameter in self._parameters]
            # Views of where the parameters lie serve again; a copy would not change with them.
            self._places = places if [bits.data_ptr() for bits in self._bits] == places else []
            on_cpu = all(bits.is_cpu for bits in self._bits)
            self._arrays = [bits.flatten().numpy() for bits in self._bits] if on_cpu else None
        if self._arrays is not None:
            return tuple([int(np.add.reduce(bits, dtype=f"i{max(4, bits.itemsize)}")) for bits in self._arrays])
        sums = [bits.sum(dtype=_SUMS.get(bits.dtype, torch.int32)) for bits in self._bits]
        if len({part.dtype for part in sums} | {part.device for part in sums}) > 2:
            return tuple(int(part) for part in sums)
        return tuple(torch.stack(sums).tolist()) if sums else ()  # a real GPU is waited for once


def _as_integers(values: torch.Tensor) -> torch.Tensor:
    if values.is_complex():
        values = torch.view_as_real(values)
    return values.contiguous().view(_INTEGERS[values.element_size()])
