"""Brings together what the ranks of a run send: one story out of several."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from lab.events import Event, GroupJoined, ParametersSummed, RunStarted, Span, StepFinished
from lab.timing.recorder import WaitFinder, as_event
from lab.workers.diagnosis import Divergence


class Inbox:
    """Turns batches of events and span rows into events, finds the waits between spans, and compares the ranks.

    Rank 0 says what the run is; what other ranks send before is kept until then.
    """

    def __init__(self) -> None:
        self.divergence: Divergence | None = None
        """The first difference between the ranks' parameters, if one was found."""
        self._started = False
        self._early: list[tuple[int, list[Any]]] = []
        self._lanes: dict[int, list[str]] = {}
        self._waits: dict[int, WaitFinder] = {}
        self._spans: dict[int, list[Span]] = defaultdict(list)
        self._parameters: tuple[str, ...] = ()
        self._world_size = 1
        self._sums: dict[int, dict[int, tuple[int, ...]]] = defaultdict(dict)

    def take(self, rank: int, batch: list[Any]) -> list[Event]:
        """The events of a batch from a rank, in their order, with the waits that they show."""
        events: list[Event] = []
        if not self._started:
            if not any(isinstance(item, RunStarted) for item in batch):
                self._early.append((rank, batch))
                return []
            self._started = True
            events += self._read(rank, batch)
            for early, before in self._early:
                events += self._read(early, before)
            self._early.clear()
            return events
        return self._read(rank, batch)

    def _read(self, rank: int, batch: list[Any]) -> list[Event]:
        events: list[Event] = []
        for item in batch:
            event = as_event(item)
            match event:
                case Span():
                    self._spans[rank].append(event)
                case RunStarted():
                    for device in event.devices:
                        self._lanes.setdefault(device.rank, []).append(device.name)
                case StepFinished():
                    events += self._waits_of(rank)
                case GroupJoined():
                    self._parameters, self._world_size = event.parameters, event.world_size
                case ParametersSummed():
                    self._compare(event)
            events.append(event)
        return events

    def _waits_of(self, rank: int) -> list[Event]:
        if rank not in self._waits:
            self._waits[rank] = WaitFinder(self._lanes.get(rank, []))
        found = self._waits[rank].waits(self._spans[rank])
        self._spans[rank].clear()
        return list(found)

    def _compare(self, event: ParametersSummed) -> None:
        """Ranks that train together have the same parameters after every step, to the bit."""
        sums = self._sums[event.step]
        sums[event.rank] = event.sums
        if len(sums) < self._world_size or self.divergence is not None:
            return
        del self._sums[event.step]
        if len(set(sums.values())) == 1:
            return
        values = [sums[rank] for rank in sorted(sums)]
        usual = max(values, key=values.count)  # of two, rank 0's
        rank = next(rank for rank in sorted(sums) if sums[rank] != usual)
        first = next(name for name, a, b in zip(self._parameters, usual, sums[rank], strict=True) if a != b)
        self.divergence = Divergence(rank, event.step, first)
