"""The profiles of all ranks as one.

Every rank's process has virtual GPUs and a profile of its own, but their clocks agree: a collective starts at the same
moment on all of them. So what was recorded apart can be laid on one line of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.distributed as dist

from lab.errors import DeviceError
from lab.vgpu.memory_record import MemoryPoint
from lab.vgpu.recording import Collective, OpSpan, Recording, Transfer


@dataclass(frozen=True)
class _Part:
    """What one rank recorded, on its way to another. Times are on the virtual clock, from its beginning."""

    spans: list[OpSpan]
    transfers: list[Transfer]
    collectives: list[Collective]
    memory: dict[str, list[MemoryPoint]]
    notes: list[str]
    devices: tuple[str, ...]
    hardware: str
    issue_ns: int
    zero_ns: int
    length_ns: int
    host_ns: int
    left_out: int


class Gathered(Recording):
    """What the virtual GPUs of all ranks did, from when the first rank's profile began until the last one's ended."""

    _points: dict[str, list[MemoryPoint]]

    def memory_of(self, device: str) -> list[MemoryPoint]:
        self._check(device)
        return self._points.get(device, [])


def gather(recording: Recording, group: Any = None) -> Gathered | None:
    """Brings the recordings of all ranks of a process group together; on its first rank, and None on the others.

    Raises:
        DeviceError: without a process group.
    """
    if not dist.is_initialized():
        raise DeviceError(
            "there is no process group whose ranks' profiles could be brought together: call "
            "dist.init_process_group(...) first, or look at this process's profile alone"
        )
    group = dist.group.WORLD if group is None else group
    first = dist.get_rank(group) == 0
    parts: list[Any] | None = [None] * dist.get_world_size(group) if first else None
    dist.gather_object(_part_of(recording), parts, dst=dist.get_global_rank(group, 0), group=group)
    return None if parts is None else together(parts)


def _part_of(recording: Recording) -> _Part:
    return _Part(
        recording.spans,
        recording.transfers,
        recording.collectives,
        {device: points for device, points in recording.memory.items() if any(point.total for point in points)},
        recording.notes,
        recording.devices,
        recording.hardware,
        recording.issue_ns,
        recording._zero_ns,
        recording.length_ns,
        recording.host_ns,
        recording.left_out,
    )


def together(parts: Sequence[_Part]) -> Gathered:
    """One recording of several, in the order of their ranks."""
    whole = Gathered()
    whole._zero_ns = min(part.zero_ns for part in parts)
    whole._points = {}
    for rank, part in enumerate(parts):
        later = part.zero_ns - whole._zero_ns
        whole.spans += [_moved(span, later) for span in part.spans]
        whole.transfers += [_moved(copy, later) for copy in part.transfers]
        whole.collectives += [
            replace(each, ready_ns=each.ready_ns + later, start_ns=each.start_ns + later, end_ns=each.end_ns + later)
            for each in part.collectives
        ]
        for device, points in part.memory.items():
            whole._points[device] = [point._replace(at_ns=point.at_ns + later) for point in points]
        whole.notes += [f"Rank {rank}: {note}" for note in part.notes]
        whole.length_ns = max(whole.length_ns, later + part.length_ns)
        whole.host_ns = max(whole.host_ns, later + part.host_ns)
        whole.left_out += part.left_out
    whole.devices = max((part.devices for part in parts), key=len)
    whole.hardware, whole.issue_ns = parts[0].hardware, parts[0].issue_ns
    return whole


def _moved(span: Any, later_ns: int) -> Any:
    return replace(
        span,
        issued_ns=span.issued_ns + later_ns,
        start_ns=span.start_ns + later_ns,
        end_ns=span.end_ns + later_ns,
    )
