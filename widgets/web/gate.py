"""What stands before the page: every request passes here first, whatever route it asks for.

The page needs few of the routes that Gradio has; the others (uploads, files, proxies, its API) are closed. A tab's
requests carry its key, which the browser made up, so it is bound to a cookie that only this server can make: a request
with another browser's key is refused. Requests that change something are read whole, bounded, and checked for shape,
before they have any effect: what is refused takes no tab's place.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import anyio
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from widgets.web import auth, incoming, origin
from widgets.web.cookies import Cookies
from widgets.web.incoming import RefusedError
from widgets.web.origin import Hosts, Network
from widgets.web.rates import Rate
from widgets.web.sessions import Sessions
from widgets.web.text import server as text

MOST_QUERY_BYTES = 8 * 1024
TRIES_AT_ONCE = 2
"""Passwords that are checked at the same time: each check takes a core."""
EVENTS_AT_ONCE, EVENTS_PER_SECOND = 1000, 30
"""What one browser may ask for; a reader who drags layers about asks for a few a second."""
OF_AN_ADDRESS = 30
"""Times as much may come from one address, behind which a whole class may sit."""
MOST_STREAMS = 8
"""Open answers of one tab; it has two, and old ones are cut a while after a network has changed."""
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
        hosts: the names under which it may be asked for.
        proxies: whose word is taken for where a request comes from.
    """

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        users: auth.Users | None = None,
        root_path: str = "",
        hosts: Hosts | None = None,
        proxies: Sequence[Network] = (),
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._users = users
        self._prefix = root_path if root_path.startswith("/") else ""
        self._hosts = hosts or Hosts(None)
        self._proxies = tuple(proxies)
        self._cookies = Cookies()
        self._tries, self._threads = (anyio.CapacityLimiter(TRIES_AT_ONCE) for _ in range(2))
        self._asked = Rate(EVENTS_AT_ONCE, EVENTS_PER_SECOND)
        self._asked_from = Rate(EVENTS_AT_ONCE * OF_AN_ADDRESS, EVENTS_PER_SECOND * OF_AN_ADDRESS)
        self._streams: Counter[str] = Counter()
        """Tab -> its answers that are open."""
        self.events: dict[int, Event] = {}
        """The page's functions, by Gradio's index."""
        self.triggers: frozenset[int | None] = frozenset()
        """Ids of the components that call them."""
        self.tab_of: Callable[[str], str | None] = lambda event: None
        """The tab that an event in Gradio's queue is of; None where there is no such event."""
        self.open = False
        """Set when the server has started: until then, only Gradio's own request goes through."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        streams = contextlib.ExitStack()
        try:
            receive, send = await self._pass(scope, receive, send, streams)
        except RefusedError as refused:
            headers = {**incoming.HEADERS, "Cache-Control": "no-store", **refused.headers}
            await JSONResponse({"detail": refused.sentence}, refused.status, headers)(scope, receive, send)
            return
        with streams:
            await self._app(scope, receive, send)

    async def _pass(
        self, scope: Scope, receive: Receive, send: Send, streams: contextlib.ExitStack
    ) -> tuple[Receive, Send]:
        """The request's channels, as the page is to see them; `streams` counts an answer that stays open.

        Raises:
            RefusedError: when it goes no further.
        """
        headers = Headers(scope=scope)
        path, method = self._path(scope), scope["method"]
        if path == STARTUP_PATH and not self.open:
            return receive, send
        if not self._hosts.allows(headers.get("host", "")):
            raise RefusedError(403, text.WRONG_HOST.format(host=headers.get("host", "")[:100]))
        address = origin.client(scope, headers, self._proxies)
        login = await self._identify(headers, address)
        if len(scope["query_string"]) > MOST_QUERY_BYTES:
            raise RefusedError(414, text.TOO_LONG)
        odd = b"%" in (scope.get("raw_path") or b"") or any(part in path for part in ("..", "//", "\\", "\0"))
        kind = None if odd else incoming.kind(method, path)
        if kind is None:
            raise RefusedError(404, text.NO_SUCH_PAGE)
        owner = self._cookies.owner(headers, login)
        fresh = self._cookies.made(scope, headers, login) if path == "/" and owner is None else None
        send = incoming.with_headers(send, fresh)
        if kind == "read":
            return receive, send
        if owner is None:
            raise RefusedError(403, text.NOT_YOURS)
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        if kind == "tab":
            key = query.get("session_hash") if path == incoming.QUEUE_DATA else path.removeprefix(incoming.HEARTBEAT)
            key = self._key(key)
            self._stream(key, owner, address, streams, opens=path != incoming.QUEUE_DATA)
            return receive, send
        if kind in ("file", "note") and not self._sessions.owns(query.get("token", ""), owner):
            raise RefusedError(403, text.NOT_YOURS)
        if kind == "file":
            return receive, send
        body = await incoming.body(receive)
        if kind != "note":
            body = json.dumps(self._admitted(kind, incoming.read_json(body), owner, address)).encode()
        incoming.set_length(scope, len(body))
        return incoming.replayed(body, receive), send

    def _path(self, scope: Scope) -> str:
        """The path without the proxy's prefix, which some proxies take off themselves."""
        path: str = scope["path"]
        if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            path = path.removeprefix(self._prefix)
        return path or "/"

    async def _identify(self, headers: Headers, address: str) -> str:
        """Lets users in, and nobody else; the name that came in."""
        if self._users is None:
            return ""
        given = auth.basic(headers.get("authorization", ""))
        ask = {"WWW-Authenticate": 'Basic realm="Parallel Lab", charset="UTF-8"'}
        if given is None:
            raise RefusedError(401, text.NAME_NEEDED, ask)
        name, password = given
        if self._users.proven(name, password):
            return name
        slowed = await self._tried(self._users, name, password, address)
        if slowed is None:
            return name
        raise self._slower(name) if slowed else RefusedError(401, text.NAME_NEEDED, ask)

    async def _tried(self, users: auth.Users, name: str, password: str, address: str) -> bool | None:
        """None when the password is the name's; otherwise whether the next try has to wait.

        Tries that come at the same time are looked at one after the other, so that each knows of those before it.
        """
        counted = auth.of_name(name[:64])

        def check() -> bool:
            return users.check(name, password, counted, address=address)

        async with self._tries:
            if users.proven(name, password):
                return None
            slowed, wait = users.slowed(name[:64], address), users.turn(name[:64], address)
            if wait is None:
                return True
            if not wait and await anyio.to_thread.run_sync(check, limiter=self._threads):
                return None
        if not wait:
            return slowed
        await anyio.sleep(wait)
        async with self._tries:
            return None if await anyio.to_thread.run_sync(check, limiter=self._threads) else True

    def _slower(self, name: str) -> RefusedError:
        wait = self._users.wait_seconds(auth.of_name(name[:64])) if self._users is not None else 0.0
        seconds = f"{max(1.0, wait):.0f}"
        return RefusedError(429, text.TOO_MANY_TRIES.format(seconds=seconds), {"Retry-After": seconds})

    # -- whose tab it is ---------------------------------------------------------------------------------------------

    def _key(self, key: Any) -> str:
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise RefusedError(400, text.NOT_UNDERSTOOD)
        return key

    def _claim(self, key: str, owner: str, address: str) -> None:
        """A tab that nobody has is the browser's from now on."""
        if self._sessions.claim(key, owner, address):
            return
        if self._sessions.full:
            raise RefusedError(503, text.FULL.format(count=len(self._sessions)))
        most = self._sessions.full_for(owner, address)
        if most is not None and not self._sessions.known(key):
            raise RefusedError(429, text.TOO_MANY_TABS.format(count=most), {"Retry-After": "60"})
        raise RefusedError(403, text.NOT_YOURS)

    def _stream(self, key: str, owner: str, address: str, streams: contextlib.ExitStack, opens: bool) -> None:
        """An answer that stays open; the first of a tab opens it."""
        if opens:
            self._claim(key, owner, address)
        elif not self._sessions.has(key, owner):
            raise RefusedError(403, text.NOT_YOURS)
        if self._streams[key] >= MOST_STREAMS:
            raise RefusedError(429, text.TOO_FAST.format(seconds=5), {"Retry-After": "5"})
        streams.enter_context(self._counted(key))

    @contextlib.contextmanager
    def _counted(self, key: str) -> Iterator[None]:
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]

    # -- what it asks for --------------------------------------------------------------------------------------------

    def _admitted(self, kind: str, asked: dict[str, Any], owner: str, address: str) -> dict[str, Any]:
        """What of a request the page sees, once everything about it is as the page's own requests are."""
        fields = self._checked(kind, asked)
        key = self._key(fields["session_hash"])
        if not (self._asked.take(owner) and self._asked_from.take(address)):
            raise RefusedError(429, text.TOO_FAST.format(seconds=1), {"Retry-After": "1"})
        if kind == "event":
            self._claim(key, owner, address)
        elif not self._sessions.has(key, owner):
            raise RefusedError(403, text.NOT_YOURS)
        if kind == "cancel" and fields["event_id"] is not None and self.tab_of(fields["event_id"]) != key:
            fields["event_id"] = None  # Gradio would end whosever it is
        return fields

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
        incoming.refuse_files([fields["data"], fields["event_data"]])
        return fields
