"""`torch.vgpu`: the device module of virtual GPUs, as `torch.cuda` is that of CUDA.

A device is given as in torch.cuda: an int, `"vgpu:1"`, a `torch.device`, or None for the current one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lab.vgpu import rng
from lab.vgpu.figures import (
    empty_cache,
    ipc_collect,
    max_memory_allocated,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    memory_summary,
    reset_accumulated_memory_stats,
    reset_max_memory_allocated,
    reset_peak_memory_stats,
)
from lab.vgpu.rng import (
    get_rng_state,
    get_rng_state_all,
    initial_seed,
    manual_seed,
    manual_seed_all,
    seed,
    seed_all,
    set_rng_state,
    set_rng_state_all,
)
from lab.vgpu.selection import DeviceLike, device, device_of, index_of, select
from lab.vgpu.streams import Event, Stream, StreamContext, current_stream, default_stream, set_stream, stream
from lab.vgpu.tensor import machine, thread_state

__all__ = [
    "Event",
    "Stream",
    "StreamContext",
    "can_device_access_peer",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "device_of",
    "empty_cache",
    "get_amp_supported_dtype",
    "get_device_name",
    "get_device_properties",
    "get_rng_state",
    "get_rng_state_all",
    "init",
    "initial_seed",
    "ipc_collect",
    "is_available",
    "is_bf16_supported",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "memory_summary",
    "reset_accumulated_memory_stats",
    "reset_max_memory_allocated",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_rng_state",
    "set_rng_state_all",
    "set_stream",
    "stream",
    "synchronize",
]


_initialized = True
"""Checkpoints keep the state of the generator of devices that say so."""


def __getattr__(name: str) -> Any:
    if name == "default_generators":  # there are as many as the machine has devices
        return rng.generators()
    raise AttributeError(f"module 'torch.vgpu' has no attribute {name!r}")


@dataclass(frozen=True)
class DeviceProperties:
    """What there is to know of a virtual GPU."""

    name: str
    total_memory: int
    """In bytes."""


def init() -> None:
    """Does nothing: `lab.vgpu.enable()` has done it."""


def is_initialized() -> bool:
    return True


def is_available() -> bool:
    return True


def _is_in_bad_fork() -> bool:
    """Whether this process is a fork that cannot use the devices; there is no such thing here."""
    return False


def device_count() -> int:
    return machine().device_count


def current_device() -> int:
    """The index of this thread's current device."""
    return thread_state.current_device


def set_device(device: DeviceLike) -> None:
    """Makes it the current device of this thread; does nothing when it is negative."""
    if not (isinstance(device, int) and device < 0):
        select(index_of(device))


def synchronize(device: DeviceLike = None) -> None:
    """The host waits for all streams of the device."""
    machine().clock.synchronize(index_of(device))


def get_device_properties(device: DeviceLike = None) -> DeviceProperties:
    return DeviceProperties(get_device_name(device), machine().pools[index_of(device)].capacity)


def get_device_name(device: DeviceLike = None) -> str:
    """The title of the hardware that it pretends to be."""
    index_of(device)
    return machine().profile.title


def can_device_access_peer(device: DeviceLike, peer_device: DeviceLike) -> bool:
    """Whether one device's copies can go straight to the other: between any two, but not to itself."""
    return index_of(device) != index_of(peer_device)


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Always: the CPU computes it."""
    return True


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.bfloat16, torch.float16]
