"""Files that are the same for everybody are asked for once, and arrive as they would have."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from widgets.web import shelf, static

SCRIPT = "let x = 1;\n" * 200


class App:
    """Counts what it is asked for, and answers more slowly than requests come."""

    def __init__(self) -> None:
        self.asked: list[str] = []

        async def answer(request: Request) -> Response:
            self.asked.append(request.url.path)
            await asyncio.sleep(0.01)
            missing = "missing" in request.url.path
            return Response(SCRIPT, 404 if missing else 200, media_type="text/javascript")

        inner = Starlette(routes=[Route("/{path:path}", answer)], middleware=[Middleware(GZipMiddleware)])
        self.transport = httpx.ASGITransport(shelf.Shelf(inner))

    def get(self, path: str, count: int = 3, **headers: str) -> list[httpx.Response]:
        async def together() -> list[httpx.Response]:
            async with httpx.AsyncClient(transport=self.transport, base_url="http://lab") as client:
                return await asyncio.gather(*(client.get(path, headers=headers) for _ in range(count)))

        return asyncio.run(together())


@pytest.mark.parametrize("path", ["/assets/index-abc.js", "/lab/static/x.css", f"/{static.PLOTLY_PATH}"])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_one_answer_serves_all(path: str, encoding: str) -> None:
    app = App()
    answers = app.get(path, **{"Accept-Encoding": encoding}) + app.get(path, **{"Accept-Encoding": encoding})
    assert app.asked == [path]
    assert {(each.status_code, each.text) for each in answers} == {(200, SCRIPT)}
    assert {each.headers.get("content-encoding", "identity") for each in answers} == {encoding}
    assert {each.headers["cache-control"] for each in answers} == {shelf.CACHE}


def test_each_browser_gets_what_it_can_read() -> None:
    app = App()
    packed, plain = app.get("/assets/x.js", 1, **{"Accept-Encoding": "gzip"}), app.get("/assets/x.js", 1)
    assert packed[0].headers["content-encoding"] == "gzip"
    assert "content-encoding" in plain[0].headers  # httpx asks for gzip too
    bare = app.get("/assets/x.js", 1, **{"Accept-Encoding": "identity"})
    assert "content-encoding" not in bare[0].headers


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/config", {}),
        ("/parallel-lab/run.json", {}),
        ("/assets/x.js?a=1", {}),
        ("/assets/x.js", {"If-None-Match": "abc"}),
        ("/assets/x.js", {"Range": "bytes=0-9"}),
        ("/assets/missing.js", {}),
    ],
)
def test_all_else_is_asked_for_each_time(path: str, headers: dict[str, str]) -> None:
    app = App()
    app.get(path, **headers)
    assert len(app.asked) == 3


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "MOST_BYTES", len(SCRIPT))
    app = App()
    for _ in range(2):
        for path in ("/assets/a.js", "/assets/b.js"):
            app.get(path, 1, **{"Accept-Encoding": "identity"})
    assert app.asked == ["/assets/a.js", "/assets/b.js", "/assets/b.js"]
