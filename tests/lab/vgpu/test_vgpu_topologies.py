"""Links and topologies: who waits for whom, against schedules worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch

from lab import vgpu
from lab.errors import DeviceError
from lab.vgpu import links, topologies
from lab.vgpu.links import HOST, LinkModel, Topology
from lab.vgpu.topologies import Wire

INSIDE = LinkModel(bytes_per_ns=10.0, latency_ns=1)
BESIDE = LinkModel(bytes_per_ns=2.0, latency_ns=2)
SIZE = 1000


def made(topology: Any, devices: int = 4) -> Topology:
    return topologies.make(topology, devices, INSIDE, BESIDE)


def ends(topology: Any, *pairs: tuple[int, int], devices: int = 4) -> list[int]:
    """When transfers of SIZE bytes end that are all issued at time 0, if the links alone decide."""
    topology, free, found = made(topology, devices), defaultdict(int), []
    for pair in pairs:
        route = topology.route(*pair)
        end = max(free[channel] for channel in route.channels) + route.link.duration_ns(SIZE)
        free.update(dict.fromkeys(route.channels, end))
        found.append(end)
    return found


INSIDE_NS, BESIDE_NS = 101, 502


class TestPresets:
    def test_pairs_share_nothing(self) -> None:
        assert ends("pairs", (0, 1), (0, 2), (1, 0), (3, 2), (HOST, 0)) == [INSIDE_NS] * 4 + [BESIDE_NS]

    def test_a_port_sends_one_and_receives_one_at_a_time(self) -> None:
        first, second = INSIDE_NS, 2 * INSIDE_NS
        assert ends("ports", (0, 1), (2, 3)) == [first, first]
        assert ends("ports", (0, 1), (1, 0)) == [first, first]  # out and in are apart
        assert ends("ports", (0, 1), (0, 2)) == [first, second]
        assert ends("ports", (0, 3), (1, 3), (2, 3)) == [first, second, 3 * INSIDE_NS]
        assert ends("ports", (0, 1), (HOST, 1)) == [first, BESIDE_NS]  # the host has links of its own

    def test_on_a_bus_all_wait_for_all(self) -> None:
        assert ends("bus", (0, 1), (1, 0), (2, 3), (HOST, 2), (3, HOST)) == [BESIDE_NS * n for n in range(1, 6)]

    def test_the_devices_of_a_node_share_its_network_card(self) -> None:
        # 10 GbE: 20 us and 1.25 bytes a nanosecond.
        network = 20_000 + 800
        pairs = [(0, 1), (2, 3), (0, 2), (1, 3), (2, 0), (HOST, 0)]
        assert ends("nodes:2:ethernet_10g", *pairs) == [
            INSIDE_NS, INSIDE_NS, network, 2 * network, network, BESIDE_NS
        ]  # fmt: skip

    def test_a_last_node_may_be_smaller(self) -> None:
        topology = made("nodes:2", devices=3)
        assert topology.route(0, 1).link == INSIDE
        assert topology.route(0, 2).link == topology.route(2, 1).link == links.get("infiniband_ndr").model

    @pytest.mark.parametrize("preset", ["pairs", "ports", "bus", "nodes:1", "nodes:4"])
    def test_one_device_needs_no_links(self, preset: str) -> None:
        assert made(preset, devices=1).route(HOST, 0).link == BESIDE


class TestWires:
    WIRES = (
        Wire("nvlink3", ["vgpu:0", "vgpu:1"]),
        Wire("nvlink3", ["vgpu:2", "vgpu:3"]),
        Wire("pcie4", [["vgpu:0", "vgpu:1"], ["vgpu:2", "vgpu:3"], "host"]),
    )

    def test_the_first_wire_that_has_both_is_taken(self) -> None:
        topology = made(self.WIRES)
        nvlink, pcie = links.get("nvlink3").model, links.get("pcie4").model
        assert [topology.route(0, other).link for other in (1, 2, 3, HOST)] == [nvlink, pcie, pcie, pcie]

    def test_a_fast_wire_goes_before_a_slow_one_for_all(self) -> None:
        for wires, fast in (((0, 1), "nvlink3"), ((1, 0), "pcie4")):
            laid = [Wire("nvlink3", ["vgpu:0", "vgpu:1"]), Wire("pcie4", ["vgpu:0", "vgpu:1", "vgpu:2"], bus=True)]
            topology = made([laid[number] for number in wires], devices=3)
            assert topology.route(1, 0).link == links.get(fast).model
            assert topology.route(1, 2).link == links.get("pcie4").model

    def test_devices_that_share_an_end_wait_for_each_other(self) -> None:
        took = links.get("pcie4").model.duration_ns(SIZE)
        assert ends(self.WIRES, (0, 2), (1, 3), (2, 0), (3, HOST)) == [took, 2 * took, took, 2 * took]

    def test_mappings_say_the_same(self) -> None:
        plain = [{"link": wire.link, "ends": wire.ends, "bus": wire.bus} for wire in self.WIRES]
        both = made(self.WIRES), made(plain)
        pairs = [(a, b) for a in range(-1, 4) for b in range(-1, 4) if a != b]
        assert [both[0].route(*pair) for pair in pairs] == [both[1].route(*pair) for pair in pairs]

    def test_an_object_that_routes_itself_is_taken_as_it_is(self) -> None:
        own = links.OwnLinks(INSIDE)
        assert made(own) is own


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ("port", r"topology 'port' is not one of pairs, ports, bus, .*did you mean 'ports'"),
        ("bus:2", "'bus:2' takes nothing after its name"),
        ("nodes", "'nodes' does not say how many devices a node has; write nodes:4"),
        ("nodes:0", "'nodes:0' does not say how many"),
        ("nodes:2:3:4", "does not say how many"),
        ("nodes:٣", "does not say how many"),
        ("nodes:65", "more devices in a node than there can be: at most nodes:64"),
        ("nodes:999999999999", "more devices in a node"),
        ("nodes:" + "9" * 5000, "more devices in a node"),
        ("nodes:2:ethernet", r"'ethernet' is not one of pcie3, .*\(did you mean 'ethernet_1"),
        (5, "5 is neither the name of a preset"),
        ({"link": "pcie4"}, "neither the name of a preset"),
        ([Wire("pcie4", ["vgpu:0", "vgpu:9"])], "'vgpu:9' is not there, this lab has vgpu:0 to vgpu:3"),
        ([Wire("pcie4", ["vgpu:0", "cuda:1"])], "'cuda:1' is not an end of a wire; write 'vgpu:0' or 'host'"),
        ([Wire("pcie4", ["vgpu:0", 1])], "1 is not an end of a wire"),  # type: ignore[list-item]
        ([Wire("pcie44", ["vgpu:0", "vgpu:1"])], r"link 'pcie44' is not one of .*did you mean 'pcie4'"),
        ([Wire("pcie4", ["vgpu:0"])], "at least two ends"),
        ([Wire("pcie4", "vgpu:0")], "at least two ends"),
        ([Wire("pcie4", ["vgpu:0", ["vgpu:1", "vgpu:0"]])], "vgpu:0 is named twice on one wire"),
        ([Wire("pcie4", ["vgpu:0", "vgpu:1"], bus=1)], "bus is 1; give true or false"),  # type: ignore[arg-type]
        ([Wire("pcie4", ["vgpu:0", "vgpu:1", "vgpu:2"])], "no wire joins vgpu:0 and vgpu:3"),
        ([], "no wire joins vgpu:0 and vgpu:1; every device needs a way to every other"),
        (["nvlink3"], "'nvlink3' is not a wire"),
        ([{"links": "pcie4", "ends": []}], "'links' is not a field of a wire .did you mean 'link'"),
        ([{"link": "pcie4"}], "a wire has no 'ends'"),
    ],
)
def test_a_topology_that_cannot_be_is_refused_in_a_sentence(topology: Any, said: str) -> None:
    with pytest.raises(DeviceError, match=said) as caught:
        made(topology)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", links.names())
def test_every_link_has_figures_and_a_source(name: str) -> None:
    link = links.get(name)
    assert 0 < link.gb_per_s < 10_000
    assert 0 < link.latency_us < 100
    assert len(link.source) > 30
    assert link.title


def test_links_are_as_fast_as_their_standards_say() -> None:
    # From lanes, transfers a second and coding; bits on the wire; links of a GPU and their own rates.
    expected = {
        "pcie4": 16 * 16e9 * 128 / 130 / 8, "pcie5": 16 * 32e9 * 128 / 130 / 8, "nvlink3": 12 * 25e9,
        "nvlink4": 18 * 25e9, "nvlink5": 18 * 50e9, "ethernet_1g": 1e9 / 8, "ethernet_10g": 1e10 / 8,
        "ethernet_100g": 1e11 / 8, "infiniband_ndr": 4 * 100e9 / 8,
    }  # fmt: skip
    for name, bytes_per_s in expected.items():
        assert links.get(name).gb_per_s == pytest.approx(bytes_per_s / 1e9, rel=0.002)
        assert links.get(name).model.bytes_per_ns == links.get(name).gb_per_s


def test_a_busy_link_makes_real_copies_wait() -> None:
    times = {}
    for topology in ("pairs", "bus"):
        machine = vgpu.enable(4, hardware="a100", topology=topology)
        a, b = torch.ones(10**6, device="vgpu:0"), torch.ones(10**6, device="vgpu:2")
        machine.clock.synchronize()
        began = machine.clock.now_ns
        a.to("vgpu:1")
        b.to("vgpu:3")
        times[topology] = machine.clock.now_ns - began
    # Issued 5 us apart; 4 MB at 300 GB/s side by side, or one after the other at the host link's 31.5 GB/s.
    assert times == {
        "pairs": 2 * 5_000 + 5_000 + round(4e6 / 300),
        "bus": 5_000 + 2 * (5_000 + round(4e6 / 31.5)),
    }
