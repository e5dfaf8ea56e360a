"""Where the page is: the port that it listens on, its address to type, and a proxy's prefix."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket

from lab.errors import LabError
from widgets.web.text import server as text

FIRST_PORT, LAST_PORT = 7860, 7899


class ServeError(LabError):
    """The page cannot be served at that address; the text says what to do."""


def root_path(given: str) -> str:
    """The prefix as Gradio wants it: `/lab`, or a whole address; empty for none.

    Raises:
        ServeError: for what is neither.
    """
    path = given.rstrip("/")
    if path.startswith(("http://", "https://")):
        return path
    if path and (not re.fullmatch(r"(/([\w.~@+-]|%[0-9A-Fa-f]{2})+)+", path) or ".." in path):
        raise ServeError(text.BAD_ROOT.format(path=given))
    return path


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def port(host: str, port: int | None) -> int:
    """A port that is free now: the given one, any for 0, the next free one for None."""
    if port is not None:
        found = _listenable(host, port)
        if found is None:
            raise ServeError(text.PORT_TAKEN.format(port=port, host=host))
        return found
    for candidate in range(FIRST_PORT, LAST_PORT + 1):
        if _listenable(host, candidate) is not None:
            return candidate
    raise ServeError(text.NO_PORT.format(first=FIRST_PORT, last=LAST_PORT, host=host))


def _listenable(host: str, port: int) -> int | None:
    """The port, if a server can listen there; None when another one does.

    Raises:
        ServeError: when the host is none of this machine's, or the port may not be listened on.
    """
    if not 0 <= port <= 65_535:
        raise ServeError(text.BAD_PORT.format(port=port))
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise ServeError(text.BAD_HOST.format(host=f"{host}:{port}", reason=error.strerror or str(error))) from None


def url(host: str, port: int) -> str:
    """The address to type: a server on all interfaces is reached as localhost."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}/"
    if address.is_unspecified:
        return f"http://localhost:{port}/"
    return f"http://[{host}]:{port}/" if address.version == 6 else f"http://{host}:{port}/"
