"""What just happened, for a tab."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from lab.state import RunState
from tests.lab.insight.runs import state
from tests.widgets import events_factory as factory
from tests.widgets.forms_factory import DEFAULT
from widgets import languages
from widgets.findings.earlier import KEPT, Earlier
from widgets.web.frame import Painter
from widgets.web.session import Session
from widgets.web.told import tell

ROWS = (("vgpu:0", "forward", "a", 0, 50), ("vgpu:1", "forward", "b", 50, 100))


def run(run_id: str, **fields: Any) -> RunState:
    found = state(ROWS, 100, **fields)
    assert found.started is not None
    found.started = dataclasses.replace(found.started, run_id=run_id)
    return found


def test_a_run_is_compared_with_the_one_before_it_and_with_one_device() -> None:
    earlier = Earlier()
    small, other, now = run("1", batch_size=8), run("2", lr=0.5), run("3", lr=0.5, batch_size=32)
    assert earlier.before(small) is None
    for each in (small, other, now):
        earlier.keep(each)
    before = earlier.before(now)
    assert before is not None
    assert before.run_id == "2"  # not the run itself, which is kept by now
    assert earlier.one(now) is None
    alone = run("4", strategy="single", devices=["vgpu:0"], batch_size=32)
    earlier.keep(alone)
    one = earlier.one(now)
    assert one is not None
    assert one.run_id == "4"


def test_few_runs_are_remembered_and_short_ones_are_not() -> None:
    earlier = Earlier()
    earlier.keep(state(ROWS, 100, steps=2))
    assert earlier.before(RunState()) is None
    for number in range(KEPT + 3):
        earlier.keep(run(str(number)))
        earlier.keep(run(str(number)))
    assert len(earlier._kept) == KEPT
    assert earlier.one(RunState()) is None


def test_the_card_speaks_the_language_of_the_tab_and_waits_for_a_run() -> None:
    nothing = tell(RunState(), Earlier())
    assert nothing["said"] == []
    assert "its own numbers explain it here" in nothing["empty"]
    ended = factory.folded(iter([factory.started(), factory.failed(), factory.finished("failed", 0)]))
    assert "before its first step" in tell(ended, Earlier())["empty"]
    with languages.speaking("zh"):
        chinese = tell(run("1"), Earlier())
    assert chinese["title"] == "刚才发生了什么"
    assert chinese["said"][0][1] == "模拟"
    assert not any("。 " in each[0] for each in chinese["said"])


def test_a_frame_tells_it_at_a_readable_pace_and_all_at_the_end() -> None:
    now = [0.0]
    seen = factory.folded(factory.events(steps=5))
    painter, session = Painter("r", DEFAULT, seen, now=lambda: now[0]), Session("a")

    def said(**options: bool) -> Any:
        session.drawn = 0  # so that the frame has everything
        return json.loads(painter.paint(session, **options))["insight"]

    first = said()
    assert first["said"][0][0].startswith("A step takes 1.27 ms")
    slower = [dataclasses.replace(each, seconds=1.0) for each in factory.step_events(5) if hasattr(each, "seconds")]
    for _ in range(64):
        seen.apply_all(slower)
    now[0] = 0.5
    assert said() == first
    assert said(last=True) != first
