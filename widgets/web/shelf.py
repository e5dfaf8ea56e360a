"""What is the same for everybody, ready to send: scripts, styles and fonts, compressed once.

Gradio compresses its files, and Plotly's bundle of 5 MB, anew for every browser, in the thread that serves them all:
half a second each time, in which a class that opens the page together waits, and whoever runs something waits too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import MutableMapping
from typing import Any, TypeAlias

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from widgets.web import static

FOLDERS = ("/assets/", "/static/")
MOST_BYTES = 64 * 2**20
"""Kept in all; Gradio's files and Plotly's take about 10 MB."""
CACHE = "public, max-age=86400"
"""A browser keeps them for a day: the names of Gradio's carry a hash of their contents."""

_Key: TypeAlias = tuple[str, str]
"""Path, and how the answer is compressed."""


class Shelf:
    """An ASGI application before another, that answers for it what it has answered before."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: dict[_Key, list[Message]] = {}
        self._bytes = 0
        self._locks: MutableMapping[_Key, anyio.Lock] = defaultdict(anyio.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope)
        if key is None:
            await self._app(scope, receive, send)
            return
        if key not in self._kept:
            async with self._locks[key]:  # those who ask meanwhile wait for the one answer
                if key not in self._kept:
                    await self._fetch(key, scope, receive, send)
                    return
        for message in self._kept[key]:
            await send(_copied(message))

    async def _fetch(self, key: _Key, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the application's answer on, and keeps it if it is whole."""
        came: list[Message] = []

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                MutableHeaders(scope=message)["cache-control"] = CACHE
            came.append(_copied(message))
            await send(message)

        await self._app(scope, receive, noted)
        size = sum(len(message.get("body", b"")) for message in came)
        whole = bool(came) and came[0].get("status") == 200 and not came[-1].get("more_body", False)
        if whole and self._bytes + size <= MOST_BYTES:
            self._kept[key] = came
            self._bytes += size
        if not whole:
            self._locks.pop(key, None)


def _copied(message: Message) -> Message:
    """Others add headers on the way."""
    return {**message, "headers": list(message["headers"])} if "headers" in message else dict(message)


def _key(scope: Any) -> _Key | None:
    """Under which the answer is kept; None for requests that are not the same for everybody."""
    path, headers = scope["path"], Headers(scope=scope)
    shared = any(folder in path for folder in FOLDERS) or path.endswith(f"/{static.PLOTLY_PATH}")
    special = any(name in headers for name in ("range", "if-none-match", "if-modified-since", "origin"))
    if scope["method"] != "GET" or not shared or special or scope["query_string"]:
        return None
    accepted = headers.get("accept-encoding", "")
    return path, "br" if "br" in accepted else "gzip" if "gzip" in accepted else ""
