"""A request as it comes in: which kind it is, its body, read whole and bounded, and how it is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import anyio
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from widgets.web import static
from widgets.web.text import server as text

Kind = Literal["read", "file", "tab", "event", "direct", "cancel", "note"]
MOST_BODY_BYTES = 256 * 1024
"""Many times what the page's controls send."""
BODY_SECONDS = 20.0
"""How long a request may take to send its body."""
MOST_DEPTH = 24
"""Of lists and objects inside each other; the page's own have four."""
FILE_KEYS = frozenset({"meta", "_type", "__type__", "url", "orig_name", "mime_type", "is_stream"})
"""Names that Gradio's file objects and its own updates have, and nothing that the page sends."""
FILE_MARK = "gradio.FileData"
READ_PREFIXES = ("/assets/", "/static/")
READ_PATHS = {
    "/",
    "/config",
    "/theme.css",
    "/gradio_api/theme.css",
    "/gradio_api/info",
    "/favicon.ico",
    "/manifest.json",
    "/robots.txt",
    f"/{static.PLOTLY_PATH}",
}
HEARTBEAT, QUEUE_DATA = "/gradio_api/heartbeat/", "/gradio_api/queue/data"
EVENT_PATHS = {"/gradio_api/queue/join"}
DIRECT_PREFIX = "/gradio_api/run/"
CANCEL_PATHS = {"/gradio_api/cancel"}
FILE_PATHS = {f"/{static.RUN_PATH}", f"/{static.TABLE_PATH}"}
NOTE_PATHS = {f"/{static.DRAWN_PATH}", f"/{static.ALIVE_PATH}"}
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
"""Nothing from anywhere else, and in no other site's frame; JupyterLab's proxy, and Binder's, show the page under the
address that they have themselves. Gradio writes scripts into its page, and makes functions of the components' own."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
}


class RefusedError(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})


def kind(method: str, path: str) -> Kind | None:
    """What sort of request it is; None for one that the page never makes."""
    if method in ("GET", "HEAD"):
        if path in READ_PATHS or path.startswith(READ_PREFIXES):
            return "read"
        if path in FILE_PATHS:
            return "file"
        return "tab" if method == "GET" and (path.startswith(HEARTBEAT) or path == QUEUE_DATA) else None
    if method != "POST":
        return None
    if path in EVENT_PATHS:
        return "event"
    if path.startswith(DIRECT_PREFIX):
        return "direct"
    if path in CANCEL_PATHS:
        return "cancel"
    return "note" if path in NOTE_PATHS else None


async def body(receive: Receive) -> bytes:
    """The request's body, when it is small and comes in time."""
    parts, size = [], 0
    try:
        with anyio.fail_after(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, text.NOT_UNDERSTOOD)
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MOST_BODY_BYTES:
                    raise RefusedError(413, text.TOO_LONG, {"Connection": "close"})
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise RefusedError(408, text.TOO_LONG, {"Connection": "close"}) from None


def read_json(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise RefusedError(400, text.NOT_UNDERSTOOD)
    return asked


def refuse_files(value: Any) -> None:
    """Gradio fetches a file object, wherever in a request it is found, from the address that it names, and keeps it on
    the disk: the page sends none, so a request that has one is another's.

    Raises:
        RefusedError: for one at any depth, also as text, and for what is nested too deep to look through.
    """
    level = [value]
    for _ in range(MOST_DEPTH):
        inside: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                if not FILE_KEYS.isdisjoint(each):
                    raise RefusedError(400, text.NO_FILES)
                inside += each.keys()
                inside += each.values()
            elif isinstance(each, list):
                inside += each
            elif isinstance(each, str) and FILE_MARK in each:
                raise RefusedError(400, text.NO_FILES)
        if not inside:
            return
        level = inside
    raise RefusedError(400, text.NOT_UNDERSTOOD)


def replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, and then whatever comes: the page must see when the browser goes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def set_length(scope: Scope, length: int) -> None:
    headers = MutableHeaders(scope=scope)
    headers["content-length"] = str(length)
    del headers["transfer-encoding"]


def with_headers(send: Send, cookie: str | None) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if cookie is not None:
                headers.append("set-cookie", cookie)
                headers["Cache-Control"] = "no-store"
        await send(message)

    return sent
