"""Timing: when each device did what, on the clock that suits it.

A Timer reads one clock. The Recorder turns a strategy's marks into spans with it. Which timer suits which devices:

    wall      CPU work, which is done when the call returns
    cuda      CUDA events, read when they are complete, so that the stream never stalls
    virtual   the virtual clock of virtual GPUs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lab.events import Clock
    from lab.timing.base import Timer


def clock_for(devices: Sequence[str], asked: Clock | Literal["auto"] = "auto") -> Clock:
    """The clock on which a run on these devices is shown."""
    kinds = {device.split(":")[0] for device in devices}
    if asked != "auto":
        return asked
    if kinds == {"cuda"}:
        return "cuda"
    return "virtual" if "vgpu" in kinds and "cuda" not in kinds else "wall"


def make_timer(clock: Clock, devices: Sequence[str], agree: Callable[[int], int] = int) -> Timer:
    """A timer that starts at zero now; `agree` gives every rank the number that rank 0 passes."""
    if clock == "cuda":
        from lab.timing.cuda import CudaTimer

        agree(0)  # so that the ranks' first events, from which they count, are recorded at the same time
        return CudaTimer(devices)
    if clock == "virtual":
        from lab.timing.virtual import VirtualTimer

        return VirtualTimer(devices)
    from lab.timing.wall import WallTimer

    return WallTimer(devices, agree)
