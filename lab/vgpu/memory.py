"""Memory of a virtual GPU: exact accounting by storage, with a capacity.

Private PyTorch names used here: `torch._C.StorageBase`. Tried on torch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from lab.events import Purpose
from lab.vgpu.clock import VirtualClock


class MemoryPool:
    """What one virtual GPU's tensors occupy, in bytes. Views share their storage's block and cost nothing."""

    __slots__ = (
        "_clock",
        "_freed_before",
        "_taken",
        "_taken_before",
        "allocated",
        "capacity",
        "fraction",
        "index",
        "limit",
        "made_from",
        "observers",
        "ooms",
        "peak",
        "purposes",
    )

    def __init__(self, index: int, capacity: int, clock: VirtualClock) -> None:
        self._clock = clock
        self.observers = clock.observers
        self.index = index
        self.capacity = capacity
        self.allow(1.0)
        self.allocated = 0
        self.peak = 0
        self.ooms = 0
        """How often something did not fit."""
        self._taken = self._taken_before = self._freed_before = 0
        self.made_from: Sequence[torch.Tensor] = ()
        """While observers are told of a new block: the tensors that the operation was given."""
        self.purposes: Callable[[int], Mapping[Purpose, int]] | None = None
        """What this device's memory is used for, purpose -> bytes, while somebody keeps a ledger of it."""

    def allow(self, fraction: float) -> None:
        """Lets this process use so much of the capacity."""
        self.fraction = fraction
        self.limit = int(self.capacity * fraction)

    def reserve(self, size: int) -> None:
        """Takes `size` bytes.

        Raises:
            torch.OutOfMemoryError: when they do not fit; says how much was asked for, used and free.
        """
        allocated = self.allocated + size
        if allocated > self.limit:
            raise self._refusal(size)
        self._taken += size
        self.allocated = allocated
        if allocated > self.peak:
            self.peak = allocated

    def check_fits(self, size: int) -> None:
        """Raises as `reserve` does, before the CPU memory behind the tensor is really taken."""
        if self.allocated + size > self.limit:
            raise self._refusal(size)

    def _refusal(self, size: int) -> torch.OutOfMemoryError:
        self.ooms += 1
        allowed = f" {megabytes(self.limit)} are allowed to this process." if self.limit < self.capacity else ""
        return torch.OutOfMemoryError(
            f"VGPU out of memory. Tried to allocate {megabytes(size)}. vgpu:{self.index} has a total capacity of "
            f"{megabytes(self.capacity)} of which {megabytes(self.capacity - self.allocated)} is free.{allowed} "
            f"Of the allocated memory {megabytes(self.allocated)} is held by tensors{self._holders()}."
        )

    def release(self, size: int) -> None:
        self.allocated -= size

    def tell(self, block: Block, change_bytes: int, made_from: Sequence[torch.Tensor] = ()) -> None:
        """Tells the machine's observers of a change."""
        self.made_from = made_from
        for observer in self.observers:
            observer.memory(self.index, block, change_bytes, self._clock.host_ns)
        self.made_from = ()

    def _holders(self) -> str:
        """`: 2.0 kB parameters, 1.0 kB activations` when that is known."""
        if self.purposes is None:
            return ""
        parts = [f"{megabytes(size)} {purpose}" for purpose, size in self.purposes(self.index).items() if size]
        return f": {', '.join(parts)}" if parts else ""

    def reset_peak(self) -> None:
        self.peak = self.allocated

    @property
    def ever_used(self) -> bool:
        return self._taken > 0

    @property
    def total_allocated(self) -> int:
        """All bytes that were ever taken, since `reset_totals()`."""
        return self._taken - self._taken_before

    @property
    def total_freed(self) -> int:
        """All bytes that were ever given back, since `reset_totals()`."""
        return self._taken - self.allocated - self._freed_before

    def reset_totals(self) -> None:
        self._taken_before, self._freed_before = self._taken, self._taken - self.allocated
        self.ooms = 0


_new: Any = torch._C.StorageBase.__new__
_NOWHERE = torch.device("meta")


class Block(torch.UntypedStorage):
    """The memory of one storage; it goes back to its pool when nothing refers to it any more.

    It is a storage of PyTorch's, so that a program can be given it (see `lab.vgpu.storage`) and one object stands for
    one piece of memory as long as that lives. The storage in C++ beside it has no bytes, on `meta`, so that nothing
    takes it for the CPU's.
    """

    __slots__ = ("held_bytes", "key", "pool", "real")

    pool: MemoryPool
    key: int
    """Tells its numbers from those of others: the address of the storage that has them."""
    held_bytes: int
    """What it takes of its pool; below 0 when it is at its end."""
    real: torch.UntypedStorage | None
    """The storage that has the numbers, on the backing; None where there are several."""

    def __new__(
        cls,
        pool: MemoryPool,
        key: int,
        size: int,
        made_from: Sequence[torch.Tensor] = (),
        real: torch.UntypedStorage | None = None,
    ) -> Any:
        return reserve(cls, pool, key, size, made_from, real)

    def resize(self, size: int) -> None:
        """Follows a storage that became larger or smaller."""
        change = size - self.held_bytes
        if change > 0:
            self.pool.reserve(change)
        else:
            self.pool.release(-change)
        self.held_bytes = size
        if self.pool.observers:
            self.pool.tell(self, change)

    def __del__(self) -> None:
        try:
            size, self.held_bytes = self.held_bytes, -1
        except AttributeError:
            return  # interrupted while it was made
        self.pool.release(size)
        if self.pool.observers:
            self.pool.tell(self, -size)


def reserve(cls: Any, pool: MemoryPool, key: int, size: int, made_from: Sequence[torch.Tensor], real: Any) -> Any:
    """A new block. A function, for calling the class would ask it for an initialiser as well, in every operation."""
    block = _new(cls, device=_NOWHERE)
    block.pool = pool
    block.held_bytes = 0  # so that __del__ is right when reserve refuses
    block.key = key
    block.real = real
    pool.reserve(size)
    block.held_bytes = size
    if pool.observers:
        pool.tell(block, size, made_from)
    return block


def megabytes(size: int) -> str:
    """A size as people read it: `368.6 kB`, `2.0 MB`, `1.5 GB` (powers of ten)."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
