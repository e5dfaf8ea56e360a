"""Virtual GPUs for a check, in place of the reader's own for as long as it lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lab.exercises import surroundings

if TYPE_CHECKING:
    from lab.vgpu.machine import Machine


@contextmanager
def virtual(**settings: Any) -> Iterator[Machine]:
    """Makes virtual GPUs as `vgpu.enable` does, modelled; afterwards the devices are what they were."""
    from lab import vgpu

    before = surroundings.machine()
    machine = vgpu.enable(**{"timing": "modelled", **settings})
    try:
        yield machine
    finally:
        surroundings.put_back(before)
