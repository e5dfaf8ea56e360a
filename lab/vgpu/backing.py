"""Where the numbers of virtual GPUs really are, and what computes them.

- `cpu`: this machine's processor; results are the CPU's to the bit.
- `cuda:0`: one real GPU, which all virtual GPUs share. Results are those of that GPU.
- `meta`: nothing. Tensors have shapes, types and bytes, operations take their modelled time, and no number is ever
  computed. So the memory and the timeline of a net can be had that no machine at hand could run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from lab.errors import DeviceError, did_you_mean
from lab.vgpu.profiles import Timing

KINDS = ("cpu", "cuda", "meta")


def find(backing: str | torch.device, timing: Timing | None) -> torch.device:
    """The real device, if there is such a one and it can be timed so.

    Raises:
        DeviceError: what is wrong, in one sentence.
    """
    try:
        device = torch.device(backing)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in KINDS:
        hint = did_you_mean(str(backing), KINDS)
        raise DeviceError(f"backing {str(backing)!r} is not one of cpu, cuda:0 (or another index) and meta{hint}")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        index = device.index or 0
        if index >= count:
            has = f"has {count} CUDA device{'s' * (count > 1)}" if count else "has no CUDA device"
            raise DeviceError(f"backing 'cuda:{index}' is not there: this machine {has}")
        device = torch.device("cuda", index)
    if device.type == "meta" and timing == "measured":
        raise DeviceError("backing='meta' computes nothing that could be measured: take timing='modelled'")
    return device


def watch(backing: torch.device) -> Callable[[], int]:
    """By which operations are measured, in nanoseconds.

    On the CPU, the time for which this thread computes: time in which other programs have the core does not count, so
    that a busy machine tells the same story. On a GPU, the time on the wall at which it has done all that was issued;
    so a measured run on a GPU issues no operation before the last one has ended.
    """
    if backing.type == "cpu":
        return time.thread_time_ns

    def when_done() -> int:
        torch.cuda.synchronize(backing)
        return time.perf_counter_ns()

    return when_done


def no_watch() -> int:
    """Where operations are modelled, nobody looks."""
    return 0


def need_numbers(data: torch.Tensor, device: torch.device) -> None:
    """Refuses to read numbers that there are not.

    Raises:
        DeviceError: on the `meta` backing.
    """
    if data.is_meta:
        raise DeviceError(
            f"{device} has no numbers to read: with backing='meta' the lab works out shapes, bytes and times alone"
        )
