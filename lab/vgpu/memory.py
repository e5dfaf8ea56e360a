"""Memory of a virtual GPU: exact accounting by storage, with a capacity."""

from __future__ import annotations

import torch

from lab.vgpu.clock import VirtualClock


class MemoryPool:
    """What one virtual GPU's tensors occupy, in bytes. Views share their storage's block and cost nothing."""

    __slots__ = ("_clock", "allocated", "capacity", "index", "observers", "peak")

    def __init__(self, index: int, capacity: int, clock: VirtualClock) -> None:
        self._clock = clock
        self.observers = clock.observers
        self.index = index
        self.capacity = capacity
        self.allocated = 0
        self.peak = 0

    def reserve(self, size: int) -> None:
        """Takes `size` bytes.

        Raises:
            torch.OutOfMemoryError: when they do not fit; says how much was asked for, used and free.
        """
        allocated = self.allocated + size
        if allocated > self.capacity:
            raise torch.OutOfMemoryError(
                f"VGPU out of memory. Tried to allocate {megabytes(size)}. vgpu:{self.index} has a total capacity of "
                f"{megabytes(self.capacity)} of which {megabytes(self.capacity - self.allocated)} is free. "
                f"Of the allocated memory {megabytes(self.allocated)} is held by tensors."
            )
        self.allocated = allocated
        if allocated > self.peak:
            self.peak = allocated

    def check_fits(self, size: int) -> None:
        """Raises as `reserve` does, before the CPU memory behind the tensor is really taken."""
        self.reserve(size)
        self.release(size)

    def release(self, size: int) -> None:
        self.allocated -= size

    def tell(self, block: Block, change_bytes: int) -> None:
        """Tells the machine's observers of a change."""
        for observer in self.observers:
            observer.memory(self.index, block, change_bytes, self._clock.host_ns)

    def reset_peak(self) -> None:
        self.peak = self.allocated


class Block:
    """The memory of one storage; it goes back to its pool when the last tensor on that storage is gone."""

    __slots__ = ("_pool", "key", "size")

    def __init__(self, pool: MemoryPool, key: int, size: int) -> None:
        self.size = 0  # so that __del__ is right when reserve refuses
        self._pool = pool
        self.key = key
        pool.reserve(size)
        self.size = size
        if pool.observers:
            pool.tell(self, size)

    def resize(self, size: int) -> None:
        """Follows a storage that an in-place operation made larger or smaller."""
        if size > self.size:
            self._pool.reserve(size - self.size)
        else:
            self._pool.release(self.size - size)
        if self._pool.observers:
            self._pool.tell(self, size - self.size)
        self.size = size

    def __del__(self) -> None:
        self._pool.release(self.size)
        if self._pool.observers:
            self._pool.tell(self, -self.size)


def megabytes(size: int) -> str:
    """A size as people read it: `368.6 kB`, `2.0 MB`, `1.5 GB` (powers of ten)."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
