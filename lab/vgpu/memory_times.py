"""When a device's memory is taken and given back: by the host as it issues, or on the device, as work comes to it.

PyTorch's caching allocator takes a block when the host issues the operation that fills it, and may give it to the next
operation as soon as the last tensor on it is gone, long before the device has come so far: the order on the stream
makes that safe. So by the host's clock a step's memory is over when the host has issued it, while the device has hardly
begun. `on_device` says when the device is at each of these places: a block is held from the start of the operation that
fills it until the end of the last operation that was issued before the block was given back. The order of changes, and
so every height, stays as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lab.vgpu.memory_record import MemoryPoint


class Work(NamedTuple):
    """An operation or a copy of one device, in nanoseconds on the virtual clock."""

    issued_ns: int
    """When the host had issued it."""
    start_ns: int
    end_ns: int


def on_device(points: Sequence[MemoryPoint], works: Iterable[Work]) -> list[MemoryPoint]:
    """The points with the times at which the device comes to them, in the same order.

    Args:
        points: in the order of the host, the state at the beginning first; their times are the host's.
        works: what the device did meanwhile, on the same clock.

    Nothing moves to an earlier time: what no operation explains, such as an empty tensor, is where the host is, or
    where the device is with what was issued before. With several streams the order is that of issue.
    """
    queue = sorted(works)
    issued = [work.issued_ns for work in queue]
    found: list[MemoryPoint] = []
    for index, point in enumerate(points):
        at_ns = point.at_ns
        place = bisect_right(issued, at_ns) - 1
        if index and place >= 0:
            last = queue[place]
            fills = point.total > points[index - 1].total and last.issued_ns == at_ns
            at_ns = max(at_ns, last.start_ns if fills else last.end_ns)
        found.append(point._replace(at_ns=max(at_ns, found[-1].at_ns) if found else at_ns))
    return found
