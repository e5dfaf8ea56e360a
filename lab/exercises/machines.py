"""Virtual GPUs for a check, in place of the reader's own for as long as it lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lab.errors import DeviceError

if TYPE_CHECKING:
    from lab.vgpu.machine import Machine


@contextmanager
def virtual(**settings: Any) -> Iterator[Machine]:
    """Makes virtual GPUs as `vgpu.enable` does, modelled; afterwards the devices are what they were."""
    from lab import vgpu
    from lab.vgpu import tensor

    try:
        before: Machine | None = vgpu.current()
    except DeviceError:
        before = None
    machine = vgpu.enable(**{"timing": "modelled", **settings})
    try:
        yield machine
    finally:
        if before is not None:
            tensor.set_machine(before)
