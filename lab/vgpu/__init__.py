"""Virtual GPUs: devices `vgpu:0`, `vgpu:1`, ... that run PyTorch code for GPUs on the CPU.

    import torch
    from lab import vgpu

    vgpu.enable(devices=2)
    x = torch.ones(3, device="vgpu:0")
    x + torch.ones(3, device="vgpu:1")      # the error that CUDA raises

    vgpu.enable(devices=4, hardware="a100", link="nvlink3", memory="40GB", topology="ports")

Results are bit-identical to the CPU's, memory is exact, and time is simulated: see `lab.vgpu.clock`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.vgpu.links import LinkModel
from lab.vgpu.profiles import Profile
from lab.vgpu.topologies import Wire

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lab.vgpu.machine import Machine
    from lab.vgpu.profiles import Timing
    from lab.vgpu.profiling import Profiler
    from lab.vgpu.topologies import TopologyLike

__all__ = ["LinkModel", "Profile", "Wire", "calibrate", "current", "enable", "peek", "profile"]


def enable(
    devices: int = 2,
    hardware: str | Path | Profile = "classroom",
    link: str | LinkModel | None = None,
    memory: int | str | None = None,
    topology: TopologyLike = "pairs",
    timing: Timing | None = None,
    backing: str | torch.device = "cpu",
) -> Machine:
    """Makes `vgpu:0` to `vgpu:{devices-1}` available in this process, with fresh memory and a clock at zero.

    Called again, it replaces the machine. Tensors of the earlier one keep their numbers and can still be used, on the
    device of the same index where there is one; their memory counts for the machine on which they were made. Real GPUs
    are left alone.

    Args:
        devices: how many, 1 to 64.
        hardware: a profile's name (`lab.vgpu.profiles.names()`), a `.toml` file with one, or a profile itself.
        link: between the devices: a link's name (`lab.vgpu.links.names()`) or a `LinkModel`; the profile's own by
            default. The host's link is the profile's.
        memory: capacity of each, in bytes or as `"40GB"`, `"512MB"`, `"1.5GiB"`; the profile's own by default.
        topology: who shares links: `pairs` (nobody), `ports`, `bus`, `nodes:4`, `nodes:4:ethernet_10g`, or a list of
            `Wire`, see `lab.vgpu.topologies`. The bus is the host's link unless `link` says otherwise.
        timing: `measured` on this machine's CPU, or `modelled` from shapes alone; by default the profile's own
            way, and `modelled` on another backing than the CPU.
        backing: the real device that has the numbers: `cpu`; one real GPU, as `cuda:0`, which all virtual ones share;
            or `meta` for shapes, bytes and modelled times without any number, see `lab.vgpu.backing`.

    Raises:
        DeviceError: for a number of devices, a profile, a link, an amount of memory, a topology or a
            backing that cannot be.
    """
    from lab.vgpu import backend, machine, settings, tensor
    from lab.vgpu import backing as backings

    real = backings.find(backing, timing)
    if real.type != "cpu":
        timing = timing or "modelled"
    new = machine.Machine(*settings.checked(devices, hardware, link, memory, topology, timing), real)
    backend.register()
    tensor.set_machine(new)
    return new


def calibrate(device: str | torch.device = "cpu", path: str | Path | None = None) -> Profile:
    """Measures this machine's CPU (one thread of it) or a real GPU, in a few seconds, and makes a profile of it.

    Args:
        device: `cpu`, or a GPU such as `cuda:0`.
        path: a `.toml` file to write the profile to, for `enable(hardware=path)`.

    Raises:
        DeviceError: when the device cannot be measured or the file not be written.
    """
    from lab.vgpu.calibration import calibrate as measure

    return measure(device, path)


def current() -> Machine:
    """The machine that `enable` made last.

    Raises:
        DeviceError: before `enable()`.
    """
    from lab.vgpu import tensor

    return tensor.machine()


def peek(tensor: Tensor) -> Tensor:
    """The CPU tensor behind a tensor on a virtual GPU, or the tensor itself; the simulated host waits for nothing."""
    from lab.vgpu.storage import check_room
    from lab.vgpu.tensor import VGPUTensor

    detached = tensor.detach()
    if not isinstance(detached, VGPUTensor):
        return detached
    check_room((detached,))
    return detached._data


def profile(max_spans: int | None = None) -> Profiler:
    """Records what the virtual GPUs do inside a `with` block: `with vgpu.profile() as p:`, then `p`, `p.timeline()`,
    `p.memory_figure()`, `p.save("trace.json")`.

    Args:
        max_spans: how many operations and transfers it keeps; 200,000 by default.

    Raises:
        ValueError: when `max_spans` is below 1.
        DeviceError: on entering the block, before `enable()`.
    """
    from lab.vgpu import profiling

    return profiling.Profiler(profiling.MAX_SPANS if max_spans is None else max_spans)
