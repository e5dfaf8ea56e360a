"""Every field of the form, over plain HTTP, with values that its control cannot have: none of them runs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lab.experiment import Experiment
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from tests.widgets.visitor import START, STOP, Visitor
from widgets.web.form import CONTROLS
from widgets.web.form_values import values
from widgets.web.limits import Limits
from widgets.web.serve import Sharing, serving

NOT_TEXT: list[Any] = [None, True, 1, 1.5, [], ["x"], {}, {"a": 1}]
NO_NAME: list[Any] = [*NOT_TEXT, "", "x", "\0", " ", "x" * 5000, "../x", "own:x", "/etc/passwd"]
NO_NUMBER: list[Any] = [True, False, "", "x", "1", "0x10", "1e3", " 1 ", "٣", [], [1], {}, {"a": 1}, "nan"]
HUGE: list[Any] = [-1, 10**30, 1e308, -1e308, 1.5]
NODES = [
    "nodes",
    "nodes:",
    "nodes:0",
    "nodes:-1",
    "nodes:65",
    "nodes:999999999999",
    "nodes:٣",
    "nodes:2:x",
    "nodes:2:2:2",
]
HOSTILE: dict[str, list[Any]] = {
    "strategy": NO_NAME,
    "net": NO_NAME,
    "data": NO_NAME[1:],  # none is the net's own
    "dtype": [*NO_NAME, "float16", "Float32"],
    "hardware": [*NO_NAME, "a100.toml", "A100"],
    "link": [*NO_NAME, "nvlink99"],
    "topology": [*NO_NAME, *NODES],
    "unit": [*NO_NAME, "Steps", "epoch", "seconds"],
    "device": NOT_TEXT,
    "panel": [None, True, 1, "x", [], [1], {}, {"chosen": "best"}, {"chosen": {"*": "cpu"}}],
    "virtual": [*NO_NUMBER, *HUGE, 9],
    "batch_size": [*NO_NUMBER, *HUGE, 0],
    "microbatches": [*NO_NUMBER, *HUGE, 0],
    "length": [*NO_NUMBER, *HUGE, 0],
    "lr": [*NO_NUMBER, -1, 0, 1e308],
    "seed": [*NO_NUMBER, *HUGE],
    "memory_mb": [*NO_NUMBER, -1, 10**30, 1e308],
}
OF_RANKS: dict[str, list[Any]] = {
    "ranks": [*NO_NUMBER, *HUGE, 0, 9],
    "bucket_mb": [*NO_NUMBER, -1, 0, 1e308],
    "each": [*NO_NAME, "CPU", "vgpu:0"],
    "unit": HOSTILE["unit"],
    "topology": HOSTILE["topology"],
    "planned": [None, 0, 1, "", "true", [], {}],
    "trouble": [*NO_NAME, "kill:1:5"],
}
PLANNED: dict[str, list[Any]] = {"trouble_rank": [*NO_NUMBER, *HUGE, 8], "trouble": [*NO_NAME, "kill:1:5"]}
SPLIT: dict[str, list[Any]] = {"per_rank": [*NO_NUMBER, *HUGE, 0, 1, 5]}
RANKS = Experiment(strategy="ddp", world_size=2)
ALL = [
    (DEFAULT, {}, HOSTILE),
    (RANKS, {}, OF_RANKS),
    (RANKS, {"planned": True}, PLANNED),
    (RANKS, {"each": "split", "panel": {"chosen": "even"}}, SPLIT),
]


@pytest.mark.parametrize("number", range(len(ALL)))
def test_no_value_that_a_control_cannot_have_runs(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    base, changes, hostile = ALL[number]
    ran: list[Experiment] = []

    def start(experiment: Experiment) -> FakeRun:
        ran.append(experiment)
        return FakeRun(experiment)

    async def story() -> None:
        with serving(DEFAULT, port=0, start=start, sharing=Sharing(Limits())) as served:
            async with Visitor(served.url, drawing=False) as visitor:
                good = dict(zip(CONTROLS, values(base), strict=True)) | changes
                await visitor.send(START, list(good.values()))  # the form itself can run
                await visitor.until(lambda frame: frame["status"]["state"] == "running")
                assert len(ran) == 1
                for name, odd in hostile.items():
                    for value in odd:
                        answer = await visitor.send(START, list((good | {name: value}).values()))
                        assert answer.status_code == 200
                await visitor.until(lambda frame: frame["alert"])
                # Not a number, and numbers that no JSON has: text that Python's reader takes nevertheless.
                text = json.dumps({"data": list((good | {"lr": "HERE"}).values())})[1:-1]
                rest = f'"fn_index": {visitor.function(START)["id"]}, "session_hash": "{visitor.key}"'
                for word in ("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000):
                    content = f"{{{text.replace(json.dumps('HERE'), word)}, {rest}}}"
                    answer = await visitor.http.post("gradio_api/queue/join", content=content)
                    assert answer.status_code in (200, 400, 422), word
                before = visitor.frames
                await visitor.send(STOP)
                await visitor.until(lambda frame: visitor.frames > before)
                assert visitor.errors == []
        assert len(ran) == 1, ran[1:]

    asyncio.run(asyncio.wait_for(story(), 200))
    assert "Traceback" not in "".join(capfd.readouterr())
