"""A live group of ranks, to try things on: each a process with torch.distributed ready, each keeping its variables.

with Console(2) as console:
    console.run("import torch, torch.distributed as dist")
    console.run("x = torch.tensor([float(rank)]); dist.all_reduce(x)")
    outcome = console.run("x")
    [ended.value for ended in outcome.ended.values()]      # ['tensor([1.])', 'tensor([1.])']
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, TypeAlias

import cloudpickle

from lab.errors import LabError, listed
from lab.workers import console_rank, launch
from lab.workers.collection import Collection, Outcome
from lab.workers.console_rank import Said
from lab.workers.folder import Folder
from lab.workers.group import Seat

DeviceKind: TypeAlias = Literal["cpu", "cuda", "vgpu"]
MAX_RANKS = 16
JOIN_SECONDS = 60.0
WAIT_SECONDS = 20.0
"""How long a rank may wait for another in a collective; gloo says so ten seconds later."""


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
        outcome = Collection(self, list(self._workers), lambda said: None, JOIN_SECONDS).outcome()
        if outcome.failures or outcome.timed_out or outcome.interrupted:
            self.close()
            reason = outcome.failures[0].cause if outcome.failures else f"waited {JOIN_SECONDS:.0f} s"
            raise LabError(f"the ranks could not connect ({reason}), and have been ended; start others")

    def _collect(self, ranks: list[int], hear: Callable[[Said], None], timeout: float | None) -> Outcome:
        collection = Collection(self, ranks, hear, timeout)
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
