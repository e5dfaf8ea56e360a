"""One rank of a live group: a process that keeps its variables, and runs the cells that it is given.

Three things make it bearable to teach with. What a cell prints goes to the parent line by line. An interrupt raises
KeyboardInterrupt in the cell, also in a long loop. And a rank that waits in a collective for one that will never come
is let go: its connections are cut, the collective fails, and all ranks connect anew with their variables as they were.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import faulthandler
import io
import linecache
import os
import queue
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle

from lab.events import RankFailed
from lab.workers import absence, interrupts, launch
from lab.workers.channel import Channel
from lab.workers.failure import from_exception
from lab.workers.group import Seat, meet

KEPT_CHARACTERS = 200_000
"""Of what one cell prints on one rank; the rest is dropped, and counted."""
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Said:
    """Something that a cell printed."""

    rank: int
    cell: int
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a cell went on one rank."""

    rank: int
    cell: int
    value: str | None = None
    """What its last line gave, as Python shows it; None for nothing."""
    failure: RankFailed | None = None
    interrupted: bool = False
    payload: bytes | None = None
    """A variable that was asked for, pickled."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The rank has cut its connections to the others."""

    rank: int


def main(pipe: Connection, environment: dict[str, str], seat: Seat, device: str) -> None:
    """What the process runs.

    Args:
        device: the kind of device that the cells find as `device`: `cpu`, `cuda` or `vgpu`.
    """
    interrupts.ignore()
    launch.may_have_children()
    faulthandler.enable()
    os.dup2(2, 1)
    os.environ.update(environment)
    rank = Rank(seat)
    rank.serve(Channel(pipe, rank.tell, seat.folder), device)


