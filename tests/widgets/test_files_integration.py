"""No request makes the server fetch an address or touch a file, wherever in it the address stands."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.widgets.conftest import closing_loops
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from tests.widgets.test_gate_integration import _app_routes
from tests.widgets.visitor import CHOOSE, LOAD, START, Visitor
from widgets.web import incoming
from widgets.web.serve import Served, serving
from widgets.web.text import server


class Bait:
    """A server of its own that notes who fetches something from it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        bait = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                bait.asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"bait")

            def log_message(self, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/bait.png"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def bait() -> Iterator[Bait]:
    bait = Bait()
    yield bait
    bait.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with closing_loops(), serving(DEFAULT, port=0, start=FakeRun) as served:
        yield served


def files(url: str) -> list[Any]:
    """File objects as Gradio reads them, and what its older and newer releases take for one."""
    meta = {"_type": "gradio.FileData"}
    return [
        {"path": url, "meta": meta},
        {"path": url, "url": url, "meta": meta},
        {"path": "x", "url": url, "orig_name": "x", "mime_type": "image/png", "meta": meta},
        {"path": "/etc/passwd", "meta": meta},
        {"path": "x", "url": "data:image/png;base64,AAAA", "meta": meta},
        {"url": url, "is_stream": True},
        {"path": url, "meta": {"_type": "gradio.SomethingNew"}},
        {"path": url, "meta": None},
        {"__type__": "update", "value": url},
    ]


def nested(file: Any) -> list[Any]:
    deep = file
    for level in range(8):
        deep = {"a": deep} if level % 2 else [deep]
    return [
        file,
        [file],
        {"chosen": file},
        {"chosen": {"conv1": file}},
        {"a": [1, {"b": [[file]]}]},
        deep,
        {"value": file, "selected": [None, file]},
        json.dumps(file),
        [json.dumps({"a": [file]})],
    ]


def test_the_bait_works(bait: Bait) -> None:
    """Gradio itself fetches what it is given: the gate alone stands before it."""
    import gradio as gr
    from gradio import processing_utils

    async def fetch() -> None:
        with gr.Blocks():
            html = gr.HTML()
        try:
            await processing_utils.async_move_files_to_cache(
                {"a": [{"path": bait.url, "meta": {"_type": "gradio.FileData"}}]}, html, check_in_upload_folder=True
            )
        except Exception as error:  # noqa: BLE001 - a release that refuses by itself is as good
            bait.asked.append(repr(error))

    asyncio.run(fetch())
    assert bait.asked
    bait.asked.clear()


def test_files_at_any_depth_are_refused_in_every_place(served: Served, bait: Bait) -> None:
    marked = [each for file in files(bait.url) for each in nested(file) if not isinstance(each, str) or "File" in each]
    marked = [
        each for each in marked if not isinstance(each, list) or not isinstance(each[0], str) or "File" in each[0]
    ]

    async def story() -> None:
        async with Visitor(served.url) as visitor:
            form = visitor.values(START)
            chosen = visitor.function(CHOOSE)
            for number, value in enumerate(marked):
                place = number % len(form)
                answers = [
                    await visitor.send(START, [*form[:place], value, *form[place + 1 :]]),
                    await visitor.send(START, [value] * len(form)),
                    await visitor.send(LOAD, ["light", value, "en"]),
                    await visitor.http.post(
                        "gradio_api/queue/join",
                        json={
                            "data": [],
                            "event_data": value,
                            "fn_index": chosen["id"],
                            "trigger_id": chosen["trigger"],
                            "session_hash": visitor.key,
                        },
                    ),
                ]
                assert [answer.status_code for answer in answers] == [400] * 4, value
                assert {answer.json()["detail"] for answer in answers} == {server.NO_FILES}

    asyncio.run(asyncio.wait_for(story(), 120))
    assert bait.asked == []


def test_every_route_refuses_them(served: Served, bait: Bait) -> None:
    """Also a route that is new."""
    paths = {getattr(route, "path", "") for route in _app_routes()} | {
        "/gradio_api/call/start",
        "/gradio_api/api/start",
    }
    file = files(bait.url)[1]

    async def story() -> None:
        async with Visitor(served.url) as visitor:
            start = visitor.function(START)
            body = {
                "data": [{"a": [file]}] * len(start["inputs"]),
                "event_data": {"file": file},
                "fn_index": start["id"],
                "session_hash": visitor.key,
                "component_id": 1,
                "fn_name": "x",
                "file": file,
                "files": [file],
            }
            for path in sorted(paths):
                filled = path.replace("{api_name}", "start").replace("{path:path}", bait.url).lstrip("/")
                for method in ("POST", "PUT", "PATCH"):
                    answer = await visitor.http.request(method, filled, json=body)
                    assert answer.status_code in (400, 403, 404), (method, path)
                answer = await visitor.http.post(filled, files={"files": ("x.png", b"abc")})
                assert answer.status_code in (400, 403, 404), path
            for path in ("proxy=", "file=", "file/", "stream/", "custom_component/"):
                for url in (bait.url, bait.url.replace("://", ":/"), bait.url.removeprefix("http://")):
                    for prefix in ("", "gradio_api/"):
                        assert (await visitor.http.get(f"{prefix}{path}{url}")).status_code == 404

    asyncio.run(asyncio.wait_for(story(), 120))
    assert bait.asked == []


def test_what_is_nested_without_end_is_refused(served: Served) -> None:
    async def story() -> None:
        async with Visitor(served.url) as visitor:
            form = visitor.values(START)
            for depth, code in ((5, 200), (incoming.MOST_DEPTH + 1, 400), (900, 400)):
                value: Any = 1
                for _ in range(depth):
                    value = [value]
                assert (await visitor.send(START, [*form[:-1], value])).status_code == code

    asyncio.run(asyncio.wait_for(story(), 60))
