"""How long something takes on devices, by their own clock: CUDA events on GPUs, the simulated clock on virtual GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any


def milliseconds(work: Callable[[], Any], devices: Sequence[str], times: int = 1) -> float:
    """Milliseconds that one call of `work` takes, until all devices are done with what it issued.

    A first call is not counted: it makes what is only made once.

    Args:
        devices: all of one kind: `cpu`, `cuda:0`, `vgpu:0` ...
        times: over how many calls the mean is taken.
    """
    import torch

    kind = devices[0].partition(":")[0]
    work()
    if kind == "cpu":
        began = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - began) * 1e3 / times
    gpu: Any = torch.get_device_module(kind)

    def moment() -> Any:
        for device in devices:
            gpu.synchronize(device)
        with gpu.device(devices[0]):  # events of different devices cannot be compared
            event = gpu.Event(enable_timing=True)
            event.record()
            event.synchronize()
        return event

    began_at = moment()
    for _ in range(times):
        work()
    return float(began_at.elapsed_time(moment())) / times
