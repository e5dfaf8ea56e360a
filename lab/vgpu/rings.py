"""How long a collective takes among virtual GPUs: the ring algorithms, as NCCL runs them.

With n ranks, links of bandwidth B and latency L, and S bytes at each rank:

- all-reduce: every rank passes on 2 (n-1) pieces of S/n bytes, so 2 (n-1) (L + S/(n B)). This is the least traffic that
  any algorithm needs (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
  Journal of Parallel and Distributed Computing 69, 2009).
- all-gather, reduce-scatter: half of it; n-1 pieces of the size that one rank gives or keeps.
- broadcast, reduce: the bytes stream along the ring, S/B, and the last rank is n-1 latencies away.
- gather, scatter, all-to-all: direct sends at the same time; the pieces of a rank share its way in or out.

In bytes they are the "bus bandwidth" factors of NVIDIA's nccl-tests (doc/PERFORMANCE.md there). The ring goes through
the ranks in order, and runs at the pace of its slowest link.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from lab.vgpu.links import LinkModel, Topology

Pattern: TypeAlias = Literal["all_reduce", "pieces", "stream", "fan", "exchange"]
PATTERNS: dict[str, Pattern] = {
    "all_reduce": "all_reduce",
    "barrier": "all_reduce",
    "broadcast": "stream",
    "reduce": "stream",
    "all_gather": "pieces",
    "reduce_scatter": "pieces",
    "gather": "fan",
    "scatter": "fan",
    "all_to_all": "exchange",
}
"""A collective's name -> how its bytes travel."""


def slowest_link(topology: Topology, devices: Sequence[int]) -> LinkModel:
    """What a ring through these devices, in this order, runs at: the least bandwidth and the longest latency in it."""
    links = [
        topology.route(device, following).link
        for device, following in zip(devices, (*devices[1:], devices[0]), strict=True)
    ]
    return LinkModel(min(link.bytes_per_ns for link in links), max(link.latency_ns for link in links))


def duration_ns(pattern: Pattern, size: int, ranks: int, link: LinkModel) -> int:
    """Nanoseconds that a collective takes from when the last rank is ready; 0 for a single rank.

    Args:
        pattern: how the bytes travel. `all_reduce`; `pieces` (all-gather, reduce-scatter); `stream` (broadcast,
            reduce); `fan` (gather, scatter); `exchange` (all-to-all).
        size: bytes: for `pieces` and `fan` of one rank's piece, else of all that a rank gives.
        ranks: how many take part.
        link: of the ring (`slowest_link`).
    """
    if ranks == 1:
        return 0
    others = ranks - 1
    latencies, moved = {
        "all_reduce": (2 * others, 2 * others * size / ranks),
        "pieces": (others, others * size),
        "stream": (others, size),
        "fan": (1, others * size),
        "exchange": (1, others * size / ranks),
    }[pattern]
    return latencies * link.latency_ns + round(moved / link.bytes_per_ns)


def sent_bytes(collective: str, size: int, ranks: int) -> tuple[int, ...]:
    """What each rank sends to others in a collective, in bytes, the root's first; rounded where pieces are uneven.

    The formulas are those that `duration_ns` divides by the bandwidth, so the sources are the same. In an all-reduce
    every rank sends 2 (n-1)/n of its bytes: as many as it has on 2 ranks, and nearly twice as many on a lot of them.

    Args:
        collective: its name, of `PATTERNS`; any other is an all-reduce with a name of its own, such as `bucket 0`.
        size: bytes: of one rank's piece where `duration_ns` takes that, else of all that a rank gives.
        ranks: how many take part.
    """
    others = ranks - 1
    match PATTERNS.get(collective, "all_reduce"):
        case "all_reduce":
            return (round(2 * others * size / ranks),) * ranks
        case "pieces":
            return (others * size,) * ranks
        case "exchange":
            return (round(others * size / ranks),) * ranks
        case "stream":
            # Along the ring from the root, or to it: the last one has nobody to send to.
            return (*(size,) * others, 0) if collective == "broadcast" else (0, *(size,) * others)
        case "fan":
            return (others * size, *(0,) * others) if collective == "scatter" else (0, *(size,) * others)
