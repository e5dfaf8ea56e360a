"""Tables of the devices here and of what virtual GPUs can pretend to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lab import checks
from lab.events import DeviceInfo
from lab.terminal._wording import bytes_text
from lab.vgpu.profiles import Profile

if TYPE_CHECKING:
    from lab.vgpu.links import NamedLink


def devices_table(real: Sequence[DeviceInfo]) -> Table:
    """The real devices here, and the virtual GPUs that are always there."""
    table = Table(title="Devices", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    table.add_column("memory", justify="right", no_wrap=True)
    for device in real:
        table.add_row(device.name, escape(device.title), bytes_text(device.memory_bytes))
    last = f"vgpu:{checks.MAX_VGPUS - 1}"
    table.add_row(f"vgpu:0 to {last}", "virtual GPU: computes on the CPU, its times are simulated", "as its profile")
    return table


def hardware_table(hardware: Sequence[Profile]) -> RenderableType:
    """What a virtual GPU can pretend to be, with every figure's source."""
    table = Table(
        title="Hardware profiles of virtual GPUs (--hardware)", title_justify="left", title_style="bold", box=box.SIMPLE
    )
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for heading in ("timing", "float32", "memory", "link"):
        table.add_column(heading, justify="right", no_wrap=True)
    for profile in hardware:
        labelled = "" if not profile.fictional or "fictional" in profile.title else " (fictional)"
        table.add_row(
            profile.name,
            escape(profile.title + labelled),
            profile.timing,
            f"{profile.peak_tflops['float32']:g} TFLOP/s",
            f"{profile.memory_gb:g} GB at {profile.memory_gb_per_s:g} GB/s",
            f"{profile.link_gb_per_s:g} GB/s",
        )
    return Group(table, *(Text(f"{profile.name}: {profile.source}", style="dim") for profile in hardware))


def profile_table(profile: Profile) -> RenderableType:
    """Every figure of one profile."""
    table = Table(title=escape(profile.title), title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("what", no_wrap=True)
    table.add_column("figure", justify="right", no_wrap=True)
    for dtype, tflops in profile.peak_tflops.items():
        table.add_row(f"peak in {dtype}", f"{tflops:g} TFLOP/s")
    table.add_row("memory", f"{profile.memory_gb:g} GB at {profile.memory_gb_per_s:g} GB/s")
    table.add_row("launch of an operation", f"{profile.launch_us:g} µs")
    table.add_row("issue by the host", f"{profile.issue_us:g} µs")
    table.add_row("link to another", f"{profile.link_gb_per_s:g} GB/s")
    table.add_row("link to the host", f"{profile.host_link_gb_per_s:g} GB/s after {profile.link_latency_us:g} µs")
    return Group(table, Text(profile.source, style="dim"))


def links_table(named: Sequence[NamedLink]) -> RenderableType:
    """What a link between virtual GPUs can pretend to be, with every figure's source."""
    table = Table(title="Links between virtual GPUs (--link)", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for heading in ("one direction", "latency"):
        table.add_column(heading, justify="right", no_wrap=True)
    for link in named:
        table.add_row(link.name, escape(link.title), f"{link.gb_per_s:g} GB/s", f"{link.latency_us:g} µs")
    return Group(table, *(Text(f"{link.name}: {link.source}", style="dim") for link in named))
