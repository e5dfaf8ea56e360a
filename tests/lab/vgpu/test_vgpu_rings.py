"""How long collectives take, against sums worked out by hand."""

from __future__ import annotations

import pytest

from lab.vgpu.links import LinkModel, OwnLinks, Route
from lab.vgpu.rings import PATTERNS, duration_ns, sent_bytes, slowest_link

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


@pytest.mark.parametrize(
    ("collective", "sent"),
    [
        ("all_reduce", (600, 600, 600, 600)),  # 3 pieces of 100 bytes to add up, 3 to hand round
        ("bucket 0", (600, 600, 600, 600)),  # a name of its own
        ("all_gather", (1200, 1200, 1200, 1200)),  # its own piece, and two that it passes on
        ("reduce_scatter", (1200, 1200, 1200, 1200)),
        ("broadcast", (400, 400, 400, 0)),  # the last of the ring has nobody to pass it on to
        ("reduce", (0, 400, 400, 400)),
        ("scatter", (1200, 0, 0, 0)),
        ("gather", (0, 400, 400, 400)),
        ("all_to_all", (300, 300, 300, 300)),
    ],
)
def test_what_each_of_four_ranks_sends(collective, sent):
    assert sent_bytes(collective, 400, 4) == sent


@pytest.mark.parametrize("ranks", [2, 3, 5, 8])
def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather(ranks):
    piece = 120
    parts = zip(sent_bytes("reduce_scatter", piece, ranks), sent_bytes("all_gather", piece, ranks), strict=True)
    assert sent_bytes("all_reduce", piece * ranks, ranks) == tuple(sum(part) for part in parts)


@pytest.mark.parametrize("collective", PATTERNS)
def test_a_single_rank_sends_nothing(collective):
    assert sent_bytes(collective, 400, 1) == (0,)
