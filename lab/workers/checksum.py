"""Checksums of parameters: cheap enough to be taken after every step, and different as soon as one bit is."""

from __future__ import annotations

import torch
from torch import nn

from lab import vgpu

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Checksum:
    """Sums up the bits of each parameter that is trained, read as integers.

    Integers add up to the same in any order, so that ranks with different numbers of threads agree.
    """

    def __init__(self, net: nn.Module) -> None:
        self._parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]

    def sums(self) -> tuple[int, ...]:
        """One for each parameter, in the net's order; a device's simulated host waits for nothing."""
        return tuple(_sum(vgpu.peek(parameter.detach())) for parameter in self._parameters)


def _sum(values: torch.Tensor) -> int:
    if values.is_complex():
        values = torch.view_as_real(values)
    return int(values.contiguous().view(_INTEGERS[values.element_size()]).sum())
