"""Lets happen in a rank what its Experiment's faults, or the user while it runs, want to go wrong."""

from __future__ import annotations

import os
import signal
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
from lab.workers.slowness import SLOW_DOWNS, Slowness


class InjectedError(LabError):
    """An error that was asked for."""


class Injector:
    """One rank's faults. Those of other ranks, and those whose step has not come, do nothing.

    Args:
        slowness: how the rank is made late.
    """

    def __init__(self, faults: Iterable[Fault], group: Group, slowness: Slowness) -> None:
        self._group = group
        self._slowness = slowness
        self._waiting: list[Fault] = []
        self._for_this_step: set[FaultKind] = set()
        for fault in faults:
            self.add(fault)

    @property
    def emulates_link(self) -> bool:
        """True while collectives are made to take longer than they do."""
        return self._slowness.emulates_link

    def add(self, fault: Fault) -> None:
        own = fault.rank == self._group.rank
        if own or (fault.kind in SLOW_DOWNS and self._slowness.concerns(fault, self._group.rank)):
            self._waiting.append(fault)

    def relink(self, link: Link) -> None:
        """From now on, collectives take as long as over this link at least."""
        self._slowness.relink(link)

    def joining(self) -> None:
        """The rank is about to join the others."""
        if any(fault.kind == "never_join" for fault in self._waiting):
            _hang()

    def at(self, step: int, phase: GatePhase) -> None:
        """The rank comes to a phase of a step."""
        match phase:
            case "data":
                self._for_this_step.clear()
                for fault in [fault for fault in self._waiting if fault.step <= step]:
                    self._waiting.remove(fault)
                    self._begin(fault)
            case "forward":
                self._slowness.computing()

    def _begin(self, fault: Fault) -> None:
        if fault.kind in SLOW_DOWNS:
            self._slowness.begin(fault, own=fault.rank == self._group.rank)
        elif fault.kind in ("nan", "skip", "wrong_shape"):
            self._for_this_step.add(fault.kind)
        else:
            _BREAKS[fault.kind](fault)

    # -- around an all-reduce ----------------------------------------------------------------------------------------

    def spoil(self, gradients: Tensor) -> None:
        """A bucket of gradients has been computed, and is about to be averaged."""
        self._slowness.computed()
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
        """Waits for as long as an emulated link still carries `size` bytes."""
        self._slowness.hold_up(size)


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
