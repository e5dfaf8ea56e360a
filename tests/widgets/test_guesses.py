"""Predict first: locked when a run starts, shown beside it when it has ended; one device is measured, never made up."""

from __future__ import annotations

from typing import Any

import pytest

from lab.experiment import Experiment
from lab.insight.questions import SAME
from lab.state import RunState
from tests.lab.insight.runs import state
from tests.widgets import events_factory as factory
from tests.widgets.fakes import FakeRun
from widgets import languages
from widgets.findings.earlier import Earlier
from widgets.web.guesses import ONE_STEPS, Guesses, asked, measure_one, shown
from widgets.web.leases import Budget, Leases, Need
from widgets.web.sessions import Sessions

SPLIT = factory.EXPERIMENT
ENDED = factory.finished("finished", 6)


def ended(steps: int = 6) -> RunState:
    return factory.folded(factory.events(steps=steps), iter([factory.finished("finished", steps)]))


def locked(**answers: str) -> Guesses:
    guesses = Guesses()
    guesses.take({"on": True})
    guesses.take({"answers": answers})
    guesses.lock("r", SPLIT)
    return guesses


def rows(guesses: Guesses, seen: RunState, earlier: Earlier | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = guesses.show("r", seen, earlier or Earlier())["rows"]
    return found


def test_the_questions_suit_the_experiment_and_speak_the_language() -> None:
    card = shown(SPLIT)
    assert [each["name"] for each in card["questions"]] == ["busiest", "speedup"]
    assert card["questions"][0]["options"] == [("vgpu:0", "vgpu:0"), ("vgpu:1", "vgpu:1"), (SAME, "about the same")]
    assert [each.name for each in asked(Experiment())] == ["heaviest"]
    assert shown(Experiment())["questions"][0]["options"][0] == ("conv1", "conv1")
    two = Experiment(strategy="ddp", world_size=2)
    assert shown(two)["questions"][0]["text"] == "Which rank will be busiest?"
    with languages.speaking("zh"):
        assert shown(SPLIT)["questions"][0]["text"] == "哪个设备最忙？"


def test_how_a_typed_answer_is_read_is_shown_with_the_questions() -> None:
    guesses = Guesses(on=True)
    guesses.take({"answers": {"busiest": "vgpu:0", "speedup": "1,234 times"}})
    readings = shown(SPLIT, guesses.answers)["readings"]
    assert readings["busiest"] == {"typed": "vgpu:0", "said": "", "readable": True}
    said = "read as 1,234 ×; if you mean 1.234, write 1.234"
    assert readings["speedup"] == {"typed": "1,234 times", "said": said, "readable": True}
    refused = shown(SPLIT, {"speedup": "two"})["readings"]["speedup"]
    assert refused == {
        "typed": "two",
        "said": "'two' is no number: write it with digits, such as 12.5 ×",
        "readable": False,
    }
    with languages.speaking("zh"):
        assert shown(SPLIT, {"speedup": "1.8"})["readings"]["speedup"]["said"] == "读作 1.8 ×"
    assert shown(SPLIT)["readings"] == {}


def test_a_large_answer_is_shown_in_full() -> None:
    [row] = rows(locked(speedup="12,345"), ended())
    assert row["answer"] == "12,345 ×"


def test_nothing_is_told_before_the_end() -> None:
    guesses = locked(busiest="vgpu:0")
    running = guesses.show("r", factory.folded(factory.events(steps=6)), Earlier())
    assert running["locked"]
    [row] = running["rows"]
    assert (row["answer"], row["measured"], row["verdict"], row["score"]) == (
        "vgpu:0",
        "locked until the run has ended",
        "",
        None,
    )


@pytest.mark.parametrize(("answer", "verdict", "score"), [("vgpu:1", "right", 1.0), ("vgpu:0", "not quite", 0.0)])
def test_the_busiest_device_beside_the_answer(answer: str, verdict: str, score: float) -> None:
    [row] = rows(locked(busiest=answer), ended())
    assert row["measured"] == "vgpu:1 (vgpu:1 58%, vgpu:0 42%)"  # 740 and 530 of 1,270 µs
    assert (row["verdict"], row["score"]) == (verdict, score)


def test_answers_are_taken_once() -> None:
    guesses = locked(busiest="vgpu:0")
    guesses.take({"answers": {"busiest": "vgpu:1"}})
    assert rows(guesses, ended())[0]["answer"] == "vgpu:0"
    guesses.lock("s", SPLIT)
    guesses.lock("t", SPLIT)  # nothing new was said
    assert guesses.show("t", ended(), Earlier())["rows"] == []
    assert guesses.show("r", ended(), Earlier())["rows"] == []  # that run is gone


def test_whoever_does_not_predict_is_not_asked() -> None:
    guesses = locked()
    assert guesses.show("r", ended(), Earlier()) == {
        "title": "Your prediction",
        "columns": ["Question", "You said", "The run says", ""],
        "locked": False,
        "rows": [],
        "note": "",
    }
    off = Guesses()
    off.take({"answers": {"busiest": "vgpu:0"}})
    off.lock("r", SPLIT)
    assert rows(off, ended()) == []


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        {"on": "yes"},
        {"answers": ["vgpu:0"]},
        {"answers": {"busiest": {"a": 1}, "speedup": "NaN", "other": "x"}},
        {"answers": {"busiest": "cuda:7", "speedup": "<b>"}},
    ],
)
def test_what_is_no_answer_counts_as_none(sent: Any) -> None:
    guesses = Guesses(on=True)
    guesses.take(sent)
    assert guesses.on
    guesses.lock("r", SPLIT)
    assert rows(guesses, ended()) == []


