"""One browser, or one address, cannot take what others need; and who does not look at a tab does not keep it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.widgets.conftest import closing_loops
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from tests.widgets.visitor import LOAD, START, STOP, Visitor
from widgets.web import gate, sessions, static
from widgets.web.leases import Budget
from widgets.web.limits import Limits
from widgets.web.rates import Rate
from widgets.web.serve import Served, Sharing, serving

CLASS = 30
LIMITS = Limits(steps=1000, batch_size=256, ranks=2)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with closing_loops(), serving(DEFAULT, port=0, start=FakeRun, sharing=Sharing(LIMITS, Budget(3, 6))) as served:
        yield served


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 120))


def running(frame: dict[str, Any]) -> bool:
    return bool(frame["status"]["state"] == "running")


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.05)


def test_what_is_refused_takes_no_place(served: Served) -> None:
    """Every kind of request that names a tab, with a key that nobody has."""

    async def story() -> None:
        async with Visitor(served.url) as visitor:
            await until(lambda: len(served.sessions) == 1)
            start = visitor.function(START)
            good = {"data": visitor.values(START), "fn_index": start["id"], "trigger_id": start["trigger"]}
            for number in range(60):
                key = {"session_hash": f"new{number}"}
                answers = [
                    await visitor.http.post("gradio_api/cancel", json={"fn_index": 0, "event_id": "x", **key}),
                    await visitor.http.post("gradio_api/queue/join", json={**good, **key, "data": []}),
                    await visitor.http.post("gradio_api/queue/join", json={**good, **key, "fn_index": 999}),
                    await visitor.http.post("gradio_api/run/start", json={**good, **key}),
                    await visitor.http.get("gradio_api/queue/data", params=key),
                    await visitor.http.post(static.ALIVE_PATH, params={"token": f"new{number}"}),
                    await visitor.http.get(f"gradio_api/heartbeat/new{number}/x"),
                    await visitor.http.post(f"gradio_api/heartbeat/new{number}"),
                ]
                assert {answer.status_code for answer in answers} <= {400, 403, 404}
            assert len(served.sessions) == 1

    run(story)


def test_one_browser_has_its_share_of_the_tabs(served: Served) -> None:
    async def story() -> None:
        async with Visitor(served.url) as greedy:
            codes = []
            for number in range(sessions.MOST_TABS_OF_OWNER + 20):
                key, greedy.key = greedy.key, f"greedy{number}"
                codes.append((await greedy.send(STOP)).status_code)
                greedy.key = key
            assert set(codes) == {200, 429}
            assert len(served.sessions) == sessions.MOST_TABS_OF_OWNER
            async with Visitor(served.url) as other:
                await other.send(LOAD)
                await other.until(running)
            for number in range(sessions.MOST_TABS_OF_OWNER):
                served.sessions.free(f"greedy{number}")

    run(story)


def test_an_address_has_its_share_and_a_class_fits_in_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a new cookie for each tab, as a browser gets it that takes none."""
    assert sessions.MOST_TABS_OF_ADDRESS >= 6 * CLASS
    monkeypatch.setattr(sessions, "MOST_TABS_OF_ADDRESS", CLASS)

    async def story() -> None:
        async with contextlib.AsyncExitStack() as stack:
            people = [await stack.enter_async_context(Visitor(served.url)) for _ in range(CLASS)]
            answers = [(await visitor.send(STOP)).status_code for visitor in people]
            assert answers == [200] * CLASS
            late = await stack.enter_async_context(Visitor(served.url))
            answer = await late.send(STOP)
            assert answer.status_code == 429
            assert f"{CLASS} tabs" in answer.json()["detail"]

    run(story)


def test_one_browser_cannot_have_all_runs_nor_stand_before_everybody(served: Served) -> None:
    async def story() -> None:
        async with _tabs_of_one(served.url, 6) as tabs, Visitor(served.url) as other:
            for tab in tabs:
                assert (await tab.send(START)).status_code == 200
            await until(lambda: served.sessions.leases.count() == (2, 4))
            await other.send(START)
            await other.until(running)

    run(story)


