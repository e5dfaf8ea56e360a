"""A live group of ranks, to try things on: each a process with torch.distributed ready, each keeping its variables.

with Console(2) as console:
    console.run("import torch, torch.distributed as dist")
    console.run("x = torch.tensor([float(rank)]); dist.all_reduce(x)")
    outcome = console.run("x")
    [ended.value for ended in outcome.ended.values()]      # ['tensor([1.])', 'tensor([1.])']
"""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Literal, TypeAlias

import cloudpickle

from lab.errors import LabError, listed
from lab.events import RankFailed
from lab.workers import console_rank, launch
from lab.workers.absence import Where, explain, of_failure
from lab.workers.console_rank import Cut, Ended, Said
from lab.workers.diagnosis import Evidence, diagnose, is_communication
from lab.workers.folder import Folder
from lab.workers.group import Seat

DeviceKind: TypeAlias = Literal["cpu", "cuda", "vgpu"]
MAX_RANKS = 16
JOIN_SECONDS = 60.0
WAIT_SECONDS = 20.0
"""How long a rank may wait for another in a collective; gloo says so ten seconds later."""
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


class Console:
    """The parent's side. One cell at a time.

    Args:
        world_size: how many ranks, 1 to 16.
        device: what the ranks find as `device`: `cpu`, `cuda:RANK` or `vgpu:RANK`.

    Raises:
        LabError: when there are not so many devices, or the ranks do not meet.
    """

    def __init__(self, world_size: int = 2, device: DeviceKind = "cpu", wait_seconds: float = WAIT_SECONDS) -> None:
        if not 1 <= world_size <= MAX_RANKS:
            raise LabError(f"{world_size} ranks cannot be started: give a number from 1 to {MAX_RANKS}")
        self.world_size = world_size
        self.device = device
        self._busy = threading.Lock()
        self._workers: dict[int, launch.Worker] = {}
        self._cells = self._meetings = 0
        self._closed = False
        self._folder = Folder()
        try:
            backend = _backend(device, world_size)
            for rank in range(world_size):
                seat = Seat(rank, world_size, str(self._folder.path), backend, wait_seconds)
                self._workers[rank] = launch.launch(console_rank.main, seat, device)
            with self._alone():
                self._join()
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """True as long as it can run cells."""
        return not self._closed

    @property
    def pids(self) -> tuple[int, ...]:
        """Process numbers of the ranks; empty when they are gone."""
        return () if self._closed else tuple(worker.process.pid or 0 for worker in self._workers.values())

    def run(
        self,
        source: str,
        ranks: Sequence[int] | None = None,
        hear: Callable[[Said], None] = lambda said: None,
        timeout: float | None = None,
    ) -> Outcome:
        """Runs a cell on some ranks, or on all, and waits until it has ended on each.

        A KeyboardInterrupt here stops the cell on all of them; ranks that cannot be stopped are ended, all of them.

        Args:
            hear: called with what the ranks print, as it comes.
            timeout: seconds, after which the cell is interrupted.

        Raises:
            LabError: for a rank that there is not, or when the group is gone.
        """
        chosen = self._chosen(ranks)
        with self._alone():
            self._cells += 1
            for rank in chosen:
                self._send(rank, ("run", self._cells, source))
            return self._collect(chosen, hear, timeout)

    def push(self, **values: Any) -> None:
        """Gives every rank these variables; what is defined in a notebook travels by value."""
        try:
            payload = cloudpickle.dumps(values)
        except Exception as error:
            raise LabError(f"{listed(values)} cannot be sent to the ranks: {type(error).__name__}: {error}") from error
        self._ask("push", payload)

    def pull(self, name: str) -> dict[int, Any]:
        """A variable of every rank, by rank."""
        outcome = self._ask("pull", name)
        return {rank: cloudpickle.loads(ended.payload or b"") for rank, ended in outcome.ended.items()}

    def close(self) -> None:
        """Ends every rank at once."""
        self._closed = True
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            worker.kill()
        for worker in workers.values():
            worker.close()
        self._folder.remove()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- one cell ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._closed:
            raise LabError("the group of ranks has ended; start another")
        if not self._busy.acquire(blocking=False):
            raise LabError("the ranks are still busy with another cell; wait for it, or interrupt it")
        try:
            yield
        finally:
            self._busy.release()

    def _chosen(self, ranks: Sequence[int] | None) -> list[int]:
        chosen = list(range(self.world_size)) if ranks is None else sorted(set(ranks))
        absent = [rank for rank in chosen if not 0 <= rank < self.world_size]
        if absent or not chosen:
            wrong = f"there is no rank {absent[0]}" if absent else "no rank is named"
            raise LabError(f"{wrong}: ranks are 0 to {self.world_size - 1}")
        return chosen

    def _ask(self, kind: str, what: Any) -> Outcome:
        everyone = list(range(self.world_size))
        with self._alone():
            self._cells += 1
            for rank in everyone:
                self._send(rank, (kind, self._cells, what))
            outcome = self._collect(everyone, lambda said: None, None)
        if outcome.failures:
            raise LabError(f"rank {outcome.failures[0].rank}: {outcome.failures[0].cause}")
        return outcome

    def _join(self) -> None:
        """All ranks meet, in a store of their own."""
        self._meetings += 1
        self._cells += 1
        for rank in self._workers:
            self._send(rank, ("join", self._cells, f"store-{self._meetings}"))
        outcome = _Collection(self, list(self._workers), lambda said: None, JOIN_SECONDS).outcome()
        if outcome.failures or outcome.timed_out or outcome.interrupted:
            self.close()
            reason = outcome.failures[0].cause if outcome.failures else f"waited {JOIN_SECONDS:.0f} s"
            raise LabError(f"the ranks could not connect ({reason}), and have been ended; start others")

    def _collect(self, ranks: list[int], hear: Callable[[Said], None], timeout: float | None) -> Outcome:
        collection = _Collection(self, ranks, hear, timeout)
        outcome = collection.outcome()
        if collection.dead or collection.deaf:
            self.close()
        elif collection.cut or collection.lost:
            self._join()
            outcome.connected_anew = True
        return outcome

    def _send(self, rank: int, message: tuple[Any, ...]) -> None:
        with contextlib.suppress(OSError):
            self._workers[rank].pipe.send_bytes(pickle.dumps(message))


class _Collection:
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


def gone(outcome: Outcome, console: Console) -> str:
    """Why the group has ended with a cell, as a sentence; nothing when it has not."""
    if console.alive:
        return ""
    if not outcome.failures or outcome.interrupted or outcome.timed_out:
        return "Some ranks did not stop in time, so the whole group was ended, and its variables are gone."
    return "A rank's process is gone, so the whole group was ended, and its variables with it."


def _backend(device: DeviceKind, world_size: int) -> str:
    """What carries the collectives."""
    if device == "cuda":
        import torch

        here = torch.cuda.device_count()
        if here < world_size:
            raise LabError(f"{world_size} ranks need a GPU each, and this machine has {here}; use vgpu or cpu")
        return "cpu:gloo,cuda:nccl"
    return "cpu:gloo,vgpu:vgloo" if device == "vgpu" else "gloo"
