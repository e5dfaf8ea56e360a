"""Serves the page until Ctrl-C, to one person or to a class; nothing it needs comes from elsewhere."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import re
import socket
import threading
import warnings
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import psutil
from gradio.routes import App
from plotly.offline import get_plotlyjs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import lab
from lab.errors import LabError
from lab.experiment import Experiment
from widgets.web import auth, page, static, takeaway, text
from widgets.web.gate import Event, Gate
from widgets.web.leases import Budget, Leases
from widgets.web.limits import PERSONAL, Limits
from widgets.web.sessions import Run, Sessions

VANISHED_SECONDS = 45
"""After which the system cuts the connection to a client that does not answer any more."""
LOW_PRIORITY = 10
"""Niceness of the processes that train."""
THREADS = 400
"""In which the page's functions run; one waits in each for every run that is watched and every tab in line."""
FIRST_PORT, LAST_PORT = 7860, 7899
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")


class ServeError(LabError):
    """The page cannot be served at that address; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Served:
    """A page that is being served."""

    url: str
    sessions: Sessions
    warnings: tuple[str, ...] = ()
    """What the one who serves it should know."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """How many may use the page at once, and what each of them may ask for. The defaults are one person's."""

    limits: Limits = PERSONAL
    budget: Budget | None = None
    """What all runs together may take; None sets no bounds."""
    auth_file: Path | None = None
    """Who may come in; None lets everybody."""
    root_path: str = ""
    """The prefix, or the whole address, under which a proxy shows the page."""


def serve(
    experiment: Experiment,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
    sharing: Sharing | None = None,
) -> None:
    """Serves the page and blocks until Ctrl-C; then stops every run.

    Args:
        experiment: what the page opens on, and starts.
        port: None takes the first free one from 7860 on.
        open_browser: also opens it in a browser, where there is one.

    Raises:
        ServeError: when the port is taken, or the host is not this machine's.
        AuthError: when the file of users cannot be used.
    """
    with contextlib.suppress(KeyboardInterrupt), serving(experiment, host, port, sharing=sharing) as served:
        for warning in served.warnings:
            print(text.NOTE.format(note=warning), flush=True)
        print(text.ADDRESS.format(url=served.url), flush=True)
        if open_browser:
            _open(served.url)
        threading.Event().wait()


@contextlib.contextmanager
def serving(
    experiment: Experiment,
    host: str = "127.0.0.1",
    port: int | None = None,
    start: Callable[[Experiment], Run] | None = None,
    sharing: Sharing | None = None,
) -> Iterator[Served]:
    """The page, served while the context lasts; every run is stopped at its end."""
    sharing = sharing or Sharing()
    users, notes = auth.read_users(sharing.auth_file) if sharing.auth_file is not None else (None, [])
    if users is None and sharing.budget is not None and not _is_loopback(host):
        notes = [text.ANYBODY.format(host=host)]
    root_path = _root_path(sharing.root_path)
    port = _port(host, port)
    leases = Leases(sharing.budget) if sharing.budget is not None else None
    sessions = Sessions(start or _start_behind, limits=sharing.limits, leases=leases)
    if problems := sharing.limits.problems(experiment):
        raise ServeError(text.DEFAULT_REFUSED.format(problems="; ".join(map(str, problems))))
    blocks = page.build(experiment, sessions)
    app = _Guarded(routes=_routes(sessions), docs_url=None, redoc_url=None, openapi_url=None)
    gate = app.gate = Gate(app.page, sessions, users, root_path)
    gate.events = {number: Event(len(fn.inputs), bool(fn.queue)) for number, fn in blocks.fns.items()}
    gate.triggers = frozenset(number for fn in blocks.fns.values() for number, _ in fn.targets)
    sessions.watch_silence()
    try:
        with warnings.catch_warnings():
            # Gradio's web stack deprecates parts of itself at start-up.
            warnings.simplefilter("ignore", DeprecationWarning)
            blocks.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                inbrowser=False,
                ssr_mode=False,
                run_history=False,
                footer_links=[],
                enable_monitoring=False,
                mcp_server=False,
                pwa=False,
                allowed_paths=[],
                max_file_size=1,
                max_threads=THREADS,
                root_path=root_path,
                _app=app,
                theme=gr.themes.Base(font=SYSTEM_FONTS, font_mono=SYSTEM_MONO, radius_size="md"),
                css=static.css(),
                head=f"<script>{static.read('early.js')}</script>",
            )
        gate.open = True
        _cut_vanished(blocks)
        yield Served(_url(host, port), sessions, tuple(notes))
    finally:
        sessions.close()
        _close(blocks)


