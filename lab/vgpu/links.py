"""Links between virtual GPUs and the host: how long a transfer takes, and what else has to wait meanwhile."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

from lab.errors import DeviceError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HOST = -1
"""Index of the host among the ends of a transfer."""


@dataclass(frozen=True, slots=True)
class LinkModel:
    """A transfer takes `latency_ns + bytes / bytes_per_ns`, in each direction."""

    bytes_per_ns: float
    """Bandwidth; the figure in GB/s (10^9 bytes per second) is the same."""
    latency_ns: int

    def duration_ns(self, size: int) -> int:
        return self.latency_ns + round(size / self.bytes_per_ns)


@dataclass(frozen=True, slots=True)
class NamedLink:
    """A link that exists; every figure's source stands in links.toml."""

    name: str
    title: str
    gb_per_s: float
    """In one direction, 10^9 bytes per second."""
    latency_us: float
    """Microseconds before the first byte arrives."""
    source: str

    @property
    def model(self) -> LinkModel:
        return LinkModel(self.gb_per_s, round(self.latency_us * 1000))


@functools.cache
def _all() -> dict[str, NamedLink]:
    text = resources.files("lab.vgpu").joinpath("links.toml").read_text(encoding="utf-8")
    return {name: NamedLink(name=name, **fields) for name, fields in tomllib.loads(text).items()}


def names() -> tuple[str, ...]:
    return tuple(_all())


def get(name: str) -> NamedLink:
    """The link of that name.

    Raises:
        KeyError: when there is none; `names()` lists them.
    """
    return _all()[name]


def find(link: str | LinkModel) -> LinkModel:
    """A link's model from its name; a model of the reader's own is checked.

    Raises:
        DeviceError: what is wrong with it, with the nearest name.
    """
    if isinstance(link, LinkModel):
        if not (_is_number(link.bytes_per_ns) and link.bytes_per_ns > 0):
            raise DeviceError(f"{link} has no bandwidth: bytes_per_ns must be above 0, it is the figure in GB/s")
        if not (_is_number(link.latency_ns) and link.latency_ns >= 0):
            raise DeviceError(f"{link} arrives before it is sent: latency_ns must be 0 or more")
        return link
    if not isinstance(link, str):
        known = ", ".join(names())
        raise DeviceError(f"link {link!r} is not a link; give the name of one ({known}), or a LinkModel")
    if link not in names():
        raise DeviceError(f"link {link!r} is not one of {', '.join(names())}{did_you_mean(link, names())}")
    return get(link).model


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True)
class Route:
    """The way of a transfer from one end to another."""

    link: LinkModel
    """How long it takes."""
    channels: tuple[Hashable, ...]
    """What it keeps busy from start to end. Two transfers with a channel in common cannot go at the same time."""


class Topology(Protocol):
    """Which links there are, and who shares them; `lab.vgpu.topologies` makes them."""

    def route(self, source: int, target: int) -> Route:
        """The way from one device (or HOST) to another."""


class OwnLinks:
    """Every pair of devices has a link of its own, and so has each device to the host; both directions at once.

    Args:
        link: between any two devices.
        host_link: between the host and each device; the same as `link` if left out.
    """

    def __init__(self, link: LinkModel, host_link: LinkModel | None = None) -> None:
        self.link = link
        self.host_link = host_link or link

    def route(self, source: int, target: int) -> Route:
        link = self.host_link if HOST in (source, target) else self.link
        return Route(link, ((source, target),))


@dataclass(frozen=True, slots=True)
class Hindrance:
    """What makes the links of one device slower than they are."""

    latency_ns: int = 0
    """Added to each link's own."""
    bytes_per_ns: float = math.inf
    """The most that a link carries."""


class Hindered:
    """A topology, with the links of some devices made slower.

    Args:
        hindrances: by device.
    """

    def __init__(self, topology: Topology, hindrances: Mapping[int, Hindrance]) -> None:
        self.topology = topology
        self._hindrances = hindrances

    def route(self, source: int, target: int) -> Route:
        route = self.topology.route(source, target)
        link = route.link
        for end in (source, target):
            hindrance = self._hindrances.get(end)
            if hindrance is not None:
                slower = min(link.bytes_per_ns, hindrance.bytes_per_ns)
                link = LinkModel(slower, link.latency_ns + hindrance.latency_ns)
        return Route(link, route.channels)
