"""The parent's side of a run: starts its ranks, reads what they say, notices when one is missing, and cleans up."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from lab.events import RankFailed, RunFinished, Span
from lab.experiment import Experiment
from lab.timing.recorder import SpanRow
from lab.workers import entry, launch
from lab.workers.board import Board, Position
from lab.workers.control import Message
from lab.workers.diagnosis import Divergence, Evidence, diagnose, first_difference, is_communication, mismatch
from lab.workers.folder import Folder
from lab.workers.group import Seat

POLL_SECONDS = 0.2
GRACE_SECONDS = 0.5
"""After a rank failed for a reason of its own: how long the others may take to say what they saw."""
LONG_GRACE_SECONDS = 5.0
"""After a rank only lost its connection: how long the one that is to blame may take to say so."""
SUSPICIOUS_SECONDS = 1.0
"""When a rank has been in one collective for so long, it is looked at whether all ranks call the same ones."""
STACK_SECONDS = 1.0
"""How long a rank may take to write down where it is."""
STACK_END = "in <module>"
"""With which that ends: the main thread comes last, its first call at the bottom."""
LAST_SPANS = 64
"""Kept of each rank, for when it ends without a word."""


class Supervisor:
    """The ranks of one run.

    Args:
        net: the user's own, pickled; None for one of the registry.
        explain: have collectives checked against each other before they run.
    """

    def __init__(self, run_id: str, experiment: Experiment, net: bytes | None, *, explain: bool = False) -> None:
        self.world_size = experiment.world_size or 1
        self.finished: dict[int, RunFinished] = {}
        """Rank -> its last word."""
        self.failures: list[RankFailed] = []
        """Why the run failed, the root cause first; empty while it has not."""
        self.watching_time = True
        """False while the ranks are paused: then nobody is late."""
        self.at_gate: frozenset[int] = frozenset()
        """Ranks that wait at a gate for the others to come to theirs."""
        self._evidence = Evidence(self.world_size, timeout_s=experiment.timeout_s)
        self._rows: dict[int, deque[SpanRow]] = defaultdict(lambda: deque(maxlen=LAST_SPANS))
        self._trouble_since: float | None = None
        self._workers: dict[int, launch.Worker] = {}
        self._open: set[int] = set()
        self._folder = Folder()
        try:
            seats = [
                Seat(rank, self.world_size, str(self._folder.path), _backend(experiment), experiment.timeout_s, explain)
                for rank in range(self.world_size)
            ]
            self._board = Board(seats[0].board_path, self.world_size, create=True)
            for seat in seats:
                self._workers[seat.rank] = launch.launch(entry.main, run_id, seat, experiment.to_json(), net)
                self._open.add(seat.rank)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.process.pid or 0 for worker in self._workers.values())

    def positions(self) -> tuple[Position, ...]:
        """How far each rank has come."""
        return tuple(self._board.read(rank) for rank in range(self.world_size))

    def send(self, rank: int, message: Message) -> None:
        """A message for a rank; one that is gone does not get it."""
        with suppress(OSError):
            self._workers[rank].pipe.send_bytes(pickle.dumps(message))

    def send_all(self, message: Message) -> None:
        for rank in self._workers:
            self.send(rank, message)

    @property
    def over(self) -> bool:
        """True when every rank has said its last word, and nothing is wrong, or it is known what."""
        return bool(self.failures) or (len(self.finished) == self.world_size and self._trouble_since is None)

    @property
    def diverged_ever(self) -> bool:
        """True when the ranks' parameters were found to differ: what the run says cannot be right then."""
        return self._evidence.divergence is not None

    def read(self, timeout: float = POLL_SECONDS) -> Iterator[tuple[int, list[Any]]]:
        """What ranks have sent; waits for it, at most `timeout` seconds. Finds out, meanwhile, when the run has failed.

        Failures are kept back until it is known which is the root cause.
        """
        pipes = {self._workers[rank].pipe: rank for rank in self._open}
        sentinels = {self._workers[rank].process.sentinel: rank for rank in self._open}
        if self._trouble_since is not None:
            timeout = min(timeout, 0.02)
        ready = wait([*pipes, *sentinels], timeout)
        for pipe, rank in pipes.items():
            if pipe in ready:
                try:
                    batch = pickle.loads(pipe.recv_bytes())
                except (EOFError, OSError):
                    self._ended(rank)
                    continue
                yield rank, self._keep_back(rank, batch)
        for sentinel, rank in sentinels.items():
            # What it still has in its pipe comes first.
            if sentinel in ready and rank in self._open and not self._workers[rank].pipe.poll():
                self._ended(rank)
        self._look_for_trouble()

    def _keep_back(self, rank: int, batch: list[Any]) -> list[Any]:
        kept = []
        for item in batch:
            if isinstance(item, RankFailed):
                self._evidence.reports[rank] = item
                self._trouble()
            elif isinstance(item, RunFinished):
                self.finished[rank] = item
                if item.state != "failed":
                    self._evidence.finished.add(rank)
            else:
                kept.append(item)
                if isinstance(item, tuple):
                    self._rows[rank].append(item)
        return kept

    def _ended(self, rank: int) -> None:
        """The rank's process or its pipe is gone."""
        self._open.discard(rank)
        if rank in self.finished or rank in self._evidence.reports:
            return
        process = self._workers[rank].process
        process.join(1.0)
        self._evidence.exits[rank] = process.exitcode
        self._trouble()

    def diverged(self, divergence: Divergence) -> None:
        """The ranks' parameters were found to differ."""
        if self._evidence.divergence is None:
            self._evidence.divergence = divergence
            self._trouble()

    def look_once_more(self) -> None:
        """Before the ranks are ended that did not stop in time: whether their parameters differ."""
        if self.over or self.world_size == 1:
            return
        self._read_board()
        found = first_difference(self._evidence)
        if found is not None:
            self.diverged(found)
            self._conclude()

    def _trouble(self) -> None:
        if self._trouble_since is None:
            self._trouble_since = time.monotonic()

    def _look_for_trouble(self) -> None:
        """Ends the run when a rank has failed and the others have had time to say what they saw of it."""
        if self.over:
            return
        if self._trouble_since is None:
            if self.world_size > 1 and self.watching_time:
                waited, timeout_s = self._longest_wait_s(), self._evidence.timeout_s
                stuck = bool(self.at_gate) and self._stillness_s() > timeout_s
                if stuck or waited > timeout_s or (waited > SUSPICIOUS_SECONDS and self._calls_differ()):
                    self._conclude()
            return
        evidence = self._evidence
        accounted = evidence.reports.keys() | evidence.exits.keys() | evidence.finished
        certain = (
            bool(evidence.exits)
            or evidence.divergence is not None
            or any(not is_communication(report) for report in evidence.reports.values())
        )
        grace = GRACE_SECONDS if certain else min(LONG_GRACE_SECONDS, evidence.timeout_s)
        if len(accounted) == self.world_size or time.monotonic() - self._trouble_since > grace:
            self._conclude()

    def _longest_wait_s(self) -> float:
        """For how long a rank has been in a collective, or on the way into the group."""
        since = [time.monotonic_ns()]
        for rank in self._open:
            position = self._board.read(rank)
            since += [collective.entered_ns for collective in position.waiting_in]
            if position.phase == "joining":
                since.append(position.since_ns)
        return (since[0] - min(since)) / 1e9

    def _stillness_s(self) -> float:
        """For how long no rank has moved on."""
        return (time.monotonic_ns() - max(self._board.read(rank).moved_ns for rank in range(self.world_size))) / 1e9

    def _calls_differ(self) -> bool:
        """A rank that waits for what the others do not call will wait in vain."""
        self._read_board()
        return mismatch(self._evidence) is not None

    def _read_board(self) -> None:
        self._evidence.positions = {rank: self._board.read(rank) for rank in range(self.world_size)}
        self._evidence.sums = {rank: self._board.sums(rank) for rank in range(self.world_size)}
        self._evidence.now_ns = time.monotonic_ns()

    def _conclude(self) -> None:
        evidence = self._evidence
        self._read_board()
        evidence.at_gate = self.at_gate
        evidence.last_spans = {rank: tuple(Span(*row) for row in rows) for rank, rows in self._rows.items()}
        silent = set(range(self.world_size)) - evidence.reports.keys() - evidence.exits.keys() - evidence.finished
        self._ask_for_stacks(silent)
        evidence.stacks = {rank: text for rank in range(self.world_size) if (text := self._stack(rank))}
        self.failures = diagnose(evidence)

    def _ask_for_stacks(self, ranks: set[int]) -> None:
        """Has ranks that say nothing write down where they are, and waits until they have."""
        for rank in ranks:
            with suppress(ProcessLookupError, TypeError):
                os.kill(self._workers[rank].process.pid, signal.SIGUSR1)  # type: ignore[arg-type]
        deadline = time.monotonic() + STACK_SECONDS
        while time.monotonic() < deadline and not all(self._stack(rank).rstrip().endswith(STACK_END) for rank in ranks):
            time.sleep(0.02)

    def _stack(self, rank: int) -> str:
        """Where a rank was when it was asked, or when a native library ended it; empty while it has not written it."""
        try:
            return (self._folder.path / f"stacks-{rank}").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def close(self) -> None:
        """Ends every process at once, and frees what the parent holds of them."""
        for worker in self._workers.values():
            worker.kill()
        for worker in self._workers.values():
            worker.close()
        if hasattr(self, "_board"):
            self._board.close()
        self._folder.remove()


def _backend(experiment: Experiment) -> str:
    """What carries the ranks' collectives, as `torch.distributed.init_process_group` takes it."""
    kind = experiment.devices[0].partition(":")[0]
    if kind == "vgpu":
        return "cpu:gloo,vgpu:vgloo"
    if kind == "cuda" and experiment.backend != "gloo" and len(experiment.devices) >= (experiment.world_size or 1):
        return "cpu:gloo,cuda:nccl"
    return "gloo"