def _start_behind(experiment: Experiment) -> lab.Run:
    """Starts a run whose processes let the page go before them where cores are short: those who only look must not wait
    for those who train."""
    run = lab.start(experiment)

    def give_way() -> None:
        while not run.pids and not run.wait(0.1):
            pass
        for pid in run.pids:
            with contextlib.suppress(psutil.Error, OSError):
                psutil.Process(pid).nice(LOW_PRIORITY)

    threading.Thread(target=give_way, name="parallel-lab-give-way", daemon=True).start()
    return run


class _Guarded(App):
    """Gradio's application behind the gate: what is added as middleware stands behind Gradio's own, which answers some
    requests by itself."""

    gate: Gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.gate(scope, receive, send)

    async def page(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)


def _cut_vanished(blocks: gr.Blocks) -> None:
    """Has the system end connections whose other end is gone without a word: a computer asleep, a network out of reach.
    The connections that are accepted inherit it. Linux alone has a bound in time."""
    for server in getattr(blocks.server, "servers", []):
        for listening in server.sockets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, name):
                    listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_SECONDS * 1000)


def _close(blocks: gr.Blocks) -> None:
    """Ends the server at once. Open tabs never let go of their connections, so these are cut; uvicorn would log each as
    an error."""
    log = logging.getLogger("uvicorn.error")
    was, log.disabled = log.disabled, True
    if getattr(blocks, "server", None) is not None:
        blocks.server.force_exit = True
    blocks.close(verbose=False)
    log.disabled = was


def _routes(sessions: Sessions) -> list[Route]:
    """What the page needs besides Gradio's own routes."""

    async def plotly(request: Request) -> Response:
        # From the installed package; the browser keeps it for a day.
        cache = {"Cache-Control": "public, max-age=86400"}
        return Response(get_plotlyjs(), media_type="text/javascript", headers=cache)

    async def drawn(request: Request) -> Response:
        number = request.query_params.get("number", "")
        if number.isdecimal() and len(number) < 16:
            sessions.drawn(request.query_params.get("token", ""), int(number))
        return Response(status_code=204)

    async def alive(request: Request) -> Response:
        sessions.alive(request.query_params.get("token", ""))
        return Response(status_code=204)

    def run_file(request: Request) -> Response:
        session = sessions.find(request.query_params.get("token", ""))
        run = session.run if session is not None else None
        if run is None:
            return JSONResponse({"detail": text.NO_RUN}, 404)
        with run.lock:
            content = takeaway.run_file(run.id, run.experiment, run.state)
        named = {
            "Content-Disposition": f'attachment; filename="parallel-lab-{run.id}.json"',
            "Cache-Control": "no-store",
        }
        return Response(content, media_type="application/json", headers=named)

    return [
        Route(f"/{static.PLOTLY_PATH}", plotly),
        Route(f"/{static.DRAWN_PATH}", drawn, methods=["POST"]),
        Route(f"/{static.ALIVE_PATH}", alive, methods=["POST"]),
        Route(f"/{static.RUN_PATH}", run_file),
    ]


def _root_path(given: str) -> str:
    """The prefix as Gradio wants it: `/lab`, or a whole address; empty for none.

    Raises:
        ServeError: for what is neither.
    """
    path = given.rstrip("/")
    if path.startswith(("http://", "https://")):
        return path
    if path and (not re.fullmatch(r"(/[\w.~@+-]+)+", path) or ".." in path):
        raise ServeError(text.BAD_ROOT.format(path=given))
    return path


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _port(host: str, port: int | None) -> int:
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


def _url(host: str, port: int) -> str:
    """The address to type: a server on all interfaces is reached as localhost."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}/"
    if address.is_unspecified:
        return f"http://localhost:{port}/"
    return f"http://[{host}]:{port}/" if address.version == 6 else f"http://{host}:{port}/"


def _open(url: str) -> None:
    """Opens a browser from another thread, since some take long to answer, and goes on without one."""

    def try_to() -> None:
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(url)

    threading.Thread(target=try_to, daemon=True).start()
