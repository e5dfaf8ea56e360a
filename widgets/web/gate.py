"""What stands before the page: every request passes here first, whatever route it asks for.

The page needs few of the routes that Gradio has; the others (uploads, files, proxies, its API) are closed. A tab's
requests carry its key, which the browser made up, so it is bound to a cookie that only this server can make: a request
with another browser's key is refused. Requests that change something are read whole, bounded, and checked for shape.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

import anyio
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from widgets.web import auth, incoming
from widgets.web.incoming import RefusedError
from widgets.web.sessions import Sessions
from widgets.web.text import server as text

MOST_QUERY_BYTES = 8 * 1024
TRIES_AT_ONCE = 2
"""Passwords that are checked at the same time: each check takes a core."""
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What the key of a tab looks like; Gradio calls it the session hash."""
STARTUP_PATH = "/gradio_api/startup-events"
"""Gradio asks itself for it before it says that it serves."""


@dataclass(frozen=True, slots=True)
class Event:
    """What the page may send to one of its functions."""

    inputs: int
    queued: bool


class Gate:
    """An ASGI application around another.

    Args:
        app: the page.
        users: who may come in; None lets everybody.
        root_path: the prefix under which a proxy shows the page.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, users: auth.Users | None = None, root_path: str = "") -> None:
        self._app = app
        self._sessions = sessions
        self._users = users
        self._prefix = root_path if root_path.startswith("/") else ""
        self._key = secrets.token_bytes(32)
        self._cookie = f"parallel_lab_{hashlib.sha256(self._key).hexdigest()[:8]}"
        self._tries = anyio.CapacityLimiter(TRIES_AT_ONCE)
        self.events: dict[int, Event] = {}
        """The page's functions, by Gradio's index."""
        self.triggers: frozenset[int | None] = frozenset()
        """Ids of the components that call them."""
        self.open = False
        """Set when the server has started: until then, only Gradio's own request goes through."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            receive, send = await self._pass(scope, receive, send)
        except RefusedError as refused:
            headers = {**incoming.HEADERS, "Cache-Control": "no-store", **refused.headers}
            await JSONResponse({"detail": refused.sentence}, refused.status, headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """The request's channels, as the page is to see them.

        Raises:
            RefusedError: when it goes no further.
        """
        headers = Headers(scope=scope)
        path, method = self._path(scope), scope["method"]
        if path == STARTUP_PATH and not self.open:
            return receive, send
        await self._identify(headers, scope)
        if len(scope["query_string"]) > MOST_QUERY_BYTES:
            raise RefusedError(414, text.TOO_LONG)
        odd = b"%" in (scope.get("raw_path") or b"") or any(part in path for part in ("..", "//", "\\", "\0"))
        kind = None if odd else incoming.kind(method, path)
        if kind is None:
            raise RefusedError(404, text.NO_SUCH_PAGE)
        owner = self._owner(headers)
        send = incoming.with_headers(send, self._made_cookie(scope, headers) if path == "/" and owner is None else None)
        if kind == "read":
            return receive, send
        if owner is None:
            raise RefusedError(403, text.NOT_YOURS)
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        if kind == "tab":
            self._claim(
                path.removeprefix(incoming.HEARTBEAT) if path != incoming.QUEUE_DATA else query.get("session_hash"),
                owner,
            )
            return receive, send
        if kind in ("file", "note") and not self._sessions.owns(query.get("token", ""), owner):
            raise RefusedError(403, text.NOT_YOURS)
        if kind == "file":
            return receive, send
        body = await incoming.body(receive)
        if kind != "note":
            asked = incoming.read_json(body)
            self._claim(asked.get("session_hash"), owner)
            body = json.dumps(self._checked(kind, asked)).encode()
        incoming.set_length(scope, len(body))
        return incoming.replayed(body, receive), send

    def _path(self, scope: Scope) -> str:
        """The path without the proxy's prefix, which some proxies take off themselves."""
        path: str = scope["path"]
        if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            path = path.removeprefix(self._prefix)
        return path or "/"

    async def _identify(self, headers: Headers, scope: Scope) -> None:
        """Lets users in, and nobody else."""
        if self._users is None:
            return
        given = auth.basic(headers.get("authorization", ""))
        ask = {"WWW-Authenticate": 'Basic realm="Parallel Lab", charset="UTF-8"'}
        if given is None:
            raise RefusedError(401, text.NAME_NEEDED, ask)
        name, password = given
        if self._users.proven(name, password):
            return
        address = (scope.get("client") or ("",))[0]
        who = f"{name[:64]}@{address}"
        wait = self._users.wait_seconds(who)
        if wait > 0:
            seconds = f"{wait:.0f}" if wait > 1 else "1"
            raise RefusedError(429, text.TOO_MANY_TRIES.format(seconds=seconds), {"Retry-After": seconds})
        right = await anyio.to_thread.run_sync(self._users.check, name, password, who, limiter=self._tries)
        if not right:
            raise RefusedError(401, text.NAME_NEEDED, ask)

    # -- whose tab it is ---------------------------------------------------------------------------------------------

    def _owner(self, headers: Headers) -> str | None:
        """The browser that this server once gave its cookie to; None for any other."""
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return None
        owner, _, seal = (morsel.value if morsel is not None else "").partition(".")
        return owner if owner and hmac.compare_digest(seal.encode(), self._seal(owner).encode()) else None

    def _seal(self, owner: str) -> str:
        return hmac.new(self._key, owner.encode(), hashlib.sha256).hexdigest()

    def _made_cookie(self, scope: Scope, headers: Headers) -> str:
        owner = secrets.token_urlsafe(24)
        secure = "; Secure" if "https" in (scope["scheme"], headers.get("x-forwarded-proto", "")) else ""
        return f"{self._cookie}={owner}.{self._seal(owner)}; Path=/; HttpOnly; SameSite=Lax{secure}"

    def _claim(self, key: Any, owner: str) -> None:
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise RefusedError(400, text.NOT_UNDERSTOOD)
        if not self._sessions.claim(key, owner):
            if self._sessions.full:
                raise RefusedError(503, text.FULL.format(count=len(self._sessions)))
            raise RefusedError(403, text.NOT_YOURS)

    # -- what it asks for --------------------------------------------------------------------------------------------

    def _checked(self, kind: str, asked: dict[str, Any]) -> dict[str, Any]:
        """The parts of a request that the page's own requests have, and no others."""
        if kind == "cancel":
            fields = {name: asked.get(name) for name in ("session_hash", "fn_index", "event_id")}
            number, event = fields["fn_index"], fields["event_id"]
            if not (number is None or type(number) is int) or not (event is None or isinstance(event, str)):
                raise RefusedError(400, text.NOT_UNDERSTOOD)
            return fields
        fields = {name: asked.get(name) for name in ("data", "event_data", "fn_index", "trigger_id", "session_hash")}
        number, trigger = fields["fn_index"], fields["trigger_id"]
        event = self.events.get(number) if type(number) is int else None
        known = trigger is None or (type(trigger) is int and trigger in self.triggers)
        if event is None or not known or not isinstance(fields["data"], list) or len(fields["data"]) != event.inputs:
            raise RefusedError(400, text.NOT_UNDERSTOOD)
        if event.queued != (kind == "event"):
            raise RefusedError(400, text.NOT_UNDERSTOOD)
        return fields
