"""`torch.vgpu`: the device module of virtual GPUs, as `torch.cuda` is that of CUDA.

A device is given as in torch.cuda: an int, `"vgpu:1"`, a `torch.device`, or None for the current one.
"""

from __future__ import annotations

from typing import Any

import torch

from lab.errors import DeviceError
from lab.vgpu import refusals, rng
from lab.vgpu.figures import (
    caching_allocator_enable,
    device_memory_used,
    empty_cache,
    get_allocator_backend,
    get_per_process_memory_fraction,
    ipc_collect,
    max_memory_allocated,
    max_memory_cached,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_cached,
    memory_reserved,
    memory_snapshot,
    memory_stats,
    memory_stats_as_nested_dict,
    memory_summary,
    reset_accumulated_memory_stats,
    reset_max_memory_allocated,
    reset_max_memory_cached,
    reset_peak_memory_stats,
    set_per_process_memory_fraction,
)
from lab.vgpu.properties import (
    can_device_access_peer,
    get_arch_list,
    get_device_capability,
    get_device_name,
    get_device_properties,
    get_gencode_flags,
    is_bf16_supported,
    is_tf32_supported,
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
from lab.vgpu.submodules import SUBMODULES
from lab.vgpu.tensor import machine, thread_state
from lab.vgpu.tensor_types import TYPES

__all__ = [
    "AcceleratorError",
    "Event",
    "OutOfMemoryError",
    "Stream",
    "StreamContext",
    "caching_allocator_enable",
    "can_device_access_peer",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "device_memory_used",
    "device_of",
    "empty_cache",
    "get_allocator_backend",
    "get_amp_supported_dtype",
    "get_arch_list",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "get_gencode_flags",
    "get_per_process_memory_fraction",
    "get_rng_state",
    "get_rng_state_all",
    "get_sync_debug_mode",
    "has_half",
    "has_magma",
    "init",
    "initial_seed",
    "ipc_collect",
    "is_available",
    "is_bf16_supported",
    "is_current_stream_capturing",
    "is_initialized",
    "is_tf32_supported",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_cached",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_cached",
    "memory_reserved",
    "memory_snapshot",
    "memory_stats",
    "memory_stats_as_nested_dict",
    "memory_summary",
    "reset_accumulated_memory_stats",
    "reset_max_memory_allocated",
    "reset_max_memory_cached",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_per_process_memory_fraction",
    "set_rng_state",
    "set_rng_state_all",
    "set_stream",
    "set_sync_debug_mode",
    "stream",
    "synchronize",
    *SUBMODULES,
    *TYPES,
]


_initialized = True
"""Checkpoints keep the state of the generator of devices that say so."""


AcceleratorError = torch.AcceleratorError
OutOfMemoryError = torch.OutOfMemoryError
has_half = True
has_magma = False
globals().update(SUBMODULES)
globals().update(TYPES)


def __getattr__(name: str) -> Any:
    if name == "default_generators":  # there are as many as the machine has devices
        return rng.generators()
    return refusals.find(name, __all__)


def init() -> None:
    """Says that the devices are in use; `lab.vgpu.enable()` has done the rest."""
    machine().chosen = True


def is_initialized() -> bool:
    """Whether a device has been used or chosen. Until then a DeviceMesh chooses this rank's own."""
    return machine().in_use


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


def is_current_stream_capturing() -> bool:
    """Never: there are no graphs of kernels."""
    return False


def get_sync_debug_mode() -> int:
    """0: nobody is told of operations that the host waits for."""
    return 0


def set_sync_debug_mode(debug_mode: int | str) -> None:
    """Does nothing for `default`, which is how it is.

    Raises:
        DeviceError: for `warn` and `error`.
    """
    if debug_mode not in (0, "default"):
        raise DeviceError(
            f"set_sync_debug_mode({debug_mode!r}) cannot be had on virtual GPUs: in the timeline of "
            "lab.vgpu.profile(), the host's row shows where it waits"
        )


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.bfloat16, torch.float16]
