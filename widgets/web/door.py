"""The server's door: how many connections are open at a time, and how long one may stand in it without a word.

A connection costs a file descriptor as soon as it is made, before a line of a request is read; a server whose
descriptors are all taken answers nobody. So connections are taken one at a time and counted, those that are slow with
their request are closed, and when all places are taken, whoever has stood there longest without asking gives way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HEAD_SECONDS = 10.0
"""In which a connection has to send a request's head: after it was made, and after each answer."""
STUCK_SECONDS = 45.0
"""For which an answer may lie here without its browser taking anything of it."""
SWEEP_SECONDS = 1.0
MOST_CONNECTIONS = 4096
WANTED_DESCRIPTORS = 8192
"""What the server asks the system for, where it may have so many."""
OTHERS = 512
"""Descriptors, or half of all where they are few, that are for runs and files."""
OF_ONE_ADDRESS = 0.75
"""Share of the connections that one address, such as a class's or a proxy's, may have."""
BACKLOG = 512
"""Connections that wait in the system until they are taken."""
LOOKED_AT = 64
"""Connections that are asked, one after another, to make room for a new one."""
RETRY_SECONDS = 0.5
LOG_LINES, LOG_SECONDS = 20, 60.0
"""What the web server writes to its log: so many lines in so long."""


@dataclass(eq=False)
class _Guest:
    """A connection."""

    address: str
    since: float
    """When it was made, or began to wait for its next request, or was seen to take something."""
    protocol: Any = None
    cycle: Any = None
    """The request that was seen last."""
    unsent: int = 0
    """Bytes of its answer that lay here when it was looked at last."""

    @property
    def asks(self) -> bool:
        """Whether a request of it is being answered."""
        cycle = getattr(self.protocol, "cycle", None)
        return cycle is not None and not cycle.response_complete

    def cut(self) -> None:
        transport = getattr(self.protocol, "transport", None)
        if transport is not None:
            transport.abort()


class Door:
    """Takes the connections of a uvicorn server that has started, in place of its own.

    Args:
        server: of which `config`, `server_state`, `servers` and `lifespan` are used.
        app: what answers, without what uvicorn has put around it: that believes a header's word for who asks.
    """

    def __init__(self, server: Any, app: Any) -> None:
        self._server = server
        self._app = app
        self._guests: OrderedDict[_Guest, None] = OrderedDict()
        self._of: Counter[str] = Counter()
        self._listening: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = _Few()
        self.most = most_connections()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """From any thread; returns when it stands open."""
        self._loop = self._server.servers[0].get_loop()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    def close(self) -> None:
        """From any thread."""
        for name in _Few.LOGS:
            logging.getLogger(name).removeFilter(self._log)
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)

    def __len__(self) -> int:
        return len(self._guests)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        for name in _Few.LOGS:
            logging.getLogger(name).addFilter(self._log)
        config = self._server.config
        config.loaded_app, config.ws_protocol_class = self._app, None
        for server in self._server.servers:
            own = [listening.dup() for listening in server.sockets]
            server.close()
            for listening in own:
                listening.setblocking(False)
                listening.listen(BACKLOG)
                self._listening.append(listening)
                loop.add_reader(listening.fileno(), self._accept, listening)
        self._keep(self._sweep())

    async def _close(self) -> None:
        loop = asyncio.get_running_loop()
        for listening in self._listening:
            if listening.fileno() >= 0:
                loop.remove_reader(listening.fileno())
                listening.close()
        self._listening.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, peer = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            # No descriptor is left: somebody gives way, and the system is not asked again at once, without end.
            self._make_room("")
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening.fileno())
            loop.call_later(RETRY_SECONDS, self._again, listening)
            return
        address = str(peer[0]) if peer else ""
        crowded = self._of[address] >= max(1, int(self.most * OF_ONE_ADDRESS))
        if (crowded or len(self._guests) >= self.most) and not self._make_room(address if crowded else ""):
            connection.close()
            return
        guest = _Guest(address, time.monotonic())
        self._guests[guest] = None
        self._of[address] += 1
        self._keep(self._let_in(guest, connection))

    def _again(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    async def _let_in(self, guest: _Guest, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.connect_accepted_socket(lambda: self._made(guest, loop), connection)
        except (OSError, asyncio.CancelledError):
            self._gone(guest)
            connection.close()

    def _made(self, guest: _Guest, loop: asyncio.AbstractEventLoop) -> Any:
        """The server's own protocol, which also tells the door when it is over."""
        config = self._server.config
        guest.protocol = protocol = config.http_protocol_class(
            config=config, server_state=self._server.server_state, app_state=self._server.lifespan.state, _loop=loop
        )
        lost = protocol.connection_lost

        def connection_lost(error: Exception | None) -> None:
            self._gone(guest)
            lost(error)

        protocol.connection_lost = connection_lost
        return protocol

    def _gone(self, guest: _Guest) -> None:
        if guest in self._guests:
            del self._guests[guest]
            self._of[guest.address] -= 1
            if not self._of[guest.address]:
                del self._of[guest.address]

    def _make_room(self, address: str) -> bool:
        """Cuts the connection that has been there longest of those that ask for nothing; of an address, if one is
        given. Those that do go to the end of the row."""
        for guest in list(_first(self._guests, LOOKED_AT)):
            if not guest.asks and guest.protocol is not None and address in ("", guest.address):
                self._gone(guest)
                guest.cut()
                return True
            self._guests.move_to_end(guest)
        return False

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for guest in list(self._guests):
                self._look(guest, now)

    def _look(self, guest: _Guest, now: float) -> None:
        """Cuts a connection that is too slow."""
        protocol = guest.protocol
        if protocol is None or protocol.transport is None:
            return
        unsent = protocol.transport.get_write_buffer_size()
        moved = protocol.cycle is not guest.cycle or unsent < guest.unsent
        if moved or (guest.asks and not unsent):
            guest.since = now
        guest.cycle, guest.unsent = protocol.cycle, unsent
        if now - guest.since > (STUCK_SECONDS if unsent else HEAD_SECONDS):
            guest.cut()


def _first(guests: OrderedDict[_Guest, None], count: int) -> Iterator[_Guest]:
    for guest, _ in zip(guests, range(count), strict=False):
        yield guest


def most_connections() -> int:
    """How many connections the descriptors of this process allow, of which it takes what it may have."""
    try:
        import resource
    except ImportError:  # a system without such limits
        return MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < WANTED_DESCRIPTORS:
        wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(WANTED_DESCRIPTORS, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(8, min(MOST_CONNECTIONS, soft - min(OTHERS, soft // 2)))


class _Few(logging.Filter):
    """Lets few lines a minute into a log: each bad request is worth one, and anybody can send them."""

    LOGS = ("uvicorn.error", "asyncio")

    def __init__(self) -> None:
        super().__init__()
        self._since = 0.0
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._since > LOG_SECONDS:
            self._since, self._count = now, 0
        self._count += 1
        return self._count <= LOG_LINES
