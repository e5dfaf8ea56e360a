"""Topologies: which virtual GPUs share which links. Presets by name, and a general form.

    vgpu.enable(4, topology="ports")                       # a preset
    vgpu.enable(4, topology=[                              # two pairs with a slow way between them
        vgpu.Wire("nvlink3", ["vgpu:0", "vgpu:1"]),
        vgpu.Wire("nvlink3", ["vgpu:2", "vgpu:3"]),
        vgpu.Wire("pcie4", [["vgpu:0", "vgpu:1"], ["vgpu:2", "vgpu:3"]]),
    ])

The presets:

- `pairs`: each pair of devices has a link of its own, and each device has one to the host.
- `ports`: as behind an NVSwitch, each device has one port; it sends one transfer and receives one at a time.
- `bus`: all devices and the host share one link, such as a PCIe root; one transfer at a time.
- `nodes:4` or `nodes:4:ethernet_10g`: machines of four devices. Inside one, each device has a port; the devices of one
  share its network card to the others (by default InfiniBand NDR), which sends one transfer and receives one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from lab.errors import DeviceError, did_you_mean, shown
from lab.vgpu import links
from lab.vgpu.links import HOST, LinkModel, OwnLinks, Route, Topology

PRESETS = ("pairs", "ports", "bus", "nodes")
DEFAULT_NETWORK = "infiniband_ndr"
MOST_IN_NODE = 64
"""Devices of a machine in `nodes:N`: as many as there are virtual GPUs."""

End: TypeAlias = str | Sequence[str]


@dataclass(frozen=True)
class Wire:
    """What some devices, and maybe the host, are joined by.

    It carries transfers between any two of its ends, each of which sends one and receives one at a time. Between the
    two devices that a transfer joins, the first wire of a topology that has both is taken.
    """

    link: str | LinkModel
    """A link's name, or a model of one's own."""
    ends: Sequence[End]
    """`"vgpu:0"`, `"host"`, or a list of such that share one end, as a machine's devices share its network card."""
    bus: bool = field(default=False)
    """True where one transfer at a time goes over the whole wire, whoever sends it."""


TopologyLike: TypeAlias = "str | Topology | Sequence[Wire | Mapping[str, Any]]"


def problem(text: str) -> str:
    """What is wrong with the name of a preset; nothing if it is one."""
    kind, *parts = text.split(":")
    if kind not in PRESETS:
        return f"{shown(text)} is not one of pairs, ports, bus, nodes:N and nodes:N:LINK{did_you_mean(kind, PRESETS)}"
    if kind != "nodes":
        return f"{text!r} takes nothing after its name; write {kind!r}" if parts else ""
    count = parts[0].lstrip("0") if len(parts) in (1, 2) and parts[0].isascii() and parts[0].isdecimal() else ""
    if not count:
        return f"{shown(text)} does not say how many devices a node has; write nodes:4, or nodes:4:ethernet_10g"
    if len(count) > len(str(MOST_IN_NODE)) or int(count) > MOST_IN_NODE:
        return f"{text[:40]!r} has more devices in a node than there can be: at most nodes:{MOST_IN_NODE}"
    if len(parts) == 2 and parts[1] not in links.names():
        known = ", ".join(links.names())
        return (
            f"{text!r} has an unknown link: {parts[1]!r} is not one of {known}{did_you_mean(parts[1], links.names())}"
        )
    return ""


def make(
    topology: TopologyLike, devices: int, link: LinkModel, host_link: LinkModel, bus_link: LinkModel | None = None
) -> Topology:
    """The topology of a machine.

    Args:
        topology: a preset's name, wires (or mappings with a wire's fields), or an object that routes transfers itself.
        devices: how many there are.
        link: between devices, where the topology names no other.
        host_link: between the host and a device, where no wire of the topology joins the two.
        bus_link: of the preset `bus`; the host's if left out.

    Raises:
        DeviceError: a preset or link that there is not, a device that is not there, or two without a way to each other.
    """
    if isinstance(topology, str):
        if wrong := problem(topology):
            raise DeviceError(f"topology {wrong}")
        return _preset(topology, devices, link, host_link, bus_link or host_link)
    if hasattr(topology, "route"):
        return topology
    if isinstance(topology, Mapping) or not isinstance(topology, Sequence):
        raise DeviceError(
            f"topology {topology!r} is neither the name of a preset ({', '.join(PRESETS)}) nor a list of wires"
        )
    return Wires([_wire(each) for each in topology], devices, host_link)