@contextlib.asynccontextmanager
async def _tabs_of_one(url: str, count: int) -> AsyncIterator[list[Visitor]]:
    async with contextlib.AsyncExitStack() as stack:
        tabs: list[Visitor] = []
        for _ in range(count):
            tab = Visitor(url)
            if tabs:
                tab.http.cookies = tabs[0].http.cookies
            tabs.append(await stack.enter_async_context(tab))
        yield tabs


def test_starts_without_anybody_who_looks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the requests are repeated, with a heartbeat or without."""
    monkeypatch.setattr(sessions, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(sessions, "SWEEP_SECONDS", 0.1)

    async def story() -> None:
        with serving(DEFAULT, port=0, start=FakeRun, sharing=Sharing(LIMITS, Budget(2, 4))) as here:
            async with Visitor(here.url, drawing=False) as page:
                function = page.function(START)
                asked = {"data": page.values(START), "fn_index": function["id"], "trigger_id": function["trigger"]}
                await page.http.post("gradio_api/queue/join", json={**asked, "session_hash": "silent"})
                await until(lambda: here.sessions.leases.count()[0] == 1)
                first = here.sessions.get("silent")
                deadline = time.monotonic() + 8
                while here.sessions.get("silent") is first:
                    assert time.monotonic() < deadline, "requests kept the tab"
                    for name in (STOP, "lab-pause"):
                        other = page.function(name)
                        await page.http.post(
                            "gradio_api/queue/join",
                            json={"data": [], "fn_index": other["id"], "session_hash": "silent"},
                        )
                    await asyncio.sleep(0.1)
            await until(lambda: len(here.sessions) == 0 and here.sessions.leases.count() == (0, 0))

    run(story)


def test_a_tab_has_few_open_answers(served: Served) -> None:
    async def story() -> None:
        async with Visitor(served.url) as visitor, contextlib.AsyncExitStack() as stack:
            codes = []
            for _ in range(gate.MOST_STREAMS + 4):
                answer = await stack.enter_async_context(
                    visitor.http.stream("GET", f"gradio_api/heartbeat/{visitor.key}")
                )
                codes.append(answer.status_code)
            assert codes.count(200) in (gate.MOST_STREAMS - 1, gate.MOST_STREAMS)
            assert codes[-1] == 429
        async with Visitor(served.url) as visitor:  # those that were closed count no more
            await visitor.send(LOAD)
            await visitor.until(running)

    run(story)


def test_requests_that_come_too_fast_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "EVENTS_AT_ONCE", 20)
    monkeypatch.setattr(gate, "EVENTS_PER_SECOND", 0.5)

    async def story() -> None:
        with serving(DEFAULT, port=0, start=FakeRun) as here:
            async with Visitor(here.url) as fast, Visitor(here.url) as slow:
                codes = [(await fast.send(STOP)).status_code for _ in range(25)]
                assert codes[:20] == [200] * 20
                assert codes[-1] == 429
                assert (await slow.send(STOP)).status_code == 200

    run(story)


def test_a_rate_counts_each_and_forgets() -> None:
    seconds = 0.0
    rate = Rate(3, 2.0, lambda: seconds)
    assert [rate.take("a") for _ in range(5)] == [True, True, True, False, False]
    assert rate.take("b")
    seconds = 0.5
    assert [rate.take("a") for _ in range(2)] == [True, False]
    seconds = 1000.0
    assert [rate.take("a") for _ in range(4)] == [True, True, True, False]
    for number in range(20_000):
        rate.take(f"{number}")
    assert len(rate) <= 10_000


def test_nobody_cancels_what_another_has_asked_for(served: Served) -> None:
    """Even who has found out the number of an event."""

    async def story() -> None:
        async with Visitor(served.url) as victim, Visitor(served.url) as thief:
            answer = await victim.send(LOAD)
            await victim.until(running)
            await thief.send(STOP)
            event = answer.json()["event_id"]
            stolen = {"session_hash": thief.key, "fn_index": 0, "event_id": event}
            await thief.http.post("gradio_api/cancel", json=stolen)
            await asyncio.sleep(0.5)
            assert running(victim.frame)
            assert not served.sessions.get(victim.key).run.done
            own = {"session_hash": victim.key, "fn_index": victim.function(LOAD)["id"], "event_id": event}
            assert (await victim.http.post("gradio_api/cancel", json=own)).status_code == 200
            await until(lambda: served.sessions.get(victim.key).run.done)

    run(story)
