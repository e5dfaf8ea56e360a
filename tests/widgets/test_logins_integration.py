"""Names, passwords, cookies and addresses: what a guesser meets, and what those meet who know their password."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.widgets.conftest import closing_loops
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from tests.widgets.visitor import LOAD, Visitor
from widgets.web import auth, static
from widgets.web.address import ServeError
from widgets.web.serve import Served, Sharing, serving
from widgets.web.text import server as text

PASSWORD = "correct horse battery"
PEOPLE = [f"student{number}" for number in range(30)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users"
    hashed = str(auth.Hash.of(PASSWORD))
    path.write_text("".join(f"{name}:{hashed}\n" for name in ("ada", "grace", *PEOPLE)))
    path.chmod(0o600)
    return path


@pytest.fixture
def served(path: Path) -> Iterator[Served]:
    with closing_loops(), serving(DEFAULT, port=0, start=FakeRun, sharing=Sharing(auth_file=path)) as served:
        yield served


def test_a_guessed_name_still_comes_in_from_the_same_address(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=20) as guesser, httpx.Client(base_url=served.url, timeout=20) as ada:
        began = time.monotonic()
        codes = [guesser.get("", auth=("ada", f"guess {number}")).status_code for number in range(20)]
        assert codes[: auth.FREE_TRIES] == [401] * auth.FREE_TRIES
        assert codes[auth.FREE_TRIES :] == [429] * (20 - auth.FREE_TRIES)
        assert time.monotonic() - began > (20 - auth.FREE_TRIES - 1) * auth.LEAST_PAUSE_SECONDS
        began = time.monotonic()
        assert ada.get("", auth=("ada", PASSWORD)).status_code == 200
        assert time.monotonic() - began < 5


def test_names_are_not_sprayed_faster_than_one_is_guessed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are there and names that are not; and others come in meanwhile."""
    monkeypatch.setattr(auth, "LEAST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(auth, "TRIES_PER_SECOND_OF_PAUSE", 1000)
    with httpx.Client(base_url=served.url, timeout=20) as client:
        began = time.monotonic()
        codes = [client.get("", auth=(name, "12345678")).status_code for name in (*PEOPLE, *"abcdefghij")]
        slowed = 40 - auth.FREE_TRIES_OF_ADDRESS
        assert codes.count(429) >= slowed
        assert time.monotonic() - began > (slowed - 1) * auth.LEAST_PAUSE_SECONDS
        assert client.get("", auth=("grace", PASSWORD)).status_code == 200


def test_guesses_at_the_same_time_are_no_faster(served: Served) -> None:
    async def story() -> list[int]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
            asked = (client.get("", auth=("ada", f"guess {number}")) for number in range(60))
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    codes = asyncio.run(story())
    assert codes.count(429) > 60 - auth.FREE_TRIES - 20
    assert set(codes) == {401, 429}


def test_a_class_behind_one_address_comes_in_together(served: Served) -> None:
    """Each mistypes once."""

    async def student(name: str) -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
            await client.get("", auth=(name, "mistyped it"))
            for _ in range(60):
                answer = await client.get("", auth=(name, PASSWORD))
                if answer.status_code == 200:
                    return
                await asyncio.sleep(1)
        pytest.fail(f"{name} did not come in")

    async def story() -> None:
        await asyncio.wait_for(asyncio.gather(*map(student, PEOPLE)), 100)

    asyncio.run(story())


FORWARDED: list[Callable[[int], dict[str, str]]] = [
    lambda number: {"X-Forwarded-For": f"198.51.100.{number}"},
    lambda number: {"X-Forwarded-For": f"198.51.100.{number}, 127.0.0.1"},
    lambda number: {"X-Real-IP": f"198.51.100.{number}"},
    lambda number: {"Forwarded": f"for=198.51.100.{number}"},
    lambda number: {"X-Client-IP": f"198.51.100.{number}", "True-Client-IP": f"198.51.100.{number}"},
    lambda number: {"CF-Connecting-IP": f"198.51.100.{number}"},
]


def test_no_header_makes_one_guesser_many(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=20) as client:
        for number in range(auth.FREE_TRIES_OF_ADDRESS):
            headers = FORWARDED[number % len(FORWARDED)](number)
            assert client.get("", auth=(f"n{number}", "guess"), headers=headers).status_code == 401
        for number, header in enumerate(FORWARDED):
            answer = client.get("", auth=(f"m{number}", "guess"), headers=header(200 + number))
            assert answer.status_code == 429


def test_a_proxy_that_is_named_is_believed(path: Path) -> None:
    sharing = Sharing(auth_file=path, proxies=("127.0.0.1", "10.0.0.0/8"))
    with (
        serving(DEFAULT, port=0, start=FakeRun, sharing=sharing) as here,
        httpx.Client(base_url=here.url, timeout=20) as client,
    ):

        def code(number: int, forwarded: str) -> int:
            headers = {"X-Forwarded-For": forwarded}
            return client.get("", auth=(f"n{number}", "guess"), headers=headers).status_code

        # What a visitor has put in front of it himself does not count.
        codes = [code(number, f"203.0.113.{number}, 198.51.100.1, 10.1.2.3") for number in range(16)]
        assert codes[-1] == 429
        assert code(20, "198.51.100.2, 10.1.2.3") == 401
        assert code(21, "198.51.100.1") == 429
    with (
        pytest.raises(ServeError, match="no address of a proxy"),
        serving(DEFAULT, port=0, start=FakeRun, sharing=Sharing(proxies=("nginx",))),
    ):
        pass


def test_a_cookie_is_worth_nothing_under_another_name(served: Served) -> None:
    async def story() -> None:
        async with Visitor(served.url, ("ada", PASSWORD)) as ada:
            await ada.send(LOAD)
            token = (await ada.until(lambda frame: frame["status"]["state"] == "running"))["token"]
            taken = {cookie.name: str(cookie.value) for cookie in ada.http.cookies.jar}
            async with httpx.AsyncClient(
                base_url=served.url, auth=("grace", PASSWORD), cookies=taken, timeout=20
            ) as grace:
                stop = {"fn_index": ada.function("lab-stop")["id"], "data": [], "session_hash": ada.key}
                answers = [
                    await grace.post("gradio_api/queue/join", json=stop),
                    await grace.post("gradio_api/cancel", json={"fn_index": 0, "session_hash": ada.key}),
                    await grace.get("gradio_api/queue/data", params={"session_hash": ada.key}),
                    await grace.get(f"gradio_api/heartbeat/{ada.key}"),
                    await grace.post(static.ALIVE_PATH, params={"token": token}),
                    await grace.post(static.DRAWN_PATH, params={"token": token, "number": 1}),
                    await grace.get(static.RUN_PATH, params={"token": token}),
                    await grace.get(static.TABLE_PATH, params={"token": token, "figure": "loss"}),
                ]
                assert [answer.status_code for answer in answers] == [403] * 8
                assert {answer.json()["detail"] for answer in answers} == {text.NOT_YOURS}
                # The page gives her one of her own, which is none of ada's either.
                fresh = (await grace.get("")).headers["set-cookie"]
                assert fresh.partition("=")[0] in taken
                assert fresh.partition("=")[2].partition(";")[0] not in taken.values()
            async with httpx.AsyncClient(base_url=served.url, auth=("ada", PASSWORD), cookies=taken) as ada_again:
                assert (await ada_again.get(static.RUN_PATH, params={"token": token})).status_code == 200
                assert "set-cookie" not in (await ada_again.get("")).headers

    asyncio.run(asyncio.wait_for(story(), 60))
