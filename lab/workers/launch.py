"""Starts worker processes through torch.multiprocessing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import psutil

from lab import streams
from lab.errors import LabError
from lab.workers import interrupts

INHERITED = ("PARALLEL_LAB_CACHE",)
"""Environment variables that a worker takes from its parent now, not from when the forkserver started."""

WORKER_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}
"""Set for workers only, unless the user has set it.

OpenMP's threads spin while they wait for each other; when two runs share the cores, each spins away the time in which
the other could finish (two runs of Net on two cores: 220 ms a step spinning, 14 ms waiting passively).

A training step frees what the next one needs again. The C library (glibc) gives such memory back to the system, or
keeps it, as it happens to lie; given back, the next step takes it page by page (ResNet-18: 5,000 to 9,000 page faults a
step, a tenth of its time). A worker keeps it."""

WORKER = "parallel-lab-worker"
"""The name of every worker's process."""
_lock = threading.Lock()


@dataclass(slots=True)
class Worker:
    """A running worker: its process, and the parent's end of its pipe."""

    process: BaseProcess
    pipe: Connection

    def kill(self) -> None:
        """Ends it at once, with what it has started; does nothing when it has ended."""
        children = []
        with contextlib.suppress(ValueError, psutil.Error):
            children = psutil.Process(self.process.pid).children(recursive=True)
        with contextlib.suppress(ValueError):
            self.process.kill()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()

    def close(self) -> None:
        """Waits for its end, and frees what the parent holds of it."""
        self.process.join()
        self.process.close()
        self.pipe.close()


def context() -> Any:
    """The way processes start here: forkserver, or spawn where there is none."""
    import torch.multiprocessing as mp

    method = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"
    chosen = mp.get_context(method)
    if method == "forkserver":
        chosen.set_forkserver_preload(["lab.workers.preload"])
    return chosen


def warm_up() -> None:
    """Starts the forkserver, which goes on loading torch by itself, so that the first run starts as fast as others."""
    with _lock, _worker_environment(), interrupts.held_back():
        if context().get_start_method() == "forkserver":
            from multiprocessing import forkserver

            forkserver.ensure_running()


@contextlib.contextmanager
def _worker_environment() -> Iterator[None]:
    """What is started inside gets the workers' environment, and streams; the parent's own is as before afterwards."""
    streams.fill()
    added = [name for name in WORKER_ENVIRONMENT if name not in os.environ]
    os.environ.update({name: WORKER_ENVIRONMENT[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def launch(target: Callable[..., None], *arguments: object) -> Worker:
    """Starts `target(pipe, environment, *arguments)` in a fresh process.

    Raises:
        LabError: when called while a worker imports the user's script, which then lacks its guard.
    """
    refuse_in_worker()
    with _lock, _worker_environment(), interrupts.held_back():
        mp = context()
        ours, theirs = mp.Pipe()
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        process = mp.Process(target=target, args=(theirs, environment, *arguments), name=WORKER, daemon=True)
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
    return Worker(process, ours)


def may_have_children() -> None:
    """Lets a worker start processes of its own, as a DataLoader does. It is a daemon for its parent only, which ends it
    when it ends itself."""
    multiprocessing.current_process().daemon = False


def end_children() -> None:
    """Ends what a worker has started, before it ends itself."""
    for child in multiprocessing.active_children():
        child.kill()


def end_family() -> None:
    """Ends every process that this one has started, and those that they have."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


def refuse_in_worker() -> None:
    """Raises LabError in a process that is itself a worker, or on the way to become one.

    While a new process imports the script, multiprocessing marks it with `_inheriting` (its own check does the same).
    """
    this = multiprocessing.current_process()
    if getattr(this, "_inheriting", False) or this.name == WORKER:
        raise LabError(
            "a worker process imported your script, and the script started a run. Put the start under a guard:\n\n"
            '    if __name__ == "__main__":\n        run = lab.start(experiment)'
        )