def one_device(step_us: int) -> RunState:
    """A run of one device with steps of that length."""
    return state((("vgpu:0", "forward", "conv1", 0, step_us),), step_us, {"conv1": "vgpu:0"}, lanes=("vgpu:0",), **ONE)


ONE = {"strategy": "single", "devices": ["vgpu:0"], "placement": None}


def test_the_speed_up_waits_for_one_device() -> None:
    guesses, seen, earlier = locked(speedup="1.5"), ended(), Earlier()
    assert guesses.needs_one(seen, earlier)
    [row] = rows(guesses, seen)
    assert (row["measured"], row["score"]) == ("one device is measured now", None)
    alone = one_device(1016)  # 0.8 of the 1,270 µs of both
    assert alone.started is not None
    object.__setattr__(alone.started, "run_id", "alone")
    earlier.keep(alone, beside=True)
    assert not guesses.needs_one(seen, earlier)
    assert earlier.before(seen) is None  # it is no run of the reader's
    shown_now = guesses.show("r", seen, earlier)
    [row] = shown_now["rows"]
    assert (row["answer"], row["measured"]) == ("1.50 ×", "0.800 ×")
    assert row["verdict"] == "off by -0.70 × (-88% of what was measured)"
    assert row["score"] == pytest.approx(1 - 0.7 / 0.8)
    assert shown_now["note"].startswith("The one device is that of your earlier run: 1.02 ms per step. Both were timed")
    guesses.measured_now, guesses.steps_now = "alone", 48
    assert "right after this run, for 48 steps: 1.02 ms" in guesses.show("r", seen, earlier)["note"]


def test_too_few_steps_tell_nothing_and_need_no_one() -> None:
    guesses, seen = locked(busiest="vgpu:0", speedup="2"), ended(steps=2)
    assert not guesses.needs_one(seen, Earlier())
    assert {row["measured"] for row in rows(guesses, seen)} == {"too few steps to tell"}


class TestOneDeviceIsMeasured:
    def tab(self, budget: Budget, alone: RunState | None = None) -> tuple[Sessions, list[FakeRun]]:
        begun: list[FakeRun] = []

        def start(experiment: Experiment) -> FakeRun:
            begun.append(FakeRun(experiment, alone or one_device(1000), ends=3))
            return begun[-1]

        sessions = Sessions(start, leases=Leases(budget))
        sessions.get("a").run = FakeRun(SPLIT, ended())
        return sessions, begun

    def test_for_a_few_steps_on_the_first_device(self) -> None:
        sessions, begun = self.tab(Budget(1, 1))
        session = sessions.get("a")
        list(measure_one(sessions, session))
        assert begun[0].experiment == Experiment(strategy="single", devices=["vgpu:0"], steps=ONE_STEPS)
        assert begun[0].closed.is_set()
        assert not session.guesses.refused
        assert sessions.leases.try_enter(Need.of(SPLIT)) is not None  # its place is free again

    def test_as_soon_as_the_place_of_the_run_itself_is_free(self) -> None:
        sessions, begun = self.tab(Budget(1, 1))
        own = sessions.leases.try_enter(Need.of(SPLIT))
        assert own is not None
        going = measure_one(sessions, sessions.get("a"))
        next(going)
        assert not begun
        sessions.leases.release(own)
        list(going)
        assert begun

    def test_not_where_all_places_are_taken(self) -> None:
        sessions, begun = self.tab(Budget(0, 0))
        session = sessions.get("a")
        session.guesses = locked(speedup="2")
        list(measure_one(sessions, session))
        assert not begun
        assert session.guesses.refused
        assert rows(session.guesses, ended())[0]["measured"] == "not known: one device could not be measured"

    def test_it_ends_when_the_tab_wants_something_else(self) -> None:
        sessions, begun = self.tab(Budget(2, 2), factory.folded(factory.events(steps=1)))
        session = sessions.get("a")
        going = measure_one(sessions, session)
        begun_by = next(going, None)
        session.run = FakeRun(SPLIT)
        assert begun_by is None
        list(going)
        assert begun[0].closed.is_set()
