"""A frame says what the events say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.errors import Problem
from lab.events import Event, GraphTraced, Paused
from lab.experiment import Experiment
from lab.state import RunState
from tests.lab import rank_events
from tests.widgets import events_factory as factory
from tests.widgets.forms_factory import DEFAULT
from widgets.web import text
from widgets.web.frame import Painter, kpis
from widgets.web.session import Session


def test_kpis_are_the_events_numbers() -> None:
    shown = kpis(factory.folded(factory.events(steps=50)))
    assert shown["step_time"] == ("1.27 ms", "simulated clock")
    assert shown["crossing"][0] == "737.3 kB"
    assert shown["waiting"][0] == f"{(660 + 450) / 2 / 1270:.0%}"
    assert all(value == text.NO_VALUE for value, _ in kpis(RunState()).values())


def test_what_crosses_is_called_a_forecast_until_it_was_measured() -> None:
    state = factory.folded(factory.events(steps=0))
    assert kpis(state)["crossing"] == ("737.3 kB", text.FORECAST_PER_STEP)
    state.apply_all(factory.step_events(0))
    assert kpis(state)["crossing"] == ("737.3 kB", text.PER_STEP)


def test_a_frame_is_json_even_with_nan_and_only_changed_figures_get_a_new_revision() -> None:
    now = [0.0]
    state = factory.folded(factory.events(steps=30))
    painter = Painter("r", DEFAULT, state, now=lambda: now[0])
    session = Session("a")
    first = json.loads(painter.paint(session))
    assert first["kpis"]["loss"][0] != "NaN"
    state.apply(factory.StepFinished(30, 0, float("nan"), 64, 0.001, 31 * factory.STEP_NS))
    now[0] = 0.3
    second = json.loads(painter.paint(session))
    assert second["kpis"]["loss"][0] == "NaN"
    before, after = first["revisions"], second["revisions"]
    assert [name for name in before if before[name] != after[name]] == ["loss"]
    assert json.loads(painter.paint(Session("a", theme="dark")))["revisions"]["busy"] > after["busy"]


def test_what_comes_first_is_drawn_at_once_whatever_the_pace() -> None:
    state, now = RunState(), 0.0
    painter = Painter("r", DEFAULT, state, now=lambda: now)
    session = Session("a")
    revisions = []
    for events in ([], factory.events(steps=0), factory.step_events(0), factory.step_events(1)):
        state.apply_all(events)
        drawn = json.loads(painter.paint(session))["revisions"]
        revisions.append((drawn["placement_graph"], drawn["timeline"]))
    graphs, timelines = zip(*revisions, strict=True)
    assert graphs[0] < graphs[1]
    assert timelines[1] < timelines[2]
    assert revisions[2] == revisions[3]  # a second step can wait


def test_a_tab_that_drew_another_run_gets_everything() -> None:
    session = Session("a")
    old = Painter("old", DEFAULT, factory.folded(factory.events(steps=3)))
    new = Painter("new", DEFAULT, factory.folded(factory.events(steps=5)))
    everything = set(json.loads(new.paint(session)))
    session.drawn = session.sent
    assert set(json.loads(new.paint(session))) < everything
    old.paint(session)  # by a thread that has not heard of the new run yet
    session.drawn = session.sent
    assert set(json.loads(new.paint(session))) == everything
    assert set(json.loads(new.paint(session))) == everything  # it has not drawn the one before
    session.drawn = session.sent
    assert set(json.loads(new.paint(session))) < everything


def test_a_frame_holds_no_tag_whatever_the_reader_wrote() -> None:
    session = Session("a", problems=(Problem("net", "'<script>' is not one of net"),))
    frame = Painter("a", DEFAULT).paint(session)
    assert "<" not in frame
    assert "<script>" in json.loads(frame)["alert"]["items"][0]


def test_the_time_left_follows_the_pace() -> None:
    now = [100.0]
    state = factory.folded(factory.events(steps=100, total_steps=1_100))
    painter = Painter("r", DEFAULT, state, now=lambda: now[0])
    assert json.loads(painter.paint(Session("a")))["eta"] == ""
    for step in range(100, 200):
        state.apply_all(factory.step_events(step))
    now[0] = 110.0
    assert json.loads(painter.paint(Session("a")))["eta"] == "about 1 min 30 s of wall time left"


def test_a_failure_is_shown_with_cause_advice_and_traceback() -> None:
    state = factory.folded(factory.events(steps=3))
    state.apply(factory.failed())
    state.apply(factory.finished("failed", 3))
    frame = json.loads(Painter("r", DEFAULT, state).paint(Session("a")))
    assert frame["status"] == {"state": "failed", "text": "Failed after 3 of 938 steps"}
    assert frame["alert"]["items"] == ["the worker was killed by signal 9"]
    assert frame["alert"]["advice"] == "Run it again."
    assert "Traceback" in frame["alert"]["traceback"]


def test_the_frame_has_data_source_code_and_layers() -> None:
    frame = json.loads(Painter("r", DEFAULT, factory.folded(factory.events(steps=3))).paint(Session("a")))
    assert frame["data"].startswith("MNIST: 60,000 training and 10,000 test samples, bundled")
    assert [frame["figures"][name]["title"] for name in ("timeline", "busy", "memory")] == [
        "step 2 · simulated clock",
        "simulated clock",
        "simulated clock",
    ]
    assert eval_experiment(frame["code"]) == DEFAULT
    # conv1 takes 440 µs of the 1,100 in which layers compute.
    assert frame["board"]["layers"]["conv1"]["share"] == pytest.approx(0.4)
    assert frame["board"]["placed"]["layers"] == factory.PLACEMENT


def test_wall_time_is_called_that_beside_simulated_times() -> None:
    state = factory.folded(factory.events(steps=50))
    state.apply(factory.finished())
    frame = json.loads(Painter("r", DEFAULT, state).paint(Session("a")))
    assert frame["status"]["text"] == "Finished: 50 steps in 4 s of wall time"


def eval_experiment(code: str) -> Experiment:
    """The Experiment that the shown code makes, without starting it."""
    names: dict[str, Any] = {"__name__": "shown"}
    exec(code, names)
    return names["experiment"]


class TestRanks:
    def frame(self, *more: Event) -> dict[str, Any]:
        state = rank_events.folded(10, *more)
        return dict(json.loads(Painter("r", rank_events.EXPERIMENT, state).paint(Session("a"))))

    def test_the_charts_of_ranks_take_the_place_of_the_devices(self) -> None:
        frame = self.frame()
        shown = {"timeline", "loss", "breakdown", "buckets", "placement_graph", "traffic", "memory"}
        assert set(frame["figures"]) == shown
        assert frame["kpis"]["loss"][0] == "1.910"
        assert frame["kpis"]["step_time"] == ["700 µs", "wall clock · 91,429 samples/s"]
        assert frame["kpis"]["waiting"] == [f"{25 / 700:.0%}", "of the time of 2 ranks"]
        assert frame["kpis"]["crossing"] == ["87.4 kB", "of gradients per step and rank"]
        assert any(text.startswith("Rank 1 is late: the other rank waits 7%") for text, *_ in frame["insight"]["said"])

    def test_a_pause_is_shown_and_steps_can_be_chosen(self) -> None:
        frame = self.frame(Paused(0, 10, "synchronise"))
        assert frame["status"] == {"state": "paused", "text": "Paused before synchronise of step 10 of 50"}
        assert frame["steps"] == list(range(10))
        assert frame["live"]

    def test_a_failure_names_the_rank_the_advice_and_what_the_others_saw(self) -> None:
        alert = self.frame(*reversed(rank_events.failures()), rank_events.finished("failed", 10))["alert"]
        assert alert["title"] == "Rank 1 failed first"
        assert alert["items"] == ["rank 1 has been in data of step 5 for 4 s"]
        assert alert["others"] == ["rank 0 was stopped in all_reduce 8, because rank 1 had failed"]
        assert alert["advice"] == "Its stack shows where it is."
        assert alert["traceback"].splitlines()[1] == "  _hang  (lab/workers/injector.py:140)"

    def test_a_rank_that_never_joined_is_named_too(self) -> None:
        state = RunState()
        state.apply_all([rank_events.started(), GraphTraced(rank_events.graph()), *rank_events.failures()])
        frame = json.loads(Painter("r", rank_events.EXPERIMENT, state).paint(Session("a")))
        assert frame["alert"]["title"] == "Rank 1 failed first"
        assert frame["kpis"]["crossing"][0] == text.NO_VALUE

    def test_the_worker_processes_are_counted_while_they_start(self) -> None:
        frame = json.loads(Painter("r", rank_events.EXPERIMENT).paint(Session("a")))
        assert frame["status"]["text"] == "Starting 2 worker processes"
