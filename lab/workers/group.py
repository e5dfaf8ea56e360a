"""A rank's place among the ranks of its run, and the little that they say to each other besides gradients."""

from __future__ import annotations

import datetime
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lab.workers.board import Board, Pen, Phase

T = TypeVar("T")

GRACE_SECONDS = 10.0
"""The parent finds a rank that does not come after the run's time-out. The library's own time-out, which only says that
some rank did not come, is longer by this."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker process is told of its place."""

    rank: int
    world_size: int
    folder: str
    """Of the run: the board, the rendezvous and the ranks' stacks are in it. It is the parent's to remove."""
    backend: str
    """As `torch.distributed.init_process_group` takes it."""
    timeout_s: float
    explain: bool = False
    """Whether collectives are checked against each other before they run."""

    @property
    def board_path(self) -> Path:
        return Path(self.folder) / "board"

    @property
    def store_path(self) -> Path:
        return Path(self.folder) / "store"

    @property
    def stacks_path(self) -> Path:
        return Path(self.folder) / f"stacks-{self.rank}"


class Group:
    """The ranks of a run, as one of them sees them. With one rank, everything is said already."""

    def __init__(self, seat: Seat) -> None:
        self.rank, self.world_size, self.backend = seat.rank, seat.world_size, seat.backend
        self.explain = seat.explain
        self._seat = seat
        self._board = Board(seat.board_path, seat.world_size)
        self.unchecked: Any = None
        """In a run that is explained, the same ranks without checks. DistributedDataParallel needs it for itself, which
        crashes on gloo with a group that checks (tried on torch 2.13); gradients go through the group that does."""
        self.pen: Pen = self._board.pen(seat.rank)

    def join(self) -> None:
        """Meets the other ranks, if only to find that there are none; see `meet`."""
        self.pen.at(0, "joining")
        if self.explain:
            # The level was read when torch was loaded, before this process was.
            os.environ["TORCH_DISTRIBUTED_DEBUG"] = "DETAIL"
            dist.set_debug_level_from_env()  # type: ignore[attr-defined]
        meet(self._seat, self._seat.store_path)
        if self.explain:
            dist.set_debug_level(dist.DebugLevel.OFF)  # type: ignore[attr-defined]
            self.unchecked = dist.new_group(backend=self.backend)

    def leave(self) -> None:
        """Says goodbye to the other ranks."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def at(self, step: int, phase: Phase) -> None:
        self.pen.at(step, phase)

    def agree(self, value: int) -> int:
        """Rank 0's value, on every rank; returns when all have asked."""
        return int(self.sum(torch.tensor([value if self.rank == 0 else 0])).item())

    def share(self, value: T | None) -> T:
        """Rank 0's value, whatever it is, on every rank."""
        told = [value]
        if self.world_size > 1:
            number = self.pen.enter("broadcast", 0)
            dist.broadcast_object_list(told, 0, device=torch.device("cpu"))
            self.pen.leave(number)
        return cast(T, told[0])

    def share_buffers(self, net: nn.Module) -> None:
        """Gives every rank rank 0's buffers: batch norm's running statistics, for one, are different on each rank."""
        for buffer in net.buffers() if self.world_size > 1 else ():
            number = self.pen.enter("broadcast", buffer.nbytes)
            dist.broadcast(buffer, 0)
            self.pen.leave(number)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks of a tensor on the CPU, in place."""
        if self.world_size > 1:
            number = self.pen.enter("all_reduce", values.nbytes)
            dist.all_reduce(values)
            self.pen.leave(number)
        return values


def meet(seat: Seat, store_path: Path) -> None:
    """Makes the process group of all ranks that come to the same store.

    A FileStore in the run's own folder and sockets on the loopback interface: no port is named, so none can be taken.
    """
    if "vgpu" in seat.backend:
        from lab.vgpu import distributed

        distributed.register()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    dist.init_process_group(
        seat.backend,
        store=dist.FileStore(str(store_path), seat.world_size),  # type: ignore[attr-defined]
        rank=seat.rank,
        world_size=seat.world_size,
        timeout=datetime.timedelta(seconds=seat.timeout_s + GRACE_SECONDS),
    )


def _loopback() -> str:
    """The interface that leads back to this machine: by name gloo would ask the host's name, which may lead nowhere."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.family == socket.AF_INET and address.address == "127.0.0.1" for address in addresses):
            return str(name)
    return "lo"
