"""Where the page is served, and what is said when it cannot be."""

from __future__ import annotations

import os
import socket

import httpx
import pytest

import lab
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from widgets.web import address, serve, static


def test_a_taken_port_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(address.ServeError, match=f"port {port} on 127.0.0.1 is taken"):
            serve.serve(DEFAULT, port=port, open_browser=False)


@pytest.mark.parametrize(("host", "port"), [("203.0.113.7", 7860), ("127.0.0.1", 70_000)])
def test_a_host_or_port_that_cannot_be_is_a_sentence(host: str, port: int) -> None:
    with pytest.raises(address.ServeError, match=r"cannot listen on|ports go from 1"):
        serve.serve(DEFAULT, host=host, port=port, open_browser=False)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:1/"), ("0.0.0.0", "http://localhost:1/"), ("::1", "http://[::1]:1/")],
)
def test_the_address_can_be_typed(host: str, url: str) -> None:
    assert address.url(host, 1) == url


def test_without_a_port_the_next_free_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = taken.getsockname()[1]
        monkeypatch.setattr(address, "FIRST_PORT", first)
        monkeypatch.setattr(address, "LAST_PORT", first)
        with pytest.raises(address.ServeError, match=f"no port from {first} to {first}"):
            serve.serve(DEFAULT, open_browser=False)
        monkeypatch.setattr(address, "LAST_PORT", min(first + 20, 65_535))
        with serve.serving(DEFAULT, start=FakeRun) as served:
            assert served.url != f"http://127.0.0.1:{first}/"


def test_a_run_of_the_page_keeps_no_events(no_leaks: None) -> None:
    """Nobody takes them, and until a hundred thousand of them give way, they are what the server's memory grows by."""
    run, other = (start(DEFAULT.replace(steps=40)) for start in (serve._start_behind, lab.start))
    for each in (run, other):
        assert each.wait(60)
    assert run.state.step == other.state.step == 40
    assert run.state.spans.keys() == other.state.spans.keys()
    assert [len(list(each)) > 0 for each in (run, other)] == [False, True]
    for each in (run, other):
        each.close()


def test_what_is_served_and_what_is_not() -> None:
    with serve.serving(DEFAULT, port=0, start=FakeRun) as served, httpx.Client(base_url=served.url) as client:
        plotly = client.get(static.PLOTLY_PATH)
        assert plotly.status_code == 200
        assert "max-age" in plotly.headers["cache-control"]
        assert client.get("").status_code == 200
        (cookie,) = client.cookies.jar
        assert served.sessions.claim("a", str(cookie.value).partition(".")[0])
        session = served.sessions.get("a")
        session.sent = 3
        for number in ("2", "x", "-1", "9" * 400, ""):
            assert client.post(static.DRAWN_PATH, params={"token": session.token, "number": number}).status_code == 204
        assert session.drawn == 2
        for path in ("/etc/passwd", os.path.abspath("pyproject.toml"), static.__file__):
            assert client.get(f"gradio_api/file={path}").status_code in (403, 404)
        assert client.get("docs").status_code == 404
        page = client.get("").text
        assert "fonts.googleapis.com" not in page