def _preset(text: str, devices: int, link: LinkModel, host_link: LinkModel, bus_link: LinkModel) -> Topology:
    kind, *parts = text.split(":")
    everyone = [f"vgpu:{index}" for index in range(devices)]
    if kind == "pairs":
        return OwnLinks(link, host_link)
    if kind == "bus":
        return Wires([Wire(bus_link, ["host", *everyone], bus=True)], devices, host_link)
    if kind == "ports":
        return Wires([Wire(link, everyone)] if devices > 1 else [], devices, host_link)
    size = int(parts[0])
    nodes = [everyone[first : first + size] for first in range(0, devices, size)]
    wires = [Wire(link, node) for node in nodes if len(node) > 1]
    if len(nodes) > 1:
        wires.append(Wire(parts[1] if len(parts) == 2 else DEFAULT_NETWORK, nodes))
    return Wires(wires, devices, host_link)


def _wire(value: Any) -> Wire:
    if isinstance(value, Wire):
        return value
    known = [each.name for each in fields(Wire)]
    if not isinstance(value, Mapping):
        raise DeviceError(f"topology: {value!r} is not a wire; give Wire('nvlink3', ['vgpu:0', 'vgpu:1'])")
    for key in value:
        if key not in known:
            raise DeviceError(f"topology: {key!r} is not a field of a wire{did_you_mean(str(key), known)}")
    for key in ("link", "ends"):
        if key not in value:
            raise DeviceError(f"topology: a wire has no {key!r}; give link, ends and, for a shared one, bus = true")
    return Wire(**value)


class Wires:
    """A topology of wires; each device has its own link to the host where no wire joins the two.

    Raises:
        DeviceError: see `make`.
    """

    def __init__(self, wires: Sequence[Wire], devices: int, host_link: LinkModel) -> None:
        self._host_link = host_link
        self._routes: dict[tuple[int, int], Route] = {}
        for number, wire in enumerate(wires):
            self._lay(number, wire, devices)
        for source in range(devices):
            for target in range(devices):
                if source != target and (source, target) not in self._routes:
                    ends = f"vgpu:{source} and vgpu:{target}"
                    raise DeviceError(f"topology: no wire joins {ends}; every device needs a way to every other")

    def _lay(self, number: int, wire: Wire, devices: int) -> None:
        try:
            link = links.find(wire.link)
        except DeviceError as error:
            raise DeviceError(f"topology: {error}") from None
        if isinstance(wire.ends, str) or not isinstance(wire.ends, Sequence) or len(wire.ends) < 2:
            raise DeviceError(f"topology: a wire needs at least two ends, and {wire.ends!r} are not")
        if not isinstance(wire.bus, bool):
            raise DeviceError(f"topology: bus is {wire.bus!r}; give true or false")
        ends = [
            [_index(name, devices) for name in (end if isinstance(end, list | tuple) else [end])] for end in wire.ends
        ]
        everyone = [index for end in ends for index in end]
        for index in everyone:
            if everyone.count(index) > 1:
                raise DeviceError(f"topology: {_name(index)} is named twice on one wire, {wire.ends!r}")
        for sender, senders in enumerate(ends):
            for receiver, receivers in enumerate(ends):
                if sender == receiver:
                    continue
                busy = ((number,),) if wire.bus else ((number, "out", sender), (number, "in", receiver))
                for source in senders:
                    for target in receivers:
                        self._routes.setdefault((source, target), Route(link, busy))

    def route(self, source: int, target: int) -> Route:
        way = self._routes.get((source, target))
        if way is None:
            way = self._routes[source, target] = Route(self._host_link, ((source, target),))
        return way


def _index(name: Any, devices: int) -> int:
    if name == "host":
        return HOST
    kind, _, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind != "vgpu" or not number.isdecimal():
        raise DeviceError(f"topology: {name!r} is not an end of a wire; write 'vgpu:0' or 'host'")
    if int(number) >= devices:
        here = "vgpu:0" if devices == 1 else f"vgpu:0 to vgpu:{devices - 1}"
        raise DeviceError(f"topology: {name!r} is not there, this lab has {here}")
    return int(number)


def _name(index: int) -> str:
    return "host" if index == HOST else f"vgpu:{index}"
