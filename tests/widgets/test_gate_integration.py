"""What the server answers to requests that the page would not make: refusals, and never a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.widgets.conftest import closing_loops
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from tests.widgets.visitor import LOAD, START, STOP, Visitor
from widgets.web import auth, gate, incoming, static, text
from widgets.web.leases import Budget
from widgets.web.limits import Limits
from widgets.web.serve import Served, Sharing, serving
from widgets.web.text import server

NAME, PASSWORD = "ada", "correct horse battery"
LIMITS = Limits(steps=1000, batch_size=256, ranks=2)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    sharing = Sharing(LIMITS, Budget(2, 4))
    with closing_loops(), serving(DEFAULT, port=0, start=FakeRun, sharing=sharing) as served:
        yield served


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Served]:
    path = tmp_path / "users"
    auth.add_user(path, NAME, PASSWORD)
    with serving(DEFAULT, port=0, start=FakeRun, sharing=Sharing(LIMITS, Budget(2, 4), path)) as served:
        yield served


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def running(frame: dict[str, Any]) -> bool:
    return bool(frame["status"]["state"] == "running")


def alert(frame: dict[str, Any]) -> list[str]:
    return list((frame["alert"] or {}).get("items", []))


def test_a_visitor_sees_a_run_and_stops_it(served: Served) -> None:
    async def story() -> None:
        async with Visitor(served.url) as visitor:
            assert (await visitor.send(LOAD)).status_code == 200
            await visitor.until(running)
            await visitor.send(STOP)
            await visitor.until(lambda frame: frame["status"]["state"] == "stopped")
            assert visitor.errors == []

    run(story)


def test_a_closed_tab_frees_its_place(served: Served) -> None:
    async def story() -> None:
        async with Visitor(served.url) as visitor:
            await visitor.send(LOAD)
            await visitor.until(running)
            assert served.sessions.leases.count() == (1, 0)
        for _ in range(100):
            if served.sessions.leases.count() == (0, 0):
                return
            await asyncio.sleep(0.05)
        pytest.fail("the run of a closed tab went on for 5 seconds")

    run(story)


def test_those_who_find_no_place_wait_in_line(served: Served) -> None:
    async def story() -> None:
        async with (
            Visitor(served.url) as a,
            Visitor(served.url) as b,
            Visitor(served.url) as c,
            Visitor(served.url) as d,
        ):
            for visitor in (a, b):
                await visitor.send(LOAD)
                await visitor.until(running)
            await c.send(LOAD)
            await c.until(lambda frame: frame["status"]["text"] == text.ALL_BUSY.format(start=text.START))
            for visitor, words in ((c, "You are next in line"), (d, "You are 2nd in line")):
                await visitor.send(START)
                await visitor.until(lambda frame, words=words: frame["status"]["text"].startswith(words))
            await c.send(STOP)
            await d.until(lambda frame: frame["status"]["text"].startswith("You are next in line"))
            await a.send(STOP)
            await d.until(running)
            assert not c.frame["status"]["text"].startswith("You are")

    run(story)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "gradio_api/file=/etc/passwd"),
        ("GET", f"gradio_api/file={os.path.abspath('pyproject.toml')}"),
        ("GET", "file=/etc/passwd"),
        ("GET", "gradio_api/file/etc/passwd"),
        ("GET", "static/../../../../etc/passwd"),
        ("GET", "static/%2e%2e/%2e%2e/etc/passwd"),
        ("GET", "assets/..%2f..%2f..%2fetc%2fpasswd"),
        ("GET", "assets//etc/passwd"),
        ("GET", "gradio_api/proxy=http://169.254.169.254/latest/meta-data"),
        ("GET", "gradio_api/file=http://127.0.0.1:22/"),
        ("POST", "gradio_api/upload"),
        ("GET", "gradio_api/upload_progress?upload_id=x"),
        ("POST", "gradio_api/component_server"),
        ("POST", "gradio_api/process_recording"),
        ("POST", "gradio_api/call/start"),
        ("POST", "gradio_api/vibe-edit"),
        ("POST", "gradio_api/reset"),
        ("GET", "gradio_api/startup-events"),
        ("GET", "gradio_api/deep_link?session_hash=x"),
        ("GET", "gradio_api/openapi.json"),
        ("GET", "gradio_api/app_id"),
        ("GET", "gradio_api/token"),
        ("GET", "monitoring"),
        ("GET", "monitoring/summary"),
        ("POST", "login"),
        ("GET", "docs"),
        ("GET", "openapi.json"),
        ("OPTIONS", "gradio_api/queue/join"),
        ("PUT", ""),
        ("DELETE", "parallel-lab/run.json"),
    ],
)
def test_what_the_page_does_not_need_is_closed(served: Served, method: str, path: str) -> None:
    with httpx.Client() as client:
        client.get(served.url)
        # A request by hand: a client that follows the rules would tidy the path up.
        answer = client.send(httpx.Request(method, httpx.URL(served.url).copy_with(raw_path=b"/" + path.encode())))
    assert answer.status_code == 404, answer.text
    assert answer.json() == {"detail": server.NO_SUCH_PAGE}


FORGED: list[dict[str, Any]] = [
    {"fn_index": 999},
    {"fn_index": -1},
    {"fn_index": "0"},
    {"fn_index": True},
    {"fn_index": None},
    {"data": []},
    {"data": {"a": 1}},
    {"data": None},
    {"trigger_id": 10**9},
    {"trigger_id": "x"},
    {"session_hash": None},
    {"session_hash": "../../x"},
    {"session_hash": "x" * 65},
    {"session_hash": {"a": 1}},
]


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_request_is_refused(served: Served, forged: dict[str, Any]) -> None:
    async def story() -> None:
        async with Visitor(served.url) as visitor:
            good = {"fn_index": visitor.function(LOAD)["id"], "data": ["light", ""], "session_hash": visitor.key}
            answer = await visitor.http.post("gradio_api/queue/join", json=good | forged)
            assert answer.status_code == 400
            assert answer.json() == {"detail": server.NOT_UNDERSTOOD}
            for body in (b"", b"[]", b"{", b"[" * 100_000, b"\x80\x04\x95"):
                answer = await visitor.http.post("gradio_api/queue/join", content=body)
                assert answer.status_code == 400

    run(story)


NASTY: list[Any] = [
    None,
    True,
    -1,
    10**30,
    1e308,
    "",
    "x" * 5000,
    "\0",
    [],
    {},
    [[]],
    {"chosen": {"*": "cpu"}},
    "own:x",
]


def test_forged_values_are_sentences(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        async with Visitor(served.url, drawing=False) as visitor:
            good = visitor.values(START)
            for position in range(len(good)):
                for value in NASTY:
                    data = [*good[:position], value, *good[position + 1 :]]
                    assert (await visitor.send(START, data)).status_code == 200
            for _ in range(12):  # a start that was still in the queue may come after a stop
                await visitor.send(STOP)
                with contextlib.suppress(asyncio.TimeoutError):
                    await visitor.until(lambda frame: frame["status"]["state"] in ("stopped", "ready"), seconds=5)
                    break
            assert visitor.frame["status"]["state"] in ("stopped", "ready")
            assert visitor.errors == []

    run(story)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_limits_hold_on_the_server(served: Served) -> None:
    async def story() -> None:
        async with Visitor(served.url) as visitor:
            names = ["strategy", "net", "virtual", "real", "device", "panel", "batch_size", "microbatches", "length"]
            good = visitor.values(START)
            good[names.index("length")] = 1001
            good[names.index("batch_size")] = 512
            await visitor.send(START, good)
            frame = await visitor.until(alert)
            assert alert(frame) == [
                "Train for: 1,001 is more than this server allows; give at most 1,000",
                "Batch size: 512 is more than this server allows; give at most 256",
            ]

    run(story)


def test_a_body_that_is_too_long_is_refused(served: Served) -> None:
    with httpx.Client(base_url=served.url) as client:
        client.get("")
        long = json.dumps({"data": ["x" * incoming.MOST_BODY_BYTES]})
        assert client.post("gradio_api/queue/join", content=long).status_code == 413

        def drops() -> Iterator[bytes]:
            for _ in range(1000):
                yield b"x" * 1000

        assert client.post("gradio_api/queue/join", content=drops()).status_code == 413
        assert client.get("?" + "a" * gate.MOST_QUERY_BYTES * 2).status_code == 414


def test_nobody_reaches_the_tab_of_another(served: Served) -> None:
    async def story() -> None:
        async with Visitor(served.url) as victim, Visitor(served.url) as thief:
            await victim.send(LOAD)
            frame = await victim.until(running)
            stolen = {"session_hash": victim.key}
            stop = {"fn_index": thief.function(STOP)["id"], "data": [], **stolen}
            cookie = next(iter(victim.http.cookies.jar))
            forged = {
                "none": {},
                "another's": {cookie.name: next(iter(thief.http.cookies.jar)).value},
                "made up": {cookie.name: "a.b"},
                "unsealed": {cookie.name: str(cookie.value).partition(".")[0]},
                "changed": {cookie.name: f"{cookie.value}0"},
                "empty": {cookie.name: ""},
            }
            for name, cookies in forged.items():
                async with httpx.AsyncClient(base_url=served.url, cookies=cookies) as client:
                    answers = [
                        await client.post("gradio_api/queue/join", json=stop),
                        await client.post("gradio_api/cancel", json={"fn_index": 0, "event_id": "x", **stolen}),
                        await client.get("gradio_api/queue/data", params=stolen),
                        await client.get(f"gradio_api/heartbeat/{victim.key}"),
                        await client.post(static.DRAWN_PATH, params={"token": frame["token"], "number": 10**9}),
                        await client.post(static.ALIVE_PATH, params={"token": frame["token"]}),
                        await client.get(static.RUN_PATH, params={"token": frame["token"]}),
                        await client.get(static.TABLE_PATH, params={"token": frame["token"], "figure": "loss"}),
                    ]
                    assert [answer.status_code for answer in answers] == [403] * 8, name
                    assert {answer.json()["detail"] for answer in answers} == {server.NOT_YOURS}
            await asyncio.sleep(0.5)
            assert running(victim.frame)

    run(story)


def test_the_run_as_a_file(served: Served) -> None:
    async def story() -> None:
        async with Visitor(served.url) as visitor:
            await visitor.send(LOAD)
            frame = await visitor.until(running)
            answer = await visitor.http.get(static.RUN_PATH, params={"token": frame["token"]})
            kept = answer.json()
            assert answer.headers["content-disposition"].startswith("attachment")
            assert kept["experiment"] == DEFAULT.to_dict()
            assert kept["steps"] == 5
            assert kept["figures"]["loss"]["rows"]
            asked = {"token": frame["token"], "figure": "loss", "step": ""}
            table = await visitor.http.get(static.TABLE_PATH, params=asked)
            assert table.headers["content-type"] == "text/csv; charset=utf-8"
            assert len(table.text.splitlines()) == 1 + 5
            for odd in ({"figure": "../run.json"}, {"figure": ""}, {"figure": "compare"}):
                assert (await visitor.http.get(static.TABLE_PATH, params={**asked, **odd})).status_code == 404
            odd_step = await visitor.http.get(static.TABLE_PATH, params={**asked, "figure": "timeline", "step": "-1e9"})
            assert odd_step.status_code == 200

    run(story)


# -- names and passwords -----------------------------------------------------------------------------------------------

PATHS = [
    ("GET", ""),
    ("HEAD", ""),
    ("GET", "config"),
    ("GET", "theme.css"),
    ("GET", "assets/x.js"),
    ("GET", "static/fonts/x.woff2"),
    ("GET", "favicon.ico"),
    ("GET", "manifest.json"),
    ("GET", "robots.txt"),
    ("GET", "gradio_api/info"),
    ("GET", "gradio_api/startup-events"),
    ("GET", "gradio_api/heartbeat/abc"),
    ("GET", "gradio_api/queue/data?session_hash=abc"),
    ("POST", "gradio_api/queue/join"),
    ("POST", "gradio_api/run/predict"),
    ("POST", "gradio_api/cancel"),
    ("POST", "gradio_api/upload"),
    ("GET", "gradio_api/file=/etc/passwd"),
    ("GET", static.PLOTLY_PATH),
    ("POST", static.DRAWN_PATH),
    ("POST", static.ALIVE_PATH),
    ("GET", static.RUN_PATH),
    ("GET", static.TABLE_PATH),
    ("OPTIONS", "gradio_api/queue/join"),
    ("GET", "no/such/page"),
    ("GET", "gradio_api/proxy=http://127.0.0.1/"),
]


def test_anonymous_requests_get_401_everywhere(guarded: Served) -> None:
    with httpx.Client(base_url=guarded.url) as client:
        routes = {getattr(route, "path", "") for route in _app_routes()}
        everywhere = PATHS + [(method, path.lstrip("/")) for path in routes for method in ("GET", "POST")]
        for method, path in everywhere:
            answer = client.request(method, path, headers={"Origin": "http://localhost"})
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Basic ")
        for header in ("Basic", "Basic !!!", "Basic YQ==", "Bearer abc", "Basic " + "a" * 5000, "Digest x"):
            assert client.get("", headers={"Authorization": header}).status_code == 401


def _app_routes() -> list[Any]:
    """Every route that Gradio has, so that a new one is tried too."""
    import gradio as gr
    from gradio.routes import App

    with gr.Blocks() as blocks:
        pass
    return list(App.create_app(blocks).routes)


def test_users_come_in(guarded: Served) -> None:
    async def story() -> None:
        async with Visitor(guarded.url, (NAME, PASSWORD)) as visitor:
            await visitor.send(LOAD)
            await visitor.until(running)
            assert (await visitor.http.get(static.PLOTLY_PATH)).status_code == 200
            assert visitor.errors == []

    run(story)


def test_guessing_is_slowed_and_users_who_are_in_stay_in(guarded: Served) -> None:
    with httpx.Client(base_url=guarded.url) as client:
        assert client.get("", auth=(NAME, PASSWORD)).status_code == 200
        codes = [client.get("", auth=(NAME, f"guess {number}")).status_code for number in range(auth.FREE_TRIES + 2)]
        assert codes[: auth.FREE_TRIES] == [401] * auth.FREE_TRIES
        assert codes[-1] == 429
        refused = client.get("", auth=(NAME, "guess"))
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("", auth=("nobody", PASSWORD)).status_code == 401
        assert client.get("", auth=(NAME, PASSWORD)).status_code == 200


# -- behind a proxy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strips", [True, False])
def test_the_page_works_under_a_prefix(strips: bool) -> None:
    async def story() -> None:
        with serving(DEFAULT, port=0, start=FakeRun, sharing=Sharing(LIMITS, root_path="/class/lab/")) as inner:
            async with _proxy(inner.url, "/class/lab", strips) as url, Visitor(f"{url}class/lab/") as visitor:
                assert visitor.config["root"] == f"{url}class/lab"
                await visitor.send(LOAD)
                await visitor.until(running)
                assert (await visitor.http.get(static.PLOTLY_PATH)).status_code == 200
                # The page's own address of the bundle is relative to it.
                assert f'src="{static.PLOTLY_PATH}"'.replace('"', "") in (await visitor.http.get("")).text.replace(
                    '\\"', ""
                ).replace('"', "")
                assert visitor.errors == []

    run(story)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class _proxy:  # noqa: N801 - used as a function
    """A proxy that shows a server under a prefix. It reads each request's head and closes the connection after one."""

    def __init__(self, target: str, prefix: str, strips: bool) -> None:
        self._target, self._prefix, self._strips = httpx.URL(target), prefix, strips

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        method, path, version = first.split(b" ")
        if self._strips:
            path = path.removeprefix(self._prefix.encode()) or b"/"
        rest = b"\r\n".join(line for line in rest.split(b"\r\n") if not line.lower().startswith(b"connection:"))
        inner_reader, inner_writer = await asyncio.open_connection(self._target.host, self._target.port)
        inner_writer.write(b"%s %s %s\r\nConnection: close\r\n%s" % (method, path, version, rest))
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
