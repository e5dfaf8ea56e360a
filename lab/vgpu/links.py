"""Links between virtual GPUs and the host: how long a transfer takes, and what else has to wait meanwhile."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

HOST = -1
"""Index of the host among the ends of a transfer."""


@dataclass(frozen=True, slots=True)
class LinkModel:
    """A transfer takes `latency_ns + bytes / bytes_per_ns`."""

    bytes_per_ns: float
    latency_ns: int

    def duration_ns(self, size: int) -> int:
        return self.latency_ns + round(size / self.bytes_per_ns)


@dataclass(frozen=True, slots=True)
class Route:
    """The way of a transfer from one end to another."""

    link: LinkModel
    """How long it takes: the latencies of all links on the way, and the bandwidth of the narrowest."""
    channels: tuple[Hashable, ...]
    """What it keeps busy from start to end. Two transfers with a channel in common cannot go at the same time."""


class Topology(Protocol):
    """Which links there are, and who shares them."""

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
