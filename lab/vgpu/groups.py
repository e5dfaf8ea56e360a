"""Process groups for tensors on virtual GPUs: how they are made, split, and found.

Three kinds carry such tensors: one with our backend, for `vgpu` beside the CPU or alone; one of gloo alone, which
carries CUDA's tensors too; and one without a backend's name, which serves the CPU and the devices.

A group that was bound to a device (`init_process_group(device_id=...)`) makes others by splitting, which is gloo's work
here, as all that travels.

Private PyTorch names used here: of ProcessGroup, `_get_backend`, `_register_backend`, `_set_default_backend` and
`_device_types`; `ProcessGroupGloo._Options` and what is in it; `torch.distributed.distributed_c10d.BackendConfig`,
whose name there goes to ours; `Backend._plugins`, `torch._C._get_accelerator`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore
from torch.distributed import distributed_c10d

from lab.errors import DeviceError
from lab.vgpu.tensor import CPU

BACKEND = "vgloo"
_EVERYWHERE = f"cpu:gloo,vgpu:{BACKEND}"


class _BackendConfig(distributed_c10d.BackendConfig):
    """Which backend serves which device; without a backend's name, the CPU and the devices."""

    def __init__(self, backend: Any) -> None:
        nameless = str(backend) == dist.Backend.UNDEFINED and torch._C._get_accelerator().type == "vgpu"
        super().__init__(dist.Backend(_EVERYWHERE) if nameless else backend)


def register() -> None:
    # PyTorch looks for the first of these names, in capitals, among those of a group's backends, in small letters. It
    # finds none, and a group that carried nothing ends with a warning.
    dist.Backend._plugins = {BACKEND: dist.Backend._plugins[BACKEND.upper()], **dist.Backend._plugins}
    distributed_c10d.BackendConfig = _BackendConfig  # type: ignore[misc]
    dist.ProcessGroupGloo._Options.__deepcopy__ = _copy_options  # type: ignore[attr-defined]
    dist.ProcessGroupGloo.perform_nocolor_split = _stay_out  # type: ignore[attr-defined]
    if hasattr(dist.ProcessGroup, "split_group"):
        dist.ProcessGroup.split_group = _or_pytorchs(dist.ProcessGroup.split_group)  # type: ignore[method-assign]


def _or_pytorchs(split: Callable[..., Any]) -> Callable[..., Any]:
    """`ProcessGroup.split_group`. PyTorch's own has the backends of two devices meet under one name, and gloo's then
    wait for each other for ever."""

    @functools.wraps(split)
    def split_group(
        group: Any,
        ranks: Sequence[int],
        timeout: timedelta | None = None,
        opts: Any = None,
        group_name: str | None = None,
        group_desc: str | None = None,
        **filters: Any,
    ) -> Any:
        devices = filters.get("device_types") or group._device_types
        if not any(device.type == "vgpu" for device in devices):
            return split(group, ranks, timeout, opts, group_name, group_desc, **filters)
        ranks = sorted(ranks)
        if group.rank() not in ranks:
            return None
        store = PrefixStore(f"{group_name}/", group.get_group_store())
        rank, size = ranks.index(group.rank()), len(ranks)
        made: Any = dist.ProcessGroup(store, rank, size)
        backends: dict[Any, Any] = {}
        for device in sorted(devices, key=str):
            parent = group._get_backend(device)
            if parent not in backends:
                about = PrefixStore(f"{device.type}/", store)
                backends[parent] = dist.ProcessGroupGloo(about, rank, size, timeout=timeout or parent.options._timeout)
            ours = device.type == "vgpu"
            kind = dist.ProcessGroup.BackendType.CUSTOM if ours else dist.ProcessGroup.BackendType.GLOO
            made._register_backend(torch.device(device.type), kind, backends[parent])
        made._set_default_backend(dist.ProcessGroup.BackendType.CUSTOM)
        made._set_group_name(group_name)
        made._set_group_desc(group_desc or "undefined")
        return made

    return split_group


def _copy_options(options: Any, memo: dict[int, Any]) -> Any:
    """Those of a split are its parent's; nobody changes them."""
    return options


def _stay_out(backend: Any, device: torch.device) -> None:
    """What a rank does while others split a group: with NCCL it has to take part, with gloo not."""


def prepare(group: Any) -> None:
    """Makes sure that a group can carry the CPU tensors that are behind those on virtual GPUs.

    Raises:
        DeviceError: when it was not made for virtual GPUs.
    """
    kinds = {device.type for device in group._device_types}
    if "vgpu" not in kinds:
        if {"cpu", "cuda"} <= kinds and group._get_backend(CPU).name() == dist.Backend.GLOO:
            return  # gloo alone, from before there were virtual GPUs
        raise DeviceError(
            f"this process group is for tensors on {' and '.join(sorted(kinds))}, not on virtual GPUs. "
            f'Make it with dist.init_process_group("{_EVERYWHERE}", ...).'
        )
    backend = group._get_backend(torch.device("vgpu"))
    if "cpu" not in kinds:
        group._register_backend(CPU, dist.ProcessGroup.BackendType.CUSTOM, backend)
    if "cuda" not in kinds:  # not gloo alone, which has a default
        group._set_default_backend(dist.ProcessGroup.BackendType.CUSTOM)  # with none, PyTorch warns when the group ends
