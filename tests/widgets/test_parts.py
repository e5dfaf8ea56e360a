"""A tab gets what it does not have, and no more."""

from __future__ import annotations

import json
from typing import Any

from tests.widgets import events_factory as factory
from tests.widgets.forms_factory import DEFAULT
from widgets.web.frame import Painter
from widgets.web.parts import Parts
from widgets.web.session import Session


def test_a_part_is_sent_until_a_frame_with_it_was_drawn() -> None:
    parts = Parts()
    assert parts.note("status", "running", 1)
    assert parts.note("figures/loss", {"data": [1.0]}, 1)
    assert json.loads(parts.since(0, number=1)) == {
        "number": 1,
        "status": "running",
        "figures": {"loss": {"data": [1.0]}},
    }
    # Frame 1 was lost on its way: what was new in it stands in the next one too.
    assert not parts.note("status", "running", 2)
    assert parts.note("figures/busy", {"data": []}, 2)
    assert set(json.loads(parts.since(0, number=2))["figures"]) == {"loss", "busy"}
    assert json.loads(parts.since(1, number=2)) == {"number": 2, "figures": {"busy": {"data": []}}}
    assert json.loads(parts.since(2, number=3)) == {"number": 3}


def test_a_number_that_is_none_is_no_news_each_time() -> None:
    parts = Parts()
    assert parts.note("loss", [float("nan"), 1.0], 1)
    assert not parts.note("loss", [float("nan"), 1.0], 2)
    assert json.loads(parts.since(0)) == {"loss": [None, 1.0]}


class Browser:
    """What `bench.js` does with frames: it merges those that come, and says which one it has drawn."""

    def __init__(self) -> None:
        self.frame: dict[str, Any] = {}

    def receive(self, frame: dict[str, Any]) -> None:
        before = self.frame if self.frame.get("run") == frame["run"] else {}
        figures = {**before.get("figures", {}), **frame.get("figures", {})}
        self.frame = {**before, **frame, "figures": figures}


def test_a_browser_that_skips_frames_shows_what_one_that_sees_all_shows() -> None:
    now = 0.0
    state = factory.folded(factory.events(steps=5))
    painter = Painter("r", DEFAULT, state, now=lambda: now)
    session, every = Session("a"), Session("b")
    other = Painter("r", DEFAULT, state, now=lambda: now)
    skipping, seeing = Browser(), Browser()
    for step in range(5, 35):
        now += 0.25
        state.apply_all(factory.step_events(step))
        frame, whole = json.loads(painter.paint(session)), json.loads(other.paint(every))
        seeing.receive(whole)
        every.drawn = every.sent
        if step % 3:
            skipping.receive(frame)
        if step % 3 == 1:
            session.drawn = frame["number"]
    keys = seeing.frame.keys() - {"number", "token"}
    assert {key: skipping.frame[key] for key in keys} == {key: seeing.frame[key] for key in keys}


def test_a_frame_in_which_little_is_new_is_small() -> None:
    state = factory.folded(factory.events(steps=300))
    painter, session = Painter("r", DEFAULT, state, now=lambda: 1.0), Session("a")
    whole = painter.paint(session)
    session.drawn = session.sent
    state.apply_all(factory.step_events(300))
    news = json.loads(painter.paint(session))
    assert "figures" not in news  # none is due
    assert news["status"]["text"] == "Step 301 of 938"
    assert "code" not in news
    assert len(json.dumps(news)) < len(whole) / 20


def test_tables_are_made_only_while_they_are_open() -> None:
    now = 0.0
    state = factory.folded(factory.events(steps=5))
    painter, session = Painter("r", DEFAULT, state, now=lambda: now), Session("a")
    assert "tables" not in json.loads(painter.paint(session))
    session.tables.add("traffic")
    assert json.loads(painter.paint(session))["tables"].keys() == {"traffic"}
    session.drawn = session.sent
    now = 5.0
    state.apply_all(factory.step_events(5))
    rows = json.loads(painter.paint(session))["tables"]["traffic"]["rows"]
    assert rows[0][-1] == "6"  # copies in the whole run
