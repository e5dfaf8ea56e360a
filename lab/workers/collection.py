"""One cell on its way through the ranks of a live group: what they say, how they end, and who is to blame for it."""

from __future__ import annotations

import dataclasses
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from lab.events import RankFailed
from lab.workers.absence import Where, explain, of_failure
from lab.workers.console_rank import Cut, Ended, Said
from lab.workers.diagnosis import Evidence, diagnose, is_communication

if TYPE_CHECKING:
    from lab.workers.console import Console

GRACE_SECONDS = 1.0
"""After a rank failed: how long the others may go on before those that wait for it are let go."""
INTERRUPT_SECONDS = 0.5
"""How long a rank may take to stop where Python can stop it; then its connections are cut."""
KILL_SECONDS = 4.0
"""How long it may take altogether."""
WHERE_SECONDS = 0.5
"""How long ranks may take to say where they are."""
_POLL_SECONDS = 0.05


@dataclass(slots=True)
class Outcome:
    """How a cell went."""

    ended: dict[int, Ended] = field(default_factory=dict)
    """Rank -> its end."""
    failures: list[RankFailed] = field(default_factory=list)
    """Why it failed, the root cause first."""
    interrupted: bool = False
    timed_out: bool = False
    absent: RankFailed | None = None
    """For which rank the others waited when the cell was interrupted or took too long."""
    connected_anew: bool = False
    """True when the ranks had to connect again: what was made with the old group (a DDP net) has to be made again."""


class Collection:
    """Waits for the ends of one cell on several ranks, and sees to it that there is an end."""

    def __init__(self, console: Console, ranks: list[int], hear: Callable[[Said], None], timeout: float | None) -> None:
        self.dead: dict[int, int | None] = {}
        """Rank -> exit code, of processes that ended."""
        self.deaf: list[int] = []
        """Ranks that did not stop when they were told to."""
        self.cut = False
        self._console = console
        self._cell = console._cells
        self._running = set(ranks)
        self._hear = hear
        self._outcome = Outcome()
        self._reports: dict[int, RankFailed] = {}
        self._began = time.monotonic()
        self._deadline = self._began + timeout if timeout is not None else None
        self._failed_at: float | None = None
        self._interrupted_at: float | None = None
        self._ranks = tuple(ranks)
        self._where: dict[int, Where] = {}
        self._asked_at: float | None = None
        """When the ranks were asked where they are, because one has waited in vain."""
        self._let_go = False
        """Whether a rank that did not come was told to stop."""

    def outcome(self) -> Outcome:
        while self._running:
            self._turn()
        absent = self._absent()
        if self._outcome.interrupted or self._outcome.timed_out:
            self._outcome.absent = absent
        if self._reports or self.dead:
            self._outcome.failures = self._diagnosed()
        if absent is not None and self._outcome.failures:
            others = [each for each in self._outcome.failures if each.rank != absent.rank]
            self._outcome.failures = [absent, *(dataclasses.replace(each, primary=False) for each in others)]
        self._outcome.ended = dict(sorted(self._outcome.ended.items()))
        return self._outcome

    def _turn(self) -> None:
        try:
            self._read()
            self._look_after()
        except KeyboardInterrupt:
            if self._interrupted_at is not None:  # once more: the reader has no patience left
                self._give_up()
            else:
                self._outcome.interrupted = True
                self._ask()
                self._interrupt()

    def _read(self) -> None:
        workers = self._console._workers
        pipes = {workers[rank].pipe: rank for rank in workers if rank not in self.dead}
        for pipe in wait(list(pipes), _POLL_SECONDS):
            rank = pipes[pipe]  # type: ignore[index]
            try:
                batch = pickle.loads(workers[rank].pipe.recv_bytes())
            except (EOFError, OSError):
                workers[rank].process.join(1.0)
                self.dead[rank] = workers[rank].process.exitcode
                self._running.discard(rank)
                self._failed()
                continue
            for message in batch:
                self._take(message)

    def _take(self, message: Said | Ended | Cut | Where) -> None:
        match message:
            case Said() if message.cell == self._cell:
                self._hear(message)
            case Where() if message.cell == self._cell:
                self._where[message.rank] = message
            case Ended() if message.cell == self._cell:
                self._running.discard(message.rank)
                self._outcome.ended[message.rank] = message
                if message.failure is not None:
                    self._reports[message.rank] = message.failure
                    self._failed()
                    if is_communication(message.failure) and self._asked_at is None:
                        self._ask()

    def _failed(self) -> None:
        if self._failed_at is None:
            self._failed_at = time.monotonic()

    def _look_after(self) -> None:
        """Lets go of ranks that wait for one that will not come."""
        now = time.monotonic()
        if self._interrupted_at is not None:
            if not self.cut and now - self._interrupted_at > INTERRUPT_SECONDS:
                self._cut(self._running)
            if now - self._interrupted_at > KILL_SECONDS:
                self._give_up()
        elif self._deadline is not None and now > self._deadline:
            self._outcome.timed_out = True
            self._ask()
            self._interrupt()
        elif self._asked_at is not None and not self._let_go and now - self._asked_at > WHERE_SECONDS:
            # What the others waited for in vain is of no use to them any more.
            self._let_go = True
            for rank, where in self._where.items():
                if rank in self._running and not where.collective:
                    self._console._send(rank, ("interrupt",))
        elif self._failed_at is not None and not self.cut and now - self._failed_at > GRACE_SECONDS:
            self._cut(self._reports)

    def _ask(self) -> None:
        """Has the ranks that go on say where they are."""
        self._asked_at = time.monotonic()
        for rank in self._running:
            self._console._send(rank, ("where", self._cell))

    @property
    def lost(self) -> dict[int, str]:
        """Rank -> the collective in which it lost the others."""
        return {rank: of_failure(failure) for rank, failure in self._reports.items() if is_communication(failure)}

    def _absent(self) -> RankFailed | None:
        """The rank that did not come to where the others waited."""
        if self._asked_at is None or self.dead:
            return None
        lost = self.lost
        if len(lost) < len(self._reports):
            return None  # a rank says itself what went wrong
        # One that was at no line of the cell had lost the others just before, and was on its way to say so.
        running = {
            rank: where
            for rank, where in self._where.items()
            if rank not in lost or (where.line and not where.collective)
        }
        waited = {rank: name for rank, name in lost.items() if rank not in running}
        over = [
            rank
            for rank, ended in self._outcome.ended.items()
            if ended.failure is None and not ended.interrupted and rank not in running
        ]
        found = explain(self._ranks, running, waited, over)
        if found is None:
            return None
        stack = self._where[found.rank].stack if found.rank in self._where else ""
        return dataclasses.replace(found, traceback=stack)

    def _interrupt(self) -> None:
        self._interrupted_at = time.monotonic()
        for rank in self._running:
            self._console._send(rank, ("interrupt",))

    def _cut(self, ranks: Sequence[int] | set[int] | dict[int, Any]) -> None:
        self.cut = True
        for rank in ranks:
            self._console._send(rank, ("cut",))

    def _give_up(self) -> None:
        self.deaf = sorted(self._running)
        self._running.clear()

    def _diagnosed(self) -> list[RankFailed]:
        """The root cause first. Ranks that failed alike are told in their order, not in that of arrival."""
        reports = self._reports
        if len({failure.cause for failure in reports.values()}) == 1:
            reports = dict(sorted(reports.items()))
        evidence = Evidence(self._console.world_size, reports=reports, exits=self.dead)
        failures = diagnose(evidence)
        return [failure for failure in failures if failure.rank in reports or failure.rank in self.dead]
