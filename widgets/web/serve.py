"""Serves the page until Ctrl-C, to one person or to a class; nothing it needs comes from elsewhere."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import warnings
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
import psutil
from gradio.routes import App
from starlette.types import Receive, Scope, Send

import lab
from lab.experiment import Experiment
from widgets.web import address, auth, origin, page, routes, static
from widgets.web.door import Door
from widgets.web.gate import Event, Gate
from widgets.web.leases import Budget, Leases
from widgets.web.limits import PERSONAL, Limits
from widgets.web.origin import Hosts
from widgets.web.session import Run
from widgets.web.sessions import Sessions
from widgets.web.shelf import Shelf
from widgets.web.text import server as text

VANISHED_SECONDS = 45
"""After which the system cuts the connection to a client that does not answer any more."""
LOW_PRIORITY = 10
"""Niceness of the processes that train."""
THREADS = 400
"""In which the page's functions run; one waits in each for every run that is watched and every tab in line."""
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")


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
    hosts: tuple[str, ...] = ()
    """Names under which the page may be asked for, besides this computer's own; `*` allows all. Where none is given,
    all are allowed to a page that others reach, or that a proxy shows."""
    proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies whose word is taken for whom a request comes from."""


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
        address.ServeError: when the port is taken, or the host is not this machine's.
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
    if users is None and sharing.budget is not None and not address.is_loopback(host):
        notes = [text.ANYBODY.format(host=host)]
    root_path = address.root_path(sharing.root_path)
    hosts, proxies = _hosts(host, root_path, sharing.hosts), origin.networks(sharing.proxies)
    port = address.port(host, port)
    leases = Leases(sharing.budget) if sharing.budget is not None else None
    sessions = Sessions(start or _start_behind, limits=sharing.limits, leases=leases)
    if problems := sharing.limits.problems(experiment):
        raise address.ServeError(text.DEFAULT_REFUSED.format(problems="; ".join(map(str, problems))))
    blocks = page.build(experiment, sessions)
    app = _Guarded(routes=routes.of(sessions), docs_url=None, redoc_url=None, openapi_url=None)
    gate = app.gate = Gate(Shelf(app.page), sessions, users, root_path, hosts, proxies)
    gate.events = {number: Event(len(fn.inputs), bool(fn.queue)) for number, fn in blocks.fns.items()}
    gate.triggers = frozenset(number for fn in blocks.fns.values() for number, _ in fn.targets)
    gate.tab_of = lambda event: getattr(blocks._queue.event_ids_to_events.get(event), "session_hash", None)
    sessions.watch_silence()
    door = None
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
                head=static.head(),
            )
        _cut_vanished(blocks)
        door = Door(blocks.server, app)
        door.open()
        gate.open = True
        yield Served(address.url(host, port), sessions, tuple(notes))
    finally:
        sessions.close()
        if door is not None:
            door.close()
        _close(blocks)


def _hosts(host: str, root_path: str, names: tuple[str, ...]) -> Hosts:
    """The names under which the page may be asked for."""
    if not names and (not address.is_loopback(host) or root_path.startswith("/")):
        return Hosts(None)
    shown = urlsplit(root_path).hostname
    return Hosts([host, *([shown] if shown else []), *names])


def _start_behind(experiment: Experiment) -> lab.Run:
    """Starts a run whose processes, once they have shown a step, let the page go before them where cores are short:
    those who only look must not wait for those who train. The page has no use for its events."""
    run = lab.start(experiment)
    run.drop_events()

    def give_way() -> None:
        run.wait(until=lambda state: state.step > 0)
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


def _open(url: str) -> None:
    """Opens a browser from another thread, since some take long to answer, and goes on without one."""

    def try_to() -> None:
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(url)

    threading.Thread(target=try_to, daemon=True).start()
