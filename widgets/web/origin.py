"""Where a request comes from, and under which name it has found the page."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import TypeAlias

from starlette.datastructures import Headers
from starlette.types import Scope

from widgets.web.address import ServeError
from widgets.web.text import server as text

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
OF_ONE_IPV6 = 64
"""Bits of an IPv6 address that are its network's: one computer has all the addresses behind them."""
EVERY_NAME = "*"
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:[0-9]*)?")


def networks(proxies: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks of proxies that are believed.

    Raises:
        ServeError: for what is neither.
    """
    return tuple(map(_network, proxies))


def _network(written: str) -> Network:
    try:
        return ipaddress.ip_network(written, strict=False)
    except ValueError:
        raise ServeError(text.BAD_PROXY.format(proxy=written)) from None


def client(scope: Scope, headers: Headers, proxies: Sequence[Network] = ()) -> str:
    """The address that a request is counted for: of the one that is connected, and only where that is a proxy that is
    believed, of the one that it says it has the request from. Others can write what they like into the header."""
    peer = (scope.get("client") or ("",))[0]
    said = [part.strip() for part in ",".join(headers.getlist("x-forwarded-for")).split(",") if part.strip()]
    while said and _believed(peer, proxies):
        before = _address(said.pop())
        if before is None:
            break
        peer = str(before)
    address = _address(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, OF_ONE_IPV6), strict=False).network_address)
    return str(address or peer)


def _believed(peer: str, proxies: Sequence[Network]) -> bool:
    address = _address(peer)
    return address is not None and any(address in network for network in proxies)


def _address(written: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(written.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Hosts:
    """Names under which the page may be asked for.

    A site of somebody else's can have its own name lead to this computer, and its scripts would then be taken for the
    page's own: the browser says which name it was. An address in place of a name cannot be made to lead elsewhere.

    Args:
        names: besides those of this computer itself; None, or `*` among them, allows every name.
    """

    def __init__(self, names: Sequence[str] | None = ()) -> None:
        self._names = None if names is None or EVERY_NAME in names else {_plain(name) for name in names}

    def allows(self, host: str) -> bool:
        """Whether a `Host` header is one of them."""
        if self._names is None:
            return True
        name = _plain(host) if HOST.fullmatch(host) else ""
        known = name == "localhost" or name.endswith(".localhost") or name in self._names - {""}
        return known or _address(name) is not None


def _plain(host: str) -> str:
    """Without the port, the brackets and the last dot."""
    name = host.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return (name.partition(":")[0] if name.count(":") == 1 else name).rstrip(".")
