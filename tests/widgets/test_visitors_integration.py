"""Visitors who come with strange addresses, who look for the files of others, and who vanish."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest

from tests.widgets.conftest import closing_loops
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from tests.widgets.queries import random_query
from tests.widgets.visitor import LOAD, Visitor
from widgets.web import routes, sessions, static
from widgets.web.limits import Limits
from widgets.web.serve import Served, Sharing, serving
from widgets.web.text import server as text

ADDRESSES = 200
pytestmark = pytest.mark.timeout(300)
LIMITS = Limits(steps=1000, batch_size=256, ranks=2)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with closing_loops(), serving(DEFAULT, port=0, start=FakeRun, sharing=Sharing(LIMITS)) as served:
        yield served


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 250))


def running(frame: dict[str, Any]) -> bool:
    return bool(frame["status"]["state"] == "running")


def test_a_tab_that_is_opened_on_any_address_runs_or_tells_why_not(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(5)

    async def story() -> None:
        told = 0
        async with Visitor(served.url, drawing=False) as visitor:
            for _ in range(ADDRESSES):
                query = random_query(chance)
                before = visitor.frames
                assert (await visitor.send(LOAD, ["light", f"?{query}", "en"])).status_code == 200
                frame = await visitor.until(lambda _, before=before: visitor.frames > before)
                told += frame["alert"] is not None
                assert "Traceback" not in str(frame["alert"]), query
            last = await visitor.until(running)
            assert Limits.problems(LIMITS, served.sessions.get(visitor.key).run.experiment) == []
            assert visitor.errors == []
        assert told > ADDRESSES / 4
        assert last["run"]

    run(story)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_the_page_opens_on_any_address(served: Served) -> None:
    chance = random.Random(6)
    with httpx.Client(base_url=served.url) as client:
        for _ in range(ADDRESSES // 4):
            query = random_query(chance)
            answer = client.get("", params=httpx.QueryParams(query))
            assert answer.status_code in (200, 414), query
            assert "Traceback" not in answer.text


def test_every_route_of_a_tab_is_closed_to_others(served: Served) -> None:
    """Also a route that is new."""
    own = [route for route in routes.of(served.sessions) if route.path != f"/{static.PLOTLY_PATH}"]
    assert len(own) >= 4

    async def story() -> None:
        async with Visitor(served.url) as victim, Visitor(served.url) as thief:
            await victim.send(LOAD)
            token = (await victim.until(running))["token"]
            for route in own:
                method = "POST" if "POST" in (route.methods or ()) else "GET"
                asked = {"token": token, "number": "9", "figure": "loss", "format": "csv"}
                answer = await thief.http.request(method, route.path.lstrip("/"), params=asked)
                assert (answer.status_code, answer.json()["detail"]) == (403, text.NOT_YOURS), route.path
                answer = await victim.http.request(method, route.path.lstrip("/"), params=asked)
                assert answer.status_code in (200, 204), route.path

    run(story)


def test_a_client_that_vanishes_is_forgotten_and_one_that_is_quiet_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections stay open: a computer that sleeps does not close them."""
    monkeypatch.setattr(sessions, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(sessions, "SWEEP_SECONDS", 0.1)

    async def story() -> None:
        with serving(DEFAULT, port=0, start=FakeRun) as here:
            async with Visitor(here.url, drawing=False) as gone, Visitor(here.url, drawing=False) as quiet:
                for visitor in (gone, quiet):
                    await visitor.send(LOAD)
                    await visitor.until(running)
                left, stays = (here.sessions.get(visitor.key).run for visitor in (gone, quiet))
                token = quiet.frame["token"]
                for _ in range(300):
                    await quiet.http.post(static.ALIVE_PATH, params={"token": token})
                    if left.done:
                        break
                    await asyncio.sleep(0.05)
                assert (left.done, stays.done) == (True, False)
                assert len(here.sessions) == 1

    run(story)
