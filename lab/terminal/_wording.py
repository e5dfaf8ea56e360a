"""Numbers, devices and runs as people read them in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import breakdown, nets
from lab.errors import counted
from lab.events import BucketsBuilt, GroupJoined, RunStarted
from lab.state import RunState

if TYPE_CHECKING:
    from lab.experiment import Experiment

DEVICE_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
"""Okabe and Ito's palette, its brighter colours first: a terminal is mostly dark."""
WORTH_A_WORD = 0.05
"""A part of the others' time, spent waiting for one rank."""
_BLOCKS = "▁▂▃▄▅▆▇█"


def bytes_text(count: float) -> str:
    """`368.6 kB`: powers of 1000, as the profiles have them."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def seconds_text(seconds: float) -> str:
    """`1.27 ms`, `12.3 s`, `4 min 05 s`."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def clock_text(state: RunState) -> str:
    """The clock, with "simulated" for the virtual one."""
    clock = state.started.clock if state.started else "wall"
    return "simulated (virtual clock)" if clock == "virtual" else f"{clock} clock"


def sparkline(values: Sequence[float], width: int = 48) -> str:
    """A curve in one line of text; points that are not finite are left blank."""
    shown = list(values[:: max(1, len(values) // width)])[-width:]
    finite = [value for value in shown if abs(value) < float("inf")]
    if not finite:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return "".join(
        _BLOCKS[round((value - low) / span * (len(_BLOCKS) - 1))] if abs(value) < float("inf") else " "
        for value in shown
    )


@dataclass(frozen=True, slots=True)
class Shares:
    """How a device spent its time, as parts of 1."""

    busy: float
    transfer: float
    waiting: float


def device_shares(state: RunState, device: str) -> Shares:
    """Of the whole run so far."""
    spent = breakdown.of_device(state, device)
    return Shares(0.0, 0.0, 0.0) if spent is None else Shares(spent.busy, spent.communicating, spent.waiting)


def headline(started: RunStarted) -> str:
    experiment = started.experiment
    # A device that ranks share goes by the name `rank 1 · cpu`.
    names = ", ".join(dict.fromkeys(device.name.rpartition(" · ")[2] for device in started.devices))
    world_size = experiment.get("world_size", 1)
    ranks = f", {world_size} ranks" if world_size > 1 else ""
    split = f", {experiment['microbatches']} microbatches" if experiment.get("microbatches", 1) > 1 else ""
    return f"{started.net} · {experiment['strategy']} on {names}{ranks} · batch {experiment['batch_size']}{split}"


def group_line(group: GroupJoined) -> str:
    """`2 ranks over gloo, 1 thread each`."""
    explained = "; collectives are checked against each other, which takes time" if group.explain else ""
    ranks, threads = counted(group.world_size, "rank"), counted(group.threads_per_rank, "thread")
    each = " each" if group.world_size > 1 else ""
    return f"{ranks} over {group.backend}, {threads}{each}{explained}"


def buckets_line(layout: BucketsBuilt) -> str:
    """`Buckets from step 1 on: 0 with 66.2 kB (fc2, fc1), 1 with 21.1 kB (conv2, conv1)`."""
    parts = []
    for bucket in layout.buckets:
        layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in bucket.parameters))
        named = ", ".join(layers) if len(layers) <= 4 else f"{layers[0]} to {layers[-1]}"
        parts.append(f"{bucket.index} with {bytes_text(bucket.bytes)} ({named})")
    return f"Buckets from step {layout.step} on: {', '.join(parts)}"


def waiting_line(state: RunState) -> str:
    """Who is waited for, where it is one rank and takes some of the others' time; empty elsewhere."""
    late = breakdown.latest(state)
    if late is None or late.share < WORTH_A_WORD or not late.alone:
        return ""
    return f"The other ranks waited {late.share:.0%} of their time for rank {late.rank}, which came last"


def data_line(started: RunStarted) -> str:
    data = started.data
    return f"Data: {data.title}, {data.train_samples} training and {data.test_samples} test samples; {data.origin}"


def notes(experiment: Experiment) -> list[str]:
    """What a reader should know about the numbers to come."""
    entry = nets.REGISTRY.get(experiment.net)
    if entry and entry.batch_norm and experiment.microbatches > 1:
        return [
            f"{experiment.net!r} has batch norm, which sees each microbatch alone: with microbatches="
            f"{experiment.microbatches} its losses rightly differ from those of the whole batch."
        ]
    if entry and entry.batch_norm and experiment.strategy == "data_parallel" and len(experiment.devices) > 1:
        return [
            f"{experiment.net!r} has batch norm, which sees each device's part of the batch alone: its losses rightly "
            "differ from those of one device."
        ]
    return []
