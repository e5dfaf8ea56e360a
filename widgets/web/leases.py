"""Who may run now, and who waits in line.

A run leases worker processes, memory and GPUs for as long as it lasts. What the budget does not hold waits its turn:
first come, first served, so that a large run is not overtaken for ever by small ones. A browser with many tabs comes
first with one of them: the others stand behind the first of everybody else's, and one run is always left to the rest.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from lab.experiment import Experiment
from widgets.web import limits

MEMORY_SHARE = 0.8
"""Of the memory that is free when the server starts; the rest is for the server and for surprises."""
GUESS_SECONDS = 60.0
"""How long a run takes, before any has ended."""
REMEMBERED = 20
"""Runs whose lengths tell how long the next will take."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one run takes."""

    ranks: int
    memory_bytes: int
    gpus: frozenset[str] = frozenset()

    @classmethod
    def of(cls, experiment: Experiment) -> Need:
        gpus = frozenset(name for name in experiment.devices if name.startswith("cuda"))
        return cls(limits.ranks(experiment), limits.memory_bytes(experiment), gpus)


@dataclass(frozen=True, slots=True)
class Budget:
    """What all runs together may take. A GPU goes to one run at a time."""

    runs: int
    ranks: int
    memory_bytes: float = math.inf

    @classmethod
    def here(cls, runs: int | None = None, ranks: int = 1) -> Budget:
        """Of this machine.

        Args:
            runs: at once; None takes as many as there are cores, and at least two.
            ranks: of the largest run, which must fit.
        """
        cores = usable_cores()
        runs = runs or max(2, cores)
        return cls(runs, max(cores, runs, ranks), MEMORY_SHARE * free_memory_bytes())


class Lease:
    """A place in line, and then the right to run; give it back with `Leases.release`."""

    def __init__(self, need: Need, since: float, owner: str = "") -> None:
        self.need = need
        self.owner = owner
        """The browser that asked for it; empty for none that is counted."""
        self.since = since
        """When it was granted; until then, when it was asked for."""
        self.leaving = False
        """Whether its run is ending: whoever asked for it may ask for the next."""
        self._granted = threading.Event()

    @property
    def granted(self) -> bool:
        return self._granted.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits until it is granted, at most so long; True when it is."""
        return self._granted.wait(seconds)


class Leases:
    """The line and the budget. Safe to use from several threads.

    Args:
        now: a monotonic clock in seconds.
    """

    def __init__(self, budget: Budget, now: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self._now = now
        self._lock = threading.Lock()
        self._held: list[Lease] = []
        self._line: deque[Lease] = deque()
        self._lengths: deque[float] = deque(maxlen=REMEMBERED)

    def possible(self, need: Need) -> bool:
        """Whether it would be granted if nothing else ran."""
        return need.ranks <= self.budget.ranks and need.memory_bytes <= self.budget.memory_bytes

    def enter(self, need: Need, owner: str = "") -> Lease:
        """Takes what is needed at once where that is free and nobody waits, else the last place in line."""
        with self._lock:
            lease = Lease(need, self._now(), owner)
            self._line.append(lease)
            self._advance()
            return lease

    def try_enter(self, need: Need, owner: str = "") -> Lease | None:
        """A lease that is granted at once, or None: takes no place in line."""
        with self._lock:
            if self._waiting() or not self._fits(need) or self._has_enough(owner):
                return None
            lease = Lease(need, self._now(), owner)
            self._line.append(lease)
            self._advance()
            return lease

    def release(self, lease: Lease) -> None:
        """Gives it back, or leaves the line; twice does no harm."""
        with self._lock:
            if lease in self._held:
                self._held.remove(lease)
                self._lengths.append(self._now() - lease.since)
            elif lease in self._line:
                self._line.remove(lease)
            self._advance()

    def place(self, lease: Lease) -> int:
        """1 for the next in line; 0 when it does not wait."""
        with self._lock:
            # Those who stand aside have the places behind the others.
            turns = [*self._waiting(), *(each for each in self._line if self._has_enough(each.owner))]
            return turns.index(lease) + 1 if lease in turns else 0

    def expected_seconds(self, place: int) -> float:
        """About how long the one in that place will wait, when runs last as long as the last ones did."""
        with self._lock:
            length = sum(self._lengths) / len(self._lengths) if self._lengths else GUESS_SECONDS
            at_once = max(1, len(self._held))
            return length * math.ceil(place / at_once)

    def count(self) -> tuple[int, int]:
        """How many run, and how many wait."""
        with self._lock:
            return len(self._held), len(self._line)

    def _advance(self) -> None:
        while (waiting := self._waiting()) and self._fits(waiting[0].need):
            lease = waiting[0]
            self._line.remove(lease)
            lease.since = self._now()
            self._held.append(lease)
            lease._granted.set()

    def _waiting(self) -> list[Lease]:
        """The line as it is served: whoever has fewest of the runs, and of the places further in front, comes first;
        without those who have as many runs as one may have."""
        taken = Counter(lease.owner for lease in self._held if lease.owner)
        turns = []
        for lease in self._line:
            if not self._has_enough(lease.owner):
                turns.append((taken[lease.owner] if lease.owner else 0, lease))
                taken.update([lease.owner])
        return [lease for _, lease in sorted(turns, key=lambda turn: turn[0])]

    def _has_enough(self, owner: str) -> bool:
        """Whether the browser has all runs but one, of several."""
        return bool(owner) and sum(lease.owner == owner and not lease.leaving for lease in self._held) >= max(
            1, self.budget.runs - 1
        )

    def _fits(self, need: Need) -> bool:
        if not self._held:
            return True
        held = [lease.need for lease in self._held]
        return (
            len(held) < self.budget.runs
            and sum(each.ranks for each in held) + need.ranks <= self.budget.ranks
            and sum(each.memory_bytes for each in held) + need.memory_bytes <= self.budget.memory_bytes
            and not any(each.gpus & need.gpus for each in held)
        )


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and what a container's quota leaves."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _control_group("cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def free_memory_bytes() -> int:
    """Memory that can still be taken: of the machine, or of the container."""
    free = int(psutil.virtual_memory().available)
    limit, used = _control_group("memory.max"), _control_group("memory.current")
    if limit.isdecimal() and used.isdecimal():
        free = min(free, max(0, int(limit) - int(used)))
    return free


def _control_group(name: str) -> str:
    """A value of this container's control group (version 2); empty where there is none."""
    try:
        return Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
