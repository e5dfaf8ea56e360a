"""The copies of `nn.DataParallel` and of `torch.nn.parallel.comm`, for virtual GPUs.

PyTorch has them in C++, for CUDA; what is not on a virtual GPU is left to those.

Private PyTorch names used here: `torch._C._broadcast`, `torch._C._broadcast_coalesced`,
`torch._C._scatter`, `torch._C._gather`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.cuda.nccl
from torch import Tensor

from lab.vgpu import tensor as vt


def register() -> None:
    for name, copies in (
        ("_broadcast", _broadcast),
        ("_broadcast_coalesced", _broadcast_coalesced),
        ("_scatter", _scatter),
        ("_gather", _gather),
    ):
        setattr(torch._C, name, _or_pytorchs(copies, getattr(torch._C, name, None)))
    torch.cuda.nccl.is_available = _without_nccl(torch.cuda.nccl.is_available)


def _or_pytorchs(ours: Callable[..., Any], pytorchs: Callable[..., Any] | None) -> Callable[..., Any]:
    @functools.wraps(ours)
    def copy(tensors: Any, *args: Any) -> Any:
        first = tensors if isinstance(tensors, Tensor) else next(iter(tensors), None)
        # PyTorch's own exists where CUDA was compiled in; there a CPU tensor is meant for CUDA. A net without buffers
        # has nothing to copy, which takes no CUDA.
        if pytorchs is not None and first is not None and not isinstance(first, vt.VGPUTensor):
            return pytorchs(tensors, *args)
        return ours(tensors, *args)

    return copy


def _on(index: int) -> torch.device:
    return torch.device("cpu") if index < 0 else torch.device("vgpu", index)


def _broadcast(tensor: Tensor, devices: Sequence[int]) -> list[Tensor]:
    return [tensor.to(_on(index)) for index in devices]


def _broadcast_coalesced(tensors: Sequence[Tensor], devices: Sequence[int], buffer_size: int) -> list[list[Tensor]]:
    return [[tensor.to(_on(index)) for tensor in tensors] for index in devices]


def _scatter(
    tensor: Tensor, devices: Sequence[int], chunk_sizes: Sequence[int] | None, dim: int, streams: Any
) -> list[Tensor]:
    chunks = tensor.chunk(len(devices), dim) if chunk_sizes is None else tensor.split(list(chunk_sizes), dim)
    return [chunk.to(_on(index)) for chunk, index in zip(chunks, devices, strict=False)]


def _gather(tensors: Sequence[Tensor], dim: int, destination: int | None) -> Tensor:
    index = vt.thread_state.current_device if destination is None else destination
    return torch.cat([tensor.to(_on(index)) for tensor in tensors], dim)


def _without_nccl(is_available: Callable[[Any], bool]) -> Callable[[Any], bool]:
    @functools.wraps(is_available)
    def available(tensors: Any) -> bool:
        return not any(isinstance(tensor, vt.VGPUTensor) for tensor in tensors) and is_available(tensors)

    return available
