"""Connections that ask for nothing, or too slowly, against a server that has few descriptors."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from widgets.web import door, incoming
from widgets.web.serve import serving

DESCRIPTORS = 256
SERVER = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors}))
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from widgets.web import door, incoming
from widgets.web.serve import serving
door.HEAD_SECONDS, incoming.BODY_SECONDS = 4.0, 4.0
with serving(DEFAULT, port=0, start=FakeRun) as served:
    print(served.url, flush=True)
    sys.stdin.read()
"""


class Server:
    """One of its own, whose descriptors are few and whose log can be looked at."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER.format(descriptors=DESCRIPTORS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        assert self.process.stdout is not None
        self.url = httpx.URL(self.process.stdout.readline().strip())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.url.port or 0), timeout=10)

    def connections(self) -> int:
        return len(
            [each for each in psutil.Process(self.process.pid).net_connections() if each.status == "ESTABLISHED"]
        )

    def close(self) -> None:
        self.process.communicate("", timeout=20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server") / "log")
    yield server
    server.close()


@pytest.fixture
def sockets() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def is_cut(connection: socket.socket, seconds: float) -> bool:
    """Whether the other end closes it, whatever it still says."""
    connection.settimeout(seconds)
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if not connection.recv(65_536):
                return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return False


BEGINNINGS = {
    "nothing": b"",
    "a part of a line": b"GET / HT",
    "a head without its end": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ",
    "a body that was never sent": b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
    "a body of a request that is refused": b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc",
    "chunks without an end": b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "an upgrade": b"GET /gradio_api/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_connection_that_does_not_go_on_is_cut(server: Server, sockets: contextlib.ExitStack, beginning: str) -> None:
    """Also one that says a little now and then."""
    silent, drips = (sockets.enter_context(server.connect()) for _ in range(2))
    for connection in (silent, drips):
        connection.sendall(BEGINNINGS[beginning])
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() < began + 8:
            drips.sendall(b"a")
            time.sleep(0.2)
    assert time.monotonic() < began + 8, "it was never cut"
    assert is_cut(silent, 4)


def test_a_slow_body_is_cut(server: Server, sockets: contextlib.ExitStack) -> None:
    with httpx.Client(base_url=server.url) as client:
        client.get("")
        cookie = "; ".join(f"{each.name}={each.value}" for each in client.cookies.jar)
    slow = sockets.enter_context(server.connect())
    head = "POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    slow.sendall(f"{head}Cookie: {cookie}\r\n\r\n".encode())
    for _ in range(40):
        try:
            slow.sendall(b" ")
        except OSError:
            return
        time.sleep(0.2)
    assert is_cut(slow, 2)
    assert incoming.BODY_SECONDS <= 30


def test_half_open_connections_do_not_stop_the_server(server: Server, sockets: contextlib.ExitStack) -> None:
    """More of them than it has descriptors, and then again."""
    size = server.log.stat().st_size
    with httpx.Client(base_url=server.url, timeout=10) as client:
        for _ in range(3):
            for _ in range(DESCRIPTORS):
                with contextlib.suppress(OSError):
                    sockets.enter_context(server.connect()).sendall(b"GET / HTTP/1.1\r\n")
            began = time.monotonic()
            with httpx.Client(base_url=server.url, timeout=10) as fresh:
                assert fresh.get("config").status_code == 200
            assert client.get("config").status_code == 200
            assert time.monotonic() - began < 5
            assert server.connections() <= DESCRIPTORS // 2 + 8
    deadline = time.monotonic() + 12
    while server.connections() > 4:
        assert time.monotonic() < deadline, "they were never cut"
        time.sleep(0.2)
    assert server.log.stat().st_size - size < 20_000


def test_whoever_asks_for_nothing_gives_way_to_who_does(server: Server, sockets: contextlib.ExitStack) -> None:
    """Open answers stay, whatever comes after them."""
    with httpx.Client(base_url=server.url, timeout=20) as client:
        client.get("")
        answer = sockets.enter_context(client.stream("GET", "gradio_api/heartbeat/abc"))
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(lines) == "data: ALIVE"
        for _ in range(DESCRIPTORS):
            with contextlib.suppress(OSError):
                sockets.enter_context(server.connect())
        assert next(line for line in lines if line) == "data: ALIVE"


def test_bad_requests_do_not_fill_the_log(server: Server) -> None:
    size = server.log.stat().st_size
    for _ in range(300):
        with server.connect() as connection:
            connection.sendall(b"\x16\x03\x01 not http at all\r\n\r\n")
            is_cut(connection, 2)
    assert server.log.stat().st_size - size < 20_000


def test_a_reader_that_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch, sockets: contextlib.ExitStack) -> None:
    monkeypatch.setattr(door, "STUCK_SECONDS", 2.0)
    with serving(DEFAULT, port=0, start=FakeRun) as served:
        url = httpx.URL(served.url)
        connection = socket.socket()
        sockets.enter_context(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", url.port or 0))
        connection.sendall(b"GET /parallel-lab/plotly.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(8)
        took = 0
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            while part := connection.recv(1 << 20):
                took += len(part)
        assert took < 4_500_000  # of 5 MB


def test_keeping_a_connection_for_many_requests_is_fine(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=10) as client:
        for _ in range(12):
            assert client.get("theme.css").status_code == 200
            time.sleep(0.5)  # longer in all than a connection may wait for one request


def test_the_door_counts_what_is_open() -> None:
    assert 8 <= door.most_connections() <= door.MOST_CONNECTIONS
