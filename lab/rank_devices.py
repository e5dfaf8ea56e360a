"""The devices of each rank: which ones it has, under which names it reports them, and what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from lab import devices, vgpu
from lab.checks import rank_devices
from lab.events import DeviceInfo, Placed
from lab.experiment import Experiment, Link
from lab.vgpu import profiles, settings
from lab.vgpu.links import LinkModel


def lane_names(devices: Sequence[str], world_size: int, rank: int) -> dict[str, str]:
    """Device -> the name under which this rank reports it, for devices that several ranks share."""
    return {device: f"rank {rank} · {device}" for device in devices} if len(devices) < world_size else {}


def own_placement(placed: Placed, devices: tuple[str, ...], own: tuple[str, ...]) -> dict[str, str]:
    """The placement is rank 0's; another rank puts each layer on its own device in the same place."""
    return {layer: own[devices.index(device)] for layer, device in placed.layers.items()}


def enable(experiment: Experiment) -> Callable[[str], DeviceInfo]:
    """Makes the virtual GPUs that the Experiment names, and tells what each device is."""
    virtual = [int(device[5:]) for device in experiment.devices if device.startswith("vgpu")]
    profile = profiles.find(experiment.hardware) if virtual else profiles.get(profiles.DEFAULT)
    capacity = max(1, round(experiment.memory_mb * 1e6)) if experiment.memory_mb else profile.capacity_bytes
    if virtual:
        given = experiment.link
        link = given if given is None or isinstance(given, str) else _model(given)
        timing = None if experiment.timing == "auto" else experiment.timing
        vgpu.enable(max(virtual) + 1, profile, link, capacity, experiment.topology, timing)
    title = profile.title
    if virtual and vgpu.current().model is not None:
        title += ", modelled"
    real = {device.name: device for device in devices.available()} if len(virtual) < len(experiment.devices) else {}

    def about(name: str) -> DeviceInfo:
        return real[name] if name in real else DeviceInfo(name, title, capacity, True)

    return about


def relink(experiment: Experiment, link: Link) -> None:
    """From now on, this is the link between the virtual GPUs that the Experiment names."""
    machine = vgpu.current()
    machine.clock.topology = settings.laid(machine.device_count, machine.profile, _model(link), experiment.topology)


def _model(link: Link) -> LinkModel:
    return LinkModel(link.bandwidth_gb_per_s, round(link.latency_us * 1000))


def of_all_ranks(experiment: Experiment, about: Callable[[str], DeviceInfo]) -> tuple[DeviceInfo, ...]:
    """Every rank's devices, in the order of the ranks."""
    world_size = experiment.world_size or 1
    found: list[DeviceInfo] = []
    for rank in range(world_size):
        names = lane_names(experiment.devices, world_size, rank)
        own = rank_devices(experiment.devices, world_size, rank)
        found += [dataclasses.replace(about(device), name=names.get(device, device), rank=rank) for device in own]
    return tuple(found)
