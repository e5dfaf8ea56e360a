"""The roofline: how long an operation takes on modelled hardware, from its shapes alone.

    time = launch + max(FLOPs / peak rate of its dtype, bytes read and written / memory bandwidth)

after Williams, Waterman and Patterson, "Roofline" (CACM 52(4), 2009). FLOPs are counted by torch's own formulas; an
operation without one counts as its bytes. Every tensor argument and result is read or written once, but for the few
operations in the tables below: caches, fusion, occupancy and the shapes that suit a kernel badly are left out, so real
hardware is slower, small operations most of all. The same shapes give the same times on every machine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from lab.vgpu.profiles import Profile

aten = torch.ops.aten

COUNTED_AS = {
    aten._scaled_dot_product_flash_attention_for_cpu: aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: aten._scaled_dot_product_flash_attention_backward,
}
"""Operations that only a CPU has -> what a GPU has in their place, for which torch has a formula."""

ONLY_WRITTEN = {
    aten.copy_,
    aten.zero_,
    aten.fill_,
    aten.normal_,
    aten.uniform_,
    aten.bernoulli_,
    aten.zeros_like,
    aten.ones_like,
    aten.full_like,
    aten.rand_like,
    aten.randn_like,
    aten.new_zeros,
    aten.new_ones,
    aten.new_full,
}
"""Operations that do not read their first argument: they write over it, or want its shape."""

GATHERS = {aten.embedding, aten.index, aten.index_select, aten.gather}
"""Operations that read as much of their first argument as they give, and not all of it."""

READ_TWICE = {
    aten.native_batch_norm: 1,
    aten._native_batch_norm_legit: 1,
    aten.native_batch_norm_backward: 2,
    aten.batch_norm_backward: 2,
    aten.native_group_norm: 1,
}
"""Operation -> how many of its first arguments it goes over once for sums and once more with them."""


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
    """What an operation does: (FLOPs by torch's formula, 0 without one; bytes read and written)."""
    packet, outputs = func._overloadpacket, tensors(result)
    count = flop_registry.get(COUNTED_AS.get(packet, packet))
    flops = count(*args, out_val=result) if count is not None and outputs else 0
    return flops, _moved_bytes(packet, args, outputs)


def _moved_bytes(packet: Any, args: Any, outputs: list[torch.Tensor]) -> int:
    # What gives nothing back, as the optimizers' operations on lists, has changed its first argument.
    written = sum(map(_bytes, outputs or tensors(args[:1])))
    first, others = tensors(args[:1]), tensors(args[1:])
    read = sum(map(_bytes, others))
    if packet in GATHERS:
        read += min(written, sum(map(_bytes, first)))
    elif packet not in ONLY_WRITTEN:
        read += sum(map(_bytes, first))
    if packet in READ_TWICE:
        read += sum(map(_bytes, tensors(args[: READ_TWICE[packet]])))
    return read + written


def _bytes(tensor: torch.Tensor) -> int:
    """In memory: what an expanded tensor repeats is there once."""
    size = tensor.numel() * tensor.element_size()
    if size and 0 in tensor.stride():
        for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
            size //= length if stride == 0 else 1
    return size


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in a value: itself, or those in its lists and tuples."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in tensors(item)]
    return []
