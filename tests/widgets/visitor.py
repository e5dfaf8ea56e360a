"""A browser tab without a browser: opens the page, keeps its connections, and sends what the page's script would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx

from widgets.web import static

START, STOP, LOAD, CHOOSE = "lab-start", "lab-stop", "load", "lab-bench"


class Visitor:
    """One tab. Use it in `async with`, which opens the page and closes the tab.

    Args:
        drawing: whether it tells the server what it has drawn, as a tab in front does.
    """

    def __init__(self, url: str, auth: tuple[str, str] | None = None, drawing: bool = True) -> None:
        # The server ends connections that were idle for 5 s: a browser would ask again on a new one, httpx does not.
        limits = httpx.Limits(keepalive_expiry=2)
        self.http = httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(30, read=None), auth=auth, limits=limits)
        self.key = secrets.token_hex(8)
        self.drawing = drawing
        self.frame: dict[str, Any] = {}
        """The last that came."""
        self.frames = 0
        self.errors: list[str] = []
        self.came = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._streaming = False
        self._waiting: set[str] = set()
        """Events that have not ended."""
        self._shown: dict[str, str] = {}
        """Event -> the frame that it sent last: the next comes as a difference."""

    async def __aenter__(self) -> Visitor:
        (await self.http.get("")).raise_for_status()
        self.config = (await self.http.get("config")).raise_for_status().json()
        self._tasks.append(asyncio.create_task(self._heartbeat()))
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.http.aclose()

    def function(self, name: str) -> dict[str, Any]:
        """The page's function for a click on the button with that id, or for its `load`."""
        ids = {each["props"].get("elem_id"): each["id"] for each in self.config["components"]}
        kinds = {LOAD: "load", CHOOSE: "select"}
        wanted = [ids.get(name), kinds.get(name, "click")]
        for each in self.config["dependencies"]:
            for target in each["targets"]:
                if target[1] == wanted[1] and (name == LOAD or target[0] == wanted[0]):
                    return {**each, "trigger": target[0]}
        raise LookupError(name)

    def values(self, name: str) -> list[Any]:
        """What the function's inputs hold when the page has just been opened."""
        held = {each["id"]: each["props"].get("value") for each in self.config["components"]}
        return [held[number] for number in self.function(name)["inputs"]]

    async def send(self, name: str, data: list[Any] | None = None, event: Any = None) -> httpx.Response:
        """Asks for a function; its answers come as frames."""
        function = self.function(name)
        if data is None:
            data = ["light", "", "en"] if name == LOAD else self.values(name)
        asked = {"data": data, "event_data": event, "fn_index": function["id"], "trigger_id": function["trigger"]}
        answer = await self.http.post("gradio_api/queue/join", json={**asked, "session_hash": self.key})
        if answer.status_code == 200:
            self._waiting.add(answer.json()["event_id"])
            if not self._streaming:
                self._streaming = True
                self._tasks.append(asyncio.create_task(self._stream()))
        return answer

    async def choose(self, data: dict[str, Any]) -> httpx.Response:
        """Says what the reader chose on the instruments, such as a theme."""
        return await self.send(CHOOSE, [], data)

    async def until(self, condition: Any, seconds: float = 60) -> dict[str, Any]:
        """Waits for a frame for which the condition holds, and returns it."""
        async with self.came:
            await asyncio.wait_for(self.came.wait_for(lambda: self.frame and condition(self.frame)), seconds)
        return self.frame

    async def _heartbeat(self) -> None:
        with contextlib.suppress(httpx.HTTPError):
            async with self.http.stream("GET", f"gradio_api/heartbeat/{self.key}") as answer:
                async for _ in answer.aiter_lines():
                    pass

    async def _stream(self) -> None:
        try:
            while self._waiting:  # the server may end a stream while another event is on its way to it
                async for message in self._messages():
                    await self._take(message)
        except httpx.HTTPError as error:
            self.errors.append(repr(error))
        finally:
            self._streaming = False

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        async with self.http.stream("GET", "gradio_api/queue/data", params={"session_hash": self.key}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    async def _take(self, message: dict[str, Any]) -> None:
        kind, event = message["msg"], message.get("event_id", "")
        if kind == "process_completed":
            self._waiting.discard(event)
        if kind in ("process_generating", "process_completed"):
            output = message["output"]
            if not message.get("success", True) or output.get("error"):
                self.errors.append(str(output.get("error", message)))
            elif output.get("data"):
                await self._show(event, output["data"][0])
        elif kind == "unexpected_error":
            self.errors.append(str(message.get("message")))

    def _merge(self, news: dict[str, Any]) -> None:
        """As `bench.js` does: a frame has what has changed since the one that was drawn last."""
        if self.frame.get("token") == news["token"] and news["number"] <= self.frame["number"]:
            return
        before = self.frame if self.frame.get("run") == news["run"] else {}
        groups = {group: {**before.get(group, {}), **news.get(group, {})} for group in ("figures", "tables")}
        self.frame = {**before, **news, **groups}

    async def _show(self, event: str, part: Any) -> None:
        if isinstance(part, dict):
            part = part.get("value", "")
        if isinstance(part, list):
            for action, path, value in part:
                assert not path
                self._shown[event] = self._shown[event] + value if action == "append" else value
        elif part:
            self._shown[event] = part
        async with self.came:
            if event in self._shown:
                news = json.loads(self._shown[event])
                if news["token"] != self.frame.get("token") or news["number"] > self.frame["number"]:
                    self._merge(news)
                self.frames += 1
            self.came.notify_all()
        if self.drawing and self.frame:
            note = {"token": self.frame["token"], "number": self.frame["number"]}
            await self.http.post(static.DRAWN_PATH, params=note)
