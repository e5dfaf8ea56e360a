"""Serves the page on this machine until Ctrl-C; nothing it needs comes from elsewhere."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import socket
import threading
import warnings
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr
from plotly.offline import get_plotlyjs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import lab
from lab.errors import LabError
from lab.experiment import Experiment
from widgets.web import page, static, text
from widgets.web.sessions import Run, Sessions

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


def serve(experiment: Experiment, host: str = "127.0.0.1", port: int | None = None, open_browser: bool = True) -> None:
    """Serves the page and blocks until Ctrl-C; then stops every run.

    Args:
        experiment: what the page opens on, and starts.
        port: None takes the first free one from 7860 on.
        open_browser: also opens it in a browser, where there is one.

    Raises:
        ServeError: when the port is taken, or the host is not this machine's.
    """
    with contextlib.suppress(KeyboardInterrupt), serving(experiment, host, port) as served:
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
) -> Iterator[Served]:
    """The page, served while the context lasts; every run is stopped at its end."""
    port = _port(host, port)
    sessions = Sessions(start or lab.start)
    blocks = page.build(experiment, sessions)
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
                app_kwargs={"routes": _routes(sessions), "docs_url": None, "redoc_url": None},
                theme=gr.themes.Base(font=SYSTEM_FONTS, font_mono=SYSTEM_MONO, radius_size="md"),
                css=static.css(),
                head=f"<script>{static.read('early.js')}</script>",
            )
        yield Served(_url(host, port), sessions)
    finally:
        sessions.close()
        _close(blocks)


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

    return [Route(f"/{static.PLOTLY_PATH}", plotly), Route(f"/{static.DRAWN_PATH}", drawn, methods=["POST"])]


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
