"""`torch.vgpu.nvtx`: marks and ranges for a profiler of NVIDIA's, of which there is none here.

They nest and number as CUDA's do, take no simulated time, and are not kept: `lab.vgpu.profile()` records what happens,
and `torch.profiler.record_function` names it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["mark", "range", "range_end", "range_pop", "range_push", "range_start"]


class _Open(threading.local):
    depth = 0


_open = _Open()
_handles = itertools.count(1)


def range_push(msg: str) -> int:
    """Opens a range inside those that this thread has open; returns how many those are."""
    _open.depth += 1
    return _open.depth - 1


def range_pop() -> int:
    """Closes the range that was opened last; returns its depth, and -1 where none is open."""
    if not _open.depth:
        return -1
    _open.depth -= 1
    return _open.depth


def range_start(msg: str) -> int:
    """Begins a range that may end in another thread; returns what `range_end` takes."""
    return next(_handles)


def range_end(range_id: int) -> None:
    """Ends a range that `range_start` began."""


def mark(msg: str) -> None:
    """Marks a moment."""


@contextmanager
def range(msg: str, *args: Any, **kwargs: Any) -> Iterator[None]:
    """A range around a block or a function; the message is formatted with the other arguments."""
    range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        range_pop()
