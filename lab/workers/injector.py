"""Lets happen in a rank what its Experiment's faults, or the user while it runs, want to go wrong."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from lab.errors import LabError
from lab.experiment import Link
from lab.faults import Fault, FaultKind
from lab.workers.control import GatePhase
from lab.workers.group import Group


class InjectedError(LabError):
    """An error that was asked for."""


class Injector:
    """One rank's faults. Those of other ranks, and those whose step has not come, do nothing."""

    def __init__(self, faults: Iterable[Fault], group: Group) -> None:
        self._group = group
        self._waiting = [fault for fault in faults if fault.rank == group.rank]
        self._for_this_step: set[FaultKind] = set()
        self._slowness = 1.0
        self._delay_s = 0.0
        self._bytes_per_s = 0.0
        self._computing_since: float | None = None
        self._link = _EmulatedLink()

    @property
    def emulates_link(self) -> bool:
        """True while collectives are made to take longer than they do."""
        return bool(self._delay_s or self._bytes_per_s)

    def add(self, fault: Fault) -> None:
        if fault.rank == self._group.rank:
            self._waiting.append(fault)

    def relink(self, link: Link) -> None:
        """From now on, collectives take as long as over this link at least."""
        self._delay_s, self._bytes_per_s = link.latency_us / 1e6, link.bandwidth_gb_per_s * 1e9

    def joining(self) -> None:
        """The rank is about to join the others."""
        if any(fault.kind == "never_join" for fault in self._waiting):
            _hang()

    def at(self, step: int, phase: GatePhase) -> None:
        """The rank comes to a phase of a step."""
        if phase == "data":
            self._for_this_step.clear()
            self._computing_since = None
            for fault in [fault for fault in self._waiting if fault.step <= step]:
                self._waiting.remove(fault)
                self._begin(fault)
        elif self._slowness > 1:
            self._straggle(phase)

    def _begin(self, fault: Fault) -> None:
        match fault.kind:
            case "straggle":
                self._slowness = max(1.0, fault.strength)
            case "delay":
                self._delay_s = fault.strength / 1e3
            case "throttle":
                self._bytes_per_s = fault.strength * 1e6
            case "nan" | "skip" | "wrong_shape":
                self._for_this_step.add(fault.kind)
            case kind:
                _BREAKS[kind](fault)

    def _straggle(self, phase: GatePhase) -> None:
        """A slower device: the rank sleeps for as long as it has computed, times what is missing."""
        now = time.perf_counter()
        if phase == "forward":
            self._computing_since = now
        elif phase in ("synchronise", "update") and self._computing_since is not None:
            time.sleep((now - self._computing_since) * (self._slowness - 1))
            self._computing_since = None

    # -- around an all-reduce ----------------------------------------------------------------------------------------

    def spoil(self, gradients: Tensor) -> None:
        """Changes the gradients of a bucket before they are averaged."""
        if self._take("nan"):
            gradients.flatten()[0] = float("nan")

    def skips(self) -> bool:
        """True when the rank is to leave out its next all-reduce."""
        return self._take("skip")

    def misshapen(self, gradients: Tensor) -> Tensor | None:
        """What the rank brings to its next all-reduce instead of the gradients; None when it brings those."""
        return torch.cat([gradients, gradients.new_zeros(1)]) if self._take("wrong_shape") else None

    def _take(self, kind: FaultKind) -> bool:
        due = kind in self._for_this_step
        self._for_this_step.discard(kind)
        return due

    def hold_up(self, size: int) -> None:
        """Waits for as long as the emulated link still carries `size` bytes."""
        self._link.carry(self._delay_s + (size / self._bytes_per_s if self._bytes_per_s else 0.0))


class _EmulatedLink:
    """Carries one thing after another, each for some time; called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0

    def carry(self, seconds: float) -> None:
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + seconds
            until = self._free_at
        time.sleep(max(0.0, until - time.monotonic()))


def _raise(fault: Fault) -> NoReturn:
    raise InjectedError(f"rank {fault.rank} raised an error before step {fault.step}, as you asked")


def _kill(fault: Fault) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(fault: Fault | None = None) -> NoReturn:
    while True:
        time.sleep(3600)


def _exit(fault: Fault) -> NoReturn:
    os._exit(0)


def _interrupt(fault: Fault) -> NoReturn:
    raise KeyboardInterrupt


def _leave(fault: Fault) -> NoReturn:
    dist.destroy_process_group()
    time.sleep(1.0)
    raise InjectedError(f"rank {fault.rank} left the group before step {fault.step}, and then raised, as you asked")


_BREAKS: dict[FaultKind, Callable[[Fault], None]] = {
    "raise": _raise,
    "kill": _kill,
    "hang": _hang,
    "exit": _exit,
    "interrupt": _interrupt,
    "leave": _leave,
    "never_join": lambda fault: None,  # it has joined
}
