"""Slower devices and links, for a rank that is to be late: by waiting on the wall clock, by longer times on the
virtual clock.

Waiting is labelled "emulated" on the timeline. On virtual GPUs nothing waits: a slow device's operations take longer
there, and a slow link lengthens every ring that it is part of, for all ranks alike.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from lab.experiment import Link
from lab.faults import Fault, FaultKind
from lab.vgpu.links import Hindered, Hindrance
from lab.vgpu.machine import Machine

SLOW_DOWNS: tuple[FaultKind, ...] = ("straggle", "delay", "throttle")
"""Faults that last, and that a run survives."""


class Slowness(Protocol):
    """What makes a rank late."""

    @property
    def emulates_link(self) -> bool:
        """True while collectives are made to take longer than they do."""

    def concerns(self, fault: Fault, rank: int) -> bool:
        """Whether this rank has to do something for a slow-down of that fault."""

    def begin(self, fault: Fault, own: bool) -> None:
        """The slow-down begins; `own` when it is this rank's."""

    def relink(self, link: Link) -> None:
        """From now on, collectives take as long as over this link at least."""

    def computing(self) -> None:
        """The step's computation begins, or goes on."""

    def computed(self) -> None:
        """The rank has computed since then, and comes to a collective or to the end of backward."""

    def hold_up(self, size: int) -> None:
        """Waits for as long as the link still carries `size` bytes."""


class Emulated:
    """A slow device and a slow link, by waiting."""

    def __init__(self) -> None:
        self._slowness = 1.0
        self._delay_s = 0.0
        self._bytes_per_s = 0.0
        self._computing_since: float | None = None
        self._lock = threading.Lock()
        self._link_free_at = 0.0

    @property
    def emulates_link(self) -> bool:
        return bool(self._delay_s or self._bytes_per_s)

    def concerns(self, fault: Fault, rank: int) -> bool:
        return fault.rank == rank

    def begin(self, fault: Fault, own: bool) -> None:
        match fault.kind:
            case "straggle":
                self._slowness = max(1.0, fault.strength)
            case "delay":
                self._delay_s = fault.strength / 1e3
            case "throttle":
                self._bytes_per_s = fault.strength * 1e6

    def relink(self, link: Link) -> None:
        self._delay_s, self._bytes_per_s = link.latency_us / 1e6, link.bandwidth_gb_per_s * 1e9

    def computing(self) -> None:
        self._computing_since = time.perf_counter()

    def computed(self) -> None:
        if self._slowness > 1 and self._computing_since is not None:
            # As long as it has computed, times what is missing.
            time.sleep((time.perf_counter() - self._computing_since) * (self._slowness - 1))
        self._computing_since = time.perf_counter()

    def hold_up(self, size: int) -> None:
        """The link carries one thing after another; called from several threads."""
        if not self.emulates_link:
            return
        with self._lock:
            seconds = self._delay_s + (size / self._bytes_per_s if self._bytes_per_s else 0.0)
            self._link_free_at = max(self._link_free_at, time.monotonic()) + seconds
            until = self._link_free_at
        time.sleep(max(0.0, until - time.monotonic()))


class Simulated:
    """A slow device and a slow link on the virtual clock.

    Args:
        machine: this rank's; every rank has all links before its eyes.
        devices_of: rank -> the indices of its virtual GPUs.
    """

    emulates_link = False

    def __init__(self, machine: Machine, devices_of: Callable[[int], tuple[int, ...]]) -> None:
        self._machine = machine
        self._devices_of = devices_of
        self._hindrances: dict[int, Hindrance] = {}

    def concerns(self, fault: Fault, rank: int) -> bool:
        return fault.rank == rank or fault.kind in ("delay", "throttle")

    def begin(self, fault: Fault, own: bool) -> None:
        if fault.kind == "straggle":
            if own:
                self._machine.slowness = max(1.0, fault.strength)
            return
        for device in self._devices_of(fault.rank):
            before = self._hindrances.get(device, Hindrance())
            self._hindrances[device] = (
                Hindrance(round(fault.strength * 1e6), before.bytes_per_ns)
                if fault.kind == "delay"
                else Hindrance(before.latency_ns, fault.strength / 1e3)
            )
        self.computing()

    def relink(self, link: Link) -> None:
        """The machine's topology is changed instead, for all ranks alike."""

    def computing(self) -> None:
        # A new topology may have been laid since.
        clock = self._machine.clock
        if self._hindrances:
            laid = clock.topology.topology if isinstance(clock.topology, Hindered) else clock.topology
            clock.topology = Hindered(laid, dict(self._hindrances))

    def computed(self) -> None:
        """Longer operations have taken their time already."""

    def hold_up(self, size: int) -> None:
        """The ring has taken its time already."""
