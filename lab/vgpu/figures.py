"""Figures of memory of `torch.vgpu`, in bytes, named as in `torch.cuda`.

A virtual GPU keeps no memory back for later, so what is reserved is what is allocated, and there is nothing to be
gained from `empty_cache`. Sizes are exact: CUDA's allocator rounds each up to a multiple of 512.
"""

from __future__ import annotations

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
    return {**stats, "num_alloc_retries": 0, "num_ooms": pool.ooms}


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