class Rank:
    """The process's cells, one after another. `tell` is called by the thread that listens to the parent."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._main = threading.main_thread()
        self._executing = False
        self._stop = False
        self._module = types.ModuleType("__main__")
        if hasattr(signal, "SIGUSR2"):
            signal.signal(signal.SIGUSR2, self._on_signal)

    def tell(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("interrupt",):
                self._stop = True
                if hasattr(signal, "SIGUSR2") and self._main.ident is not None:
                    signal.pthread_kill(self._main.ident, signal.SIGUSR2)
            case ("where", cell):
                frame = sys._current_frames().get(self._main.ident or 0)
                if self._executing:
                    self._channel.emit([absence.look(self._seat.rank, cell, self._filename(cell), frame)])
            case ("cut",):
                cut_connections()
                self._channel.emit([Cut(self._seat.rank)])
            case _:
                self._inbox.put(message)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._executing and self._stop:
            self._stop = False
            raise KeyboardInterrupt

    def serve(self, channel: Channel, device: str) -> None:
        """Runs what comes, until the parent ends the process."""
        self._channel = channel
        self._set_up(device)
        while True:
            message = self._inbox.get()
            with contextlib.suppress(KeyboardInterrupt):  # one that came too late for its cell
                channel.emit([self._answer(message)])

    def _set_up(self, device: str) -> None:
        """The variables that every cell finds, in a `__main__` of its own, so that classes can be pickled."""
        import torch

        from lab.devices import cores

        torch.set_num_threads(max(1, cores() // self._seat.world_size))
        rank = self._seat.rank
        if device == "vgpu":
            from lab import vgpu

            vgpu.enable(self._seat.world_size)
            torch.get_device_module("vgpu").set_device(rank)
        sys.modules["__main__"] = self._module
        vars(self._module).update(
            __builtins__=builtins,
            rank=rank,
            world_size=self._seat.world_size,
            device="cpu" if device == "cpu" else f"{device}:{rank}",
        )

    def _answer(self, message: tuple[Any, ...]) -> Ended:
        rank = self._seat.rank
        cell = int(message[1])
        try:
            match message:
                case ("join", _, name):
                    self._join(name)
                    return Ended(rank, cell)
                case ("push", _, payload):
                    vars(self._module).update(cloudpickle.loads(payload))
                    return Ended(rank, cell)
                case ("pull", _, name):
                    if name not in vars(self._module):
                        raise NameError(f"name {name!r} is not defined")
                    return Ended(rank, cell, payload=cloudpickle.dumps(vars(self._module)[name]))
                case ("run", _, source):
                    return self._run(cell, source)
            raise ValueError(f"no such message: {message[0]!r}")
        except KeyboardInterrupt:
            return Ended(rank, cell, interrupted=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rank goes on
            return Ended(rank, cell, failure=from_exception(error, rank))

    def _join(self, name: str) -> None:
        """Meets the others, anew if they had met before."""
        import torch.distributed as dist

        if dist.is_initialized():
            cut_connections()
            dist.destroy_process_group()
        meet(self._seat, Path(self._seat.folder) / name)

    def _run(self, cell: int, source: str) -> Ended:
        rank = self._seat.rank
        filename = self._filename(cell)
        # So that a traceback can show the cell's lines.
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        failure, value, interrupted = None, None, False
        with self._captured(cell):
            try:
                self._stop, self._executing = False, True
                value = self._execute(source, filename)
            except KeyboardInterrupt:
                interrupted = True
            except BaseException as error:  # noqa: BLE001 - SystemExit too ends the cell, not the rank
                failure = _failure(error, rank, filename)
            finally:
                self._executing = False
        return Ended(rank, cell, value, failure, interrupted)

    def _filename(self, cell: int) -> str:
        """Under which a traceback names the cell."""
        return f"<cell {cell} on rank {self._seat.rank}>"

    def _execute(self, source: str, filename: str) -> str | None:
        """Runs the cell; what its last line gives, if that is an expression without a semicolon."""
        tree = ast.parse(source, filename)
        names = vars(self._module)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, filename, "exec"), names)
        if not isinstance(last, ast.Expr):
            return None
        value = eval(compile(ast.Expression(last.value), filename, "eval"), names)
        if value is None or source.rstrip().endswith(";"):
            return None
        names["_"] = value
        return repr(value)

    @contextlib.contextmanager
    def _captured(self, cell: int) -> Iterator[None]:
        stream = _Stream(self._channel, self._seat.rank, cell)
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            try:
                yield
            finally:
                stream.finish()


class _Stream(io.TextIOBase):
    """Sends what is written to it to the parent, line by line."""

    def __init__(self, channel: Channel, rank: int, cell: int) -> None:
        self._channel, self._rank, self._cell = channel, rank, cell
        self._line = ""
        self._left = KEPT_CHARACTERS
        self._dropped = 0
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            kept = text[: self._left]
            self._left -= len(kept)
            self._dropped += len(text) - len(kept)
            lines, newline, self._line = (self._line + kept).rpartition("\n")
            if newline:
                self._send(lines + newline)
        return len(text)

    def finish(self) -> None:
        with self._lock:
            if self._dropped:
                self._line += f"\n... and {self._dropped:,} more characters"
            if self._line:
                self._send(self._line + "\n")
            self._line = ""

    def _send(self, text: str) -> None:
        self._channel.emit([Said(self._rank, self._cell, text)])


def _failure(error: BaseException, rank: int, filename: str) -> RankFailed:
    """With a traceback that begins in the cell."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != filename:
        frames = frames.tb_next
    failure = from_exception(error, rank)
    lines = "".join(traceback.format_exception(type(error), error, frames))
    return RankFailed(rank, failure.cause, True, traceback=lines, advice=failure.advice)


def cut_connections() -> None:
    """Shuts every connection of this process over the loopback interface.

    A process group cannot be aborted while Python still holds it (a DDP net does), and a rank that waits in one of
    gloo's collectives cannot be interrupted; but when a connection is gone, the collective fails at both its ends.
    """
    import psutil

    for connection in psutil.Process().net_connections("tcp"):
        ends = (connection.laddr, connection.raddr)
        if connection.fd < 0 or not all(end and end.ip == _LOOPBACK for end in ends):
            continue
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as end:
            end.shutdown(socket.SHUT_RDWR)
