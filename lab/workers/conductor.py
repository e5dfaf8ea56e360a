"""Keeps the ranks of a run in step while it is paused, changed or stopped.

No message reaches all ranks at the same time, and a rank that waits while the others go on would leave them waiting in
a collective. So the conductor first holds rank 0, at whatever gate it comes to. The others cannot get past the next
all-reduce, which needs rank 0; so the start of the step after it is a gate that none has passed. The others are told to
wait there, and when each has heard, rank 0 goes there too. Once all are at that gate, nothing is under way: settings
are changed, and the ranks go on, together.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from lab.events import Changed, Event, Paused, Resumed
from lab.workers.control import GATES, Message, phase_of, position, step_of


class Conductor:
    """Not thread-safe: its user holds a lock. What a method returns are events to publish.

    Args:
        send: a message to one rank.
    """

    def __init__(self, world_size: int, send: Callable[[int, Message], None]) -> None:
        self._ranks = range(world_size)
        self._send = send
        self._gate: int | None = None
        """At which all ranks are to wait; None while they run, or while rank 0 is still to be held."""
        self._holding = False
        self._unheard: set[int] = set()
        """Ranks that have not answered yet that they will wait at the gate."""
        self._waiting: dict[int, int] = {}
        """Rank -> the gate at which it waits."""
        self._together_since: float | None = None
        self._stay = False
        """Whether the ranks are to stay at the gate once they are together."""
        self._paused = False
        """Whether Paused was published, and nothing since."""
        self._moves: deque[int] = deque()
        """How many gates to go on by, for each step asked for while the ranks are on their way to a gate."""
        self._settings: list[dict[str, Any]] = []
        self._stopping = False

    @property
    def together(self) -> bool:
        """True while all ranks wait at the same gate."""
        return self._together_since is not None

    @property
    def at_gate(self) -> frozenset[int]:
        """Ranks that wait at a gate while others are still on their way there."""
        return frozenset() if self.free or self.together else frozenset(self._waiting)

    @property
    def free(self) -> bool:
        """True while the ranks run, and nobody has asked them to wait."""
        return not self._holding and self._gate is None

    @property
    def held(self) -> bool:
        """True from a pause until it is ended, also on the way to its gate and in the steps that are asked for."""
        return self._stay

    def pause(self) -> None:
        self._stay = True
        self._moves.clear()
        self._hold()

    def resume(self) -> list[Event]:
        self._stay = False
        self._moves.clear()
        return self._go_on() if self.together else []

    def step(self, gates: int = len(GATES)) -> list[Event]:
        """From a pause, lets all ranks go on by so many gates: a whole step, or one phase of it. Ranks that run are
        paused instead; for those on their way to a gate, it follows."""
        if not self._stay:
            self.pause()
            return []
        self._moves.append(gates)
        return self._move() if self.together else []

    def change(self, settings: dict[str, Any]) -> list[Event]:
        """Has all ranks change something before the same step."""
        self._settings.append(settings)
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
            alone = len(self._ranks) == 1 and event.phase == "data"
            self._gate = gate if alone else _first_that_none_has_passed(gate)
            self._unheard = set(self._ranks[1:])
            for rank in self._ranks[1:]:
                self._send(rank, ("bound", self._gate))
            self._let_rank_0_follow()
            return []
        if self._gate is None or gate < self._gate or any(self._waiting.get(rank) != gate for rank in self._ranks):
            return []
        # A later gate than that asked for, where the strategy has no such phase.
        self._gate = gate
        self._together_since = time.monotonic()
        if self._stopping:
            self._send_all(("stop",))
            return []
        events = self._apply()
        if not self._stay:
            return events + self._go_on()
        self._paused = True
        return [*events, event, *self._move()]

    def heard(self, rank: int) -> None:
        """A rank knows at which gate to wait."""
        self._unheard.discard(rank)
        self._let_rank_0_follow()

    def _let_rank_0_follow(self) -> None:
        """Before all others know, rank 0 would take part in the all-reduce that keeps them from passing the gate."""
        if not self._unheard:
            self._send(0, ("until", self._gate, 0))

    def _apply(self) -> list[Event]:
        assert self._gate is not None
        # Settings are taken up at the start of a step.
        step = step_of(self._gate) + (self._gate % len(GATES) > 0)
        all_settings, self._settings = self._settings, []
        for settings in all_settings:
            self._send_all(("set", settings))
        return [Changed(step, settings) for settings in all_settings]

    def _hold(self) -> None:
        if self.free:
            self._holding = True
            self._send(0, ("hold",))

    def _move(self) -> list[Event]:
        """Goes on to the next gate that was asked for, if one was."""
        if not self._moves:
            return []
        assert self._gate is not None
        gates, before = self._moves.popleft(), self._gate
        # A whole step ends at the start of the next one, wherever in a step it began.
        self._gate += gates - before % len(GATES) if gates == len(GATES) else gates
        return self._leave(before, ("until", self._gate, self._stood_still_ns()))

    def _go_on(self) -> list[Event]:
        assert self._gate is not None
        gate, self._gate = self._gate, None
        return self._leave(gate, ("run", self._stood_still_ns()))

    def _leave(self, gate: int, message: Message) -> list[Event]:
        self._waiting.clear()
        self._send_all(message)
        told, self._paused = self._paused, False
        return [Resumed(step_of(gate))] if told else []

    def _stood_still_ns(self) -> int:
        """For how long all ranks waited together: time that belongs to no step."""
        since, self._together_since = self._together_since, None
        return 0 if since is None else round((time.monotonic() - since) * 1e9)

    def _send_all(self, message: Message) -> None:
        for rank in self._ranks:
            self._send(rank, message)


def _first_that_none_has_passed(gate: int) -> int:
    """The first start of a step that no rank can have passed while rank 0 waits at `gate`.

    From `update` on, the step's all-reduce is over, and others may be in the next step already, up to its own.
    """
    return position(step_of(gate) + (2 if phase_of(gate) == "update" else 1), "data")
