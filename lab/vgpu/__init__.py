"""Virtual GPUs: devices `vgpu:0`, `vgpu:1`, ... that run unmodified PyTorch code on the CPU.

    import torch
    from lab import vgpu

    vgpu.enable(devices=2)
    x = torch.ones(3, device="vgpu:0")
    x + torch.ones(3, device="vgpu:1")      # the error that CUDA raises

Results are bit-identical to the CPU's, memory is exact, and time is simulated: see `lab.vgpu.clock`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from lab.vgpu.links import LinkModel
    from lab.vgpu.machine import Machine
    from lab.vgpu.profiles import Timing

__all__ = ["current", "enable", "peek"]


def enable(
    devices: int = 2,
    hardware: str = "classroom",
    link: LinkModel | None = None,
    memory_bytes: int | None = None,
    timing: Timing | None = None,
) -> Machine:
    """Makes `vgpu:0` to `vgpu:{devices-1}` available in this process, with fresh memory and a clock at zero.

    Args:
        devices: how many, 1 to 64.
        hardware: a profile's name (`lab.vgpu.profiles.names()`).
        link: between the devices; the profile's own by default.
        memory_bytes: capacity of each; the profile's own by default.
        timing: `measured` on this machine's CPU, or `modelled` from shapes alone; by default the profile's own
            way.

    Raises:
        DeviceError: for a number of devices or a profile that there is not.
    """
    from lab.errors import DeviceError, did_you_mean
    from lab.vgpu import backend, machine, profiles, tensor

    if hardware not in profiles.names():
        known = profiles.names()
        raise DeviceError(f"hardware {hardware!r} is not one of {', '.join(known)}{did_you_mean(hardware, known)}")
    new = machine.Machine(devices, profiles.get(hardware), link, memory_bytes, timing)
    backend.register()
    tensor.set_machine(new)
    tensor.prepare_thread()
    return new


def current() -> Machine:
    """The machine that `enable` made last.

    Raises:
        DeviceError: before `enable()`.
    """
    from lab.vgpu import tensor

    return tensor.machine()


def peek(tensor: Tensor) -> Tensor:
    """The CPU tensor behind a tensor on a virtual GPU, or the tensor itself; the simulated host waits for nothing."""
    from lab.vgpu.tensor import VGPUTensor

    detached = tensor.detach()
    return detached._data if isinstance(detached, VGPUTensor) else detached
