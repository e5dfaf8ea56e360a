"""How long collectives take, against sums worked out by hand."""

from __future__ import annotations

import pytest

from lab.vgpu.links import LinkModel, OwnLinks, Route
from lab.vgpu.rings import duration_ns, slowest_link

LINK = LinkModel(bytes_per_ns=2.0, latency_ns=10)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("all_reduce", 6 * 10 + 6 * 400 // 4 // 2),  # 3 steps to add up, 3 to hand round, of 100 bytes each
        ("pieces", 3 * 10 + 3 * 400 // 2),
        ("stream", 3 * 10 + 400 // 2),
        ("fan", 10 + 3 * 400 // 2),
        ("exchange", 10 + 3 * 100 // 2),
    ],
)
def test_four_ranks(pattern, expected):
    assert duration_ns(pattern, 400, 4, LINK) == expected


@pytest.mark.parametrize("pattern", ["all_reduce", "pieces", "stream", "fan", "exchange"])
def test_a_single_rank_has_nobody_to_talk_to(pattern):
    assert duration_ns(pattern, 400, 1, LINK) == 0


def test_a_ring_is_as_slow_as_its_slowest_hop():
    class Hops:
        """vgpu:2 to vgpu:0, which closes the ring, is narrow; 1 to 2 is far; 0 to 2 is not in the ring."""

        def route(self, source: int, target: int) -> Route:
            links = {(0, 1): LinkModel(8.0, 1), (1, 2): LinkModel(8.0, 50), (2, 0): LinkModel(3.0, 1)}
            return Route(links.get((source, target), LinkModel(0.1, 1000)), ())

    assert slowest_link(Hops(), [0, 1, 2]) == LinkModel(3.0, 50)
    assert slowest_link(OwnLinks(LINK), [3, 5]) == LINK
