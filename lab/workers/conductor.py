"""Keeps the ranks of a run in step while it is paused, changed or stopped.

No message reaches all ranks at the same time, and a rank that waits while the others go on would leave them waiting in
a collective. So the conductor first holds rank 0, at whatever gate it comes to. No other rank can be past the end of
that step, whose all-reduce needs rank 0; so that is the gate at which all are told to wait. Once all are there, nothing
is under way: settings are changed, and the ranks go on, together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lab.events import Changed, Event, Paused, Resumed
from lab.workers.control import GATES, Message, position, step_of


class Conductor:
    """Not thread-safe: its user holds a lock.

    Args:
        send: a message to one rank.
    """

    def __init__(self, world_size: int, send: Callable[[int, Message], None]) -> None:
        self._ranks = range(world_size)
        self._send = send
        self._gate: int | None = None
        """At which all ranks are told to wait; None while they run, or while rank 0 is still to be held."""
        self._holding = False
        self._waiting: dict[int, int] = {}
        """Rank -> the gate at which it waits."""
        self._together_since: float | None = None
        self._stay = False
        self._settings: dict[str, Any] = {}
        self._stopping = False

    @property
    def together(self) -> bool:
        """True while all ranks wait at the same gate."""
        return self._together_since is not None

    @property
    def free(self) -> bool:
        """True while the ranks run, and nobody has asked them to wait."""
        return not self._holding and self._gate is None

    def pause(self) -> None:
        self._stay = True
        self._hold()

    def resume(self) -> list[Event]:
        self._stay = False
        return self._go_on()

    def step(self, gates: int = len(GATES)) -> list[Event]:
        """From a pause, lets all ranks go on by so many gates: a whole step, or one phase of it."""
        self._stay = True
        if self._gate is None or not self.together:
            self._hold()
            return []
        self._let_pass(self._gate + gates - (self._gate % len(GATES) if gates == len(GATES) else 0))
        return []

    def change(self, settings: dict[str, Any]) -> list[Event]:
        """Has all ranks change something before the same step."""
        self._settings.update(settings)
        if self.together:
            return self._apply()
        self._hold()
        return []

    def stop(self) -> None:
        """Has all ranks end before the same step."""
        self._stopping = True
        if self.together or len(self._ranks) == 1:
            self._send_all(("stop",))
        else:
            self._hold()

    def waits(self, event: Paused) -> list[Event]:
        """A rank waits at a gate; what there is to tell of it."""
        gate = position(event.step, event.phase)
        self._waiting[event.rank] = gate
        if self._holding:
            self._holding = False
            self._gate = gate if len(self._ranks) == 1 else position(step_of(gate) + 1, "data")
            if self._gate != gate:
                self._send_all(("until", self._gate, 0))
                return []
        if self._gate is None or any(self._waiting.get(rank) != self._gate for rank in self._ranks):
            return []
        self._together_since = time.monotonic()
        if self._stopping:
            self._send_all(("stop",))
            return []
        events = self._apply() if self._settings else []
        return events + ([event] if self._stay else self._go_on())

    def _apply(self) -> list[Event]:
        settings, self._settings = self._settings, {}
        assert self._gate is not None
        self._send_all(("set", settings))
        # Settings are taken up at the start of a step.
        step = step_of(self._gate) + (self._gate % len(GATES) > 0)
        return [Changed(step, settings)]

    def _hold(self) -> None:
        if self.free:
            self._holding = True
            self._send(0, ("hold",))

    def _go_on(self) -> list[Event]:
        if self._gate is None or not self.together:
            return []
        step = step_of(self._gate)
        self._send_all(("run", self._stood_still_ns()))
        self._gate = None
        self._waiting.clear()
        return [Resumed(step)]

    def _let_pass(self, gate: int) -> None:
        stood = self._stood_still_ns()
        self._gate = gate
        self._waiting.clear()
        self._send_all(("until", gate, stood))

    def _stood_still_ns(self) -> int:
        """For how long all ranks waited together: time that belongs to no step."""
        since, self._together_since = self._together_since, None
        return 0 if since is None else round((time.monotonic() - since) * 1e9)

    def _send_all(self, message: Message) -> None:
        for rank in self._ranks:
            self._send(rank, message)
