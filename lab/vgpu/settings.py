"""The arguments of `lab.vgpu.enable`, checked and made into what a machine consists of. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from lab.errors import DeviceError, did_you_mean
from lab.vgpu import links, profiles, sizes, topologies
from lab.vgpu.links import LinkModel, Topology
from lab.vgpu.profiles import Profile, Timing
from lab.vgpu.topologies import TopologyLike

MAX_DEVICES = 64


def checked(
    devices: int,
    hardware: str | Path | Profile,
    link: str | LinkModel | None,
    memory: int | str | None,
    topology: TopologyLike,
    timing: Timing | None,
) -> tuple[int, Profile, Topology, int, Timing]:
    """The number of devices, their profile, the links between them, the bytes of each, and how operations are timed.

    Raises:
        DeviceError: what is wrong, in one sentence.
    """
    count = _count(devices)
    profile = profiles.find(hardware)
    capacity = profile.capacity_bytes if memory is None else sizes.parse(memory)
    return count, profile, laid(count, profile, link, topology), capacity, _timing(timing) or profile.timing


def laid(devices: int, profile: Profile, link: str | LinkModel | None, topology: TopologyLike) -> Topology:
    """The links between so many devices and their host; None for `link` takes the profile's own.

    Raises:
        DeviceError: what is wrong with the link or the topology.
    """
    own = None if link is None else links.find(link)
    latency_ns = round(profile.link_latency_us * 1000)
    return topologies.make(
        topology,
        devices,
        own or LinkModel(profile.link_gb_per_s, latency_ns),
        LinkModel(profile.host_link_gb_per_s, latency_ns),
        bus_link=own,
    )


def _count(devices: int) -> int:
    if isinstance(devices, bool) or not hasattr(devices, "__index__"):
        raise DeviceError(f"devices={devices!r} is not a whole number: the lab has 1 to {MAX_DEVICES} virtual GPUs")
    if not 1 <= devices <= MAX_DEVICES:
        raise DeviceError(f"devices={devices} is not possible: the lab has 1 to {MAX_DEVICES} virtual GPUs")
    return int(devices)


def _timing(timing: Timing | None) -> Timing | None:
    known = get_args(Timing)
    if timing is not None and timing not in known:
        hint = did_you_mean(timing, known) if isinstance(timing, str) else ""
        raise DeviceError(f"timing {timing!r} is not one of {' and '.join(known)}{hint}")
    return timing
