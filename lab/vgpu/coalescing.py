"""Collectives that a program begins together: PyTorch's `_coalescing_manager` with a device.

NCCL launches them as one. Here they take their turns on the group's communication stream, and whoever waits for them
waits for the last.

Private PyTorch names used here: `ProcessGroup._start_coalescing` and `_end_coalescing`, which are replaced for virtual
GPUs. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist

from lab.vgpu.tensor import device_index, machine
from lab.vgpu.works import EndedWork

_open: WeakKeyDictionary[Any, list[EndedWork]] = WeakKeyDictionary()
"""What has begun in each group that is between the start and the end."""


def register() -> None:
    dist.ProcessGroup._start_coalescing = _or_pytorchs(_start, dist.ProcessGroup._start_coalescing)  # type: ignore[method-assign]
    dist.ProcessGroup._end_coalescing = _or_pytorchs(_end, dist.ProcessGroup._end_coalescing)  # type: ignore[method-assign]


def begun(group: Any, work: EndedWork) -> None:
    """To be told of everything that begins."""
    if _open and group in _open:
        _open[group].append(work)


def _or_pytorchs(ours: Callable[..., Any], pytorchs: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(pytorchs)
    def choose(group: Any, device: torch.device) -> Any:
        return (ours if device.type == "vgpu" else pytorchs)(group, device)

    return choose


def _start(group: Any, device: torch.device) -> None:
    _open[group] = []


def _end(group: Any, device: torch.device) -> Any:
    return _Together(device_index(device), _open.pop(group))


class _Together(EndedWork):
    """Several, of which the last to end counts."""

    def __init__(self, device: int, works: list[EndedWork]) -> None:
        super().__init__(machine().clock, device, 0, [tensor for work in works for tensor in work.outputs])
        self._works = works

    def _settle(self) -> None:
        for work in self._works:
            work.settle()
        self.end_ns = max((work.end_ns for work in self._works), default=0)
