"""The roofline: how long an operation takes on modelled hardware, from its shapes alone.

    time = launch + max(FLOPs / peak rate of its dtype, bytes read and written / memory bandwidth)

after Williams, Waterman and Patterson, "Roofline" (CACM 52(4), 2009). FLOPs are counted by torch's own formulas; an
operation without one counts as its bytes. Every tensor argument and result is read or written once: caches, fusion,
occupancy and the shapes that suit a kernel badly are left out, so real hardware is slower, small operations most of
all. The same shapes give the same times on every machine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from lab.vgpu.profiles import Profile


class Roofline:
    """Times operations on the hardware of a profile."""

    def __init__(self, profile: Profile) -> None:
        self._launch_ns = profile.launch_us * 1000
        self._bytes_per_ns = profile.memory_gb_per_s
        self._flops_per_ns = {getattr(torch, name): tflops * 1000 for name, tflops in profile.peak_tflops.items()}
        self._slowest_flops_per_ns = min(self._flops_per_ns.values())

    def duration_ns(self, func: Any, args: Any, result: Any) -> int:
        """Nanoseconds that the operation takes.

        Args:
            func: the operator overload.
            args: its positional arguments.
            result: what it gave.
        """
        flops, moved = work(func, args, result)
        busy_ns = moved / self._bytes_per_ns
        if flops:
            rate = self._flops_per_ns.get(tensors(result)[0].dtype, self._slowest_flops_per_ns)
            busy_ns = max(busy_ns, flops / rate)
        return round(self._launch_ns + busy_ns)


def work(func: Any, args: Any, result: Any) -> tuple[int, int]:
    """What an operation does: (FLOPs by torch's formula, 0 without one; bytes read and written, each tensor once)."""
    outputs = tensors(result)
    moved = sum(tensor.numel() * tensor.element_size() for tensor in (*tensors(args), *outputs))
    count = flop_registry.get(func._overloadpacket)
    return (count(*args, out_val=result) if count is not None and outputs else 0), moved


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in a value: itself, or those in its lists and tuples."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in tensors(item)]
    return []
