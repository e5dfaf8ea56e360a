"""Runs a function in one process per rank, with virtual GPUs and torch.distributed ready."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from lab.vgpu.observer import Collective, Copy, Operation

JOIN_SECONDS = 120.0


def run_ranks(
    world_size: int,
    function: Callable[..., Any],
    folder: Path,
    *arguments: Any,
    backend: str = "cpu:gloo,vgpu:vgloo",
    timeout_s: float = 60.0,
    **machine: Any,
) -> list[Any]:
    """`function(rank, *arguments)` on every rank: its results by rank, or the exception's text where it raised; None
    where the process ended without a word.

    Args:
        folder: for the rendezvous.
        timeout_s: of the process group.
        machine: for `lab.vgpu.enable`; modelled time and two devices for each rank unless said otherwise.
    """
    from lab.workers import launch

    context = launch.context()
    settings = {"devices": 2 * world_size, "timing": "modelled", **machine}
    ranks: list[tuple[Any, Connection]] = []
    for rank in range(world_size):
        ours, theirs = context.Pipe(duplex=False)
        about = (rank, world_size, str(folder / "store"), backend, timeout_s, settings)
        process = context.Process(target=_rank, args=(theirs, about, function, arguments), daemon=True)
        process.start()
        theirs.close()
        ranks.append((process, ours))
    results: list[Any] = [None] * world_size
    waiting = {pipe: rank for rank, (_, pipe) in enumerate(ranks)}
    deadline = time.monotonic() + JOIN_SECONDS
    try:
        while waiting:
            ready = wait(list(waiting), timeout=max(0.0, deadline - time.monotonic()))
            assert ready, f"ranks {sorted(waiting.values())} are still not done after {JOIN_SECONDS} s"
            for pipe in ready:
                rank = waiting.pop(pipe)
                try:
                    results[rank] = pipe.recv()
                except EOFError:
                    results[rank] = None
    finally:
        for process, pipe in ranks:
            pipe.close()
            process.join(timeout=10 if not waiting else 0)
            process.kill()
            process.join(timeout=10)
            process.close()
    return results


def _rank(pipe: Connection, about: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    rank, world_size, store, backend, timeout_s, settings = about
    import torch
    import torch.distributed as dist

    from lab import vgpu

    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    vgpu.enable(**settings)
    join(backend, store, rank, world_size, timeout_s)
    try:
        result = function(rank, *arguments)
    except Exception as error:  # noqa: BLE001 - the parent looks at it
        result = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    pipe.send(result)
    dist.destroy_process_group()
    pipe.close()


def join(backend: str, file: str, rank: int, world_size: int, timeout_s: float = 60.0) -> None:
    """Begins a process group, and waits until every rank has: gloo's ranks are done connecting one after the other, and
    one that leaves at once would break the connection of those that are not."""
    import torch.distributed as dist

    store = dist.FileStore(file, world_size)
    timeout = timedelta(seconds=timeout_s)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    store.set(f"connected {rank}", "")
    store.wait([f"connected {other}" for other in range(world_size)], timeout)


class Seen:
    """Keeps the collectives of a machine, and when its operations started and ended."""

    def __init__(self) -> None:
        self.collectives: list[Collective] = []
        self.operations: list[tuple[int, int]] = []

    def operation(self, operation: Operation) -> None:
        self.operations.append((operation.start_ns, operation.end_ns))

    def transfer(self, copy: Copy) -> None: ...

    def collective(self, collective: Collective) -> None:
        self.collectives.append(collective)

    def memory(self, *change: object) -> None: ...
