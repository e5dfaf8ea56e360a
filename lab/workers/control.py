"""What the parent may ask of a rank while it trains: to wait at a gate, to go on, to change something, to stop.

A step has five gates, one at the start of each of its phases. The parent may forbid the gates from some position on;
a rank that comes to such a gate waits there, without computing and without a collective under way, and says so.

All ranks stop at the same gate, although no message reaches them at the same time: how, `lab.workers.conductor` tells.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

GatePhase: TypeAlias = Literal["data", "forward", "backward", "synchronise", "update"]
GATES: tuple[GatePhase, ...] = get_args(GatePhase)
"""The phases of a step, in their order."""

Message: TypeAlias = tuple[Any, ...]
"""("hold",) | ("bound", position) | ("until", position, shift_ns) | ("run", shift_ns) | ("set", {name: value}) |
("stop",)"""


@dataclass(frozen=True, slots=True)
class Heard:
    """A rank's answer to ("bound", position), for its parent only."""

    rank: int


def position(step: int, phase: GatePhase) -> int:
    """A gate's place in the order of all gates of a run."""
    return step * len(GATES) + GATES.index(phase)


def step_of(gate: int) -> int:
    return gate // len(GATES)


def phase_of(gate: int) -> GatePhase:
    return GATES[gate % len(GATES)]


class Control:
    """The rank's end. `tell` is called by the thread that listens to the parent, all else by the one that trains."""

    def __init__(self) -> None:
        self.stopped = False
        """True when the run is to end before its next step."""
        self.on_wait: Callable[[int], None] = lambda position: None
        """Called before the rank waits at a gate."""
        self.on_bound: Callable[[], None] = lambda: None
        """Called when the rank knows at which gate it is to wait; by the thread that listens."""
        self.on_shift: Callable[[int], None] = lambda shift_ns: None
        """Called with the time for which all ranks stood still."""
        self._changed = threading.Condition()
        self._limit: float = math.inf
        """The first position that may not be passed."""
        self._shift_ns = 0
        self._settings: list[tuple[str, Any]] = []

    def tell(self, message: Message) -> None:
        with self._changed:
            match message:
                case ("hold",):
                    self._limit = -1
                case ("bound", limit):
                    self._limit = limit
                    self.on_bound()
                case ("until", limit, shift_ns):
                    self._limit = limit
                    self._shift_ns += shift_ns
                case ("run", shift_ns):
                    self._limit = math.inf
                    self._shift_ns += shift_ns
                case ("set", settings):
                    self._settings.extend(settings.items())
                case ("stop",):
                    self.stopped = True
                    self._limit = math.inf
                case _:
                    raise ValueError(f"a rank does not know the message {message!r}")
            self._changed.notify_all()

    def gate(self, position: int) -> None:
        """Waits while the parent forbids to pass."""
        if position >= self._limit:
            self._wait(position)

    def _wait(self, position: int) -> None:
        told: float | None = None
        with self._changed:
            while position >= self._limit:
                if told != self._limit:
                    told = self._limit
                    self.on_wait(position)
                self._changed.wait()
            shift, self._shift_ns = self._shift_ns, 0
        if shift:
            self.on_shift(shift)

    def stand_still(self, seconds: float) -> int:
        """Waits between two steps, for less time when the parent has something to say.

        Returns:
            For how many nanoseconds: exactly as many on all ranks when nothing came between, so that their clocks go on
            as one.
        """
        began = time.monotonic_ns()
        with self._changed:
            interrupted = self.stopped or self._changed.wait(seconds)
        return time.monotonic_ns() - began if interrupted else round(seconds * 1e9)

    def settings(self) -> list[tuple[str, Any]]:
        """What the parent has changed since this was asked last: names and values, in their order."""
        if not self._settings:
            return []
        with self._changed:
            settings, self._settings = self._settings, []
        return settings
