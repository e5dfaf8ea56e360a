"""Figures of memory of `torch.vgpu`, in bytes, named as in `torch.cuda`.

A virtual GPU keeps no memory back for later, so what is reserved is what is allocated, and there is nothing to be
gained from `empty_cache`. Sizes are exact: CUDA's allocator rounds each up to a multiple of 512.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

from lab.vgpu.memory import MemoryPool, megabytes
from lab.vgpu.selection import DeviceLike, index_of
from lab.vgpu.tensor import machine


def _pool(device: DeviceLike) -> MemoryPool:
    return machine().pools[index_of(device)]


def memory_allocated(device: DeviceLike = None) -> int:
    """What tensors occupy now."""
    return _pool(device).allocated


def max_memory_allocated(device: DeviceLike = None) -> int:
    """The most that tensors occupied since the start, or since `reset_peak_memory_stats`."""
    return _pool(device).peak


def memory_reserved(device: DeviceLike = None) -> int:
    """The same as `memory_allocated`."""
    return _pool(device).allocated


def max_memory_reserved(device: DeviceLike = None) -> int:
    """The same as `max_memory_allocated`."""
    return _pool(device).peak


def reset_peak_memory_stats(device: DeviceLike = None) -> None:
    """From now on, the peak is that of now and later."""
    _pool(device).reset_peak()


def reset_max_memory_allocated(device: DeviceLike = None) -> None:
    """As `reset_peak_memory_stats`."""
    reset_peak_memory_stats(device)


def reset_accumulated_memory_stats(device: DeviceLike = None) -> None:
    """From now on, `allocated`, `freed` and `num_ooms` of `memory_stats` count from 0."""
    _pool(device).reset_totals()


def memory_stats(device: DeviceLike = None) -> dict[str, int]:
    """Bytes now, at the peak, ever allocated and ever freed, and how often memory ran out.

    The keys are those of `torch.cuda.memory_stats` for which there is a figure here, such as
    `allocated_bytes.all.peak`.
    """
    pool = _pool(device)
    figures = {
        "current": pool.allocated,
        "peak": pool.peak,
        "allocated": pool.total_allocated,
        "freed": pool.total_freed,
    }
    kinds = ("allocated_bytes", "active_bytes", "requested_bytes", "reserved_bytes")
    stats = {f"{kind}.all.{name}": value for kind in kinds for name, value in figures.items()}
    # Nothing is ever split, tried again or waited for.
    stats |= {f"inactive_split_bytes.all.{name}": 0 for name in figures}
    return {**stats, "num_alloc_retries": 0, "num_ooms": pool.ooms, "num_sync_all_streams": 0}


def memory_stats_as_nested_dict(device: DeviceLike = None) -> dict[str, Any]:
    """The figures of `memory_stats`, a dict within a dict for each dot in a key."""
    nested: dict[str, Any] = {}
    for key, value in memory_stats(device).items():
        *path, last = key.split(".")
        inner = nested
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return nested


def memory_cached(device: DeviceLike = None) -> int:
    """The older name of `memory_reserved`."""
    return memory_reserved(device)


def max_memory_cached(device: DeviceLike = None) -> int:
    """The older name of `max_memory_reserved`."""
    return max_memory_reserved(device)


def reset_max_memory_cached(device: DeviceLike = None) -> None:
    """As `reset_peak_memory_stats`."""
    reset_peak_memory_stats(device)


def device_memory_used(device: DeviceLike = None) -> int:
    """The same as `memory_allocated`: nothing else occupies memory."""
    return _pool(device).allocated


def set_per_process_memory_fraction(fraction: float, device: DeviceLike = None) -> None:
    """This process may use so much of the memory, to the byte below; past it comes OutOfMemoryError.

    Args:
        fraction: from 0 to 1.

    Raises:
        TypeError: when it is no float.
        ValueError: when it is not from 0 to 1.
    """
    if not isinstance(fraction, float):
        raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    _pool(device).allow(fraction)


def get_per_process_memory_fraction(device: DeviceLike = None) -> float:
    """How much of the memory this process may use."""
    return _pool(device).fraction


def get_allocator_backend() -> str:
    """As on CUDA, unless another is chosen."""
    return "native"


def caching_allocator_enable(value: bool = True) -> None:
    """Does nothing: no memory is kept back that could be used again or not."""


def memory_snapshot(mempool_id: Any = None, include_traces: bool = True) -> list[dict[str, Any]]:
    """What is allocated: a segment with one block for each device that has any, with the keys of CUDA's."""
    found = []
    for pool in machine().pools:
        if not pool.allocated:
            continue
        size = pool.allocated
        block = {"size": size, "requested_size": size, "address": 0, "state": "active_allocated", "frames": []}
        sizes = dict.fromkeys(("total_size", "allocated_size", "active_size", "requested_size"), size)
        about = {"segment_type": "large", "segment_pool_id": (0, 0), "is_expandable": False, "frames": []}
        found.append({"device": pool.index, "address": 0, "stream": 0, **sizes, **about, "blocks": [block]})
    return found


def _record_memory_history(enabled: Any = "all", *args: Any, **kwargs: Any) -> None:
    """Does nothing: `lab.vgpu.profile()` records how memory was used, and what for."""


def _snapshot(device: DeviceLike = None, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The snapshot of all devices, and no history."""
    return {"segments": memory_snapshot(), "device_traces": [[] for _ in machine().pools], "allocator_settings": {}}


def _dump_snapshot(filename: str | os.PathLike[str] = "dump_snapshot.pickle", *args: Any, **kwargs: Any) -> None:
    """Writes the snapshot as pytorch.org/memory_viz reads it."""
    with open(filename, "wb") as file:
        pickle.dump(_snapshot(), file)


def memory_summary(device: DeviceLike = None, abbreviated: bool = False) -> str:
    """The figures of `memory_stats` as a text to print."""
    pool = _pool(device)
    rows = (
        ("Allocated", pool.allocated),
        ("Peak", pool.peak),
        ("Free", pool.capacity - pool.allocated),
        ("Capacity", pool.capacity),
        ("Ever allocated", pool.total_allocated),
        ("Ever freed", pool.total_freed),
    )
    lines = [f"Memory of vgpu:{pool.index} (simulated), out of memory {pool.ooms} time{'s' * (pool.ooms != 1)}"]
    return "\n".join(lines + [f"  {name:<15}{megabytes(size):>12}{size:>20,} bytes" for name, size in rows])


def mem_get_info(device: DeviceLike = None) -> tuple[int, int]:
    """What is free, and the capacity."""
    pool = _pool(device)
    return pool.capacity - pool.allocated, pool.capacity


def empty_cache() -> None:
    """Does nothing: no memory is kept back."""


def ipc_collect() -> None:
    """Does nothing: no memory is shared with other processes."""
