"""A tab remembers its last runs, and compares two of them by their own numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest

from lab.events import Event, StepFinished
from lab.state import RunState
from tests.lab import rank_events
from tests.widgets import events_factory as factory
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from widgets import figures
from widgets.web import history, takeaway
from widgets.web.frame import Painter
from widgets.web.history import GHOSTS, KEPT, History
from widgets.web.session import Session

SPLIT = factory.EXPERIMENT


def state_of(steps: int = 30, microbatches: int = 1) -> RunState:
    return factory.folded(factory.events(steps=steps, microbatches=microbatches))


def history_of(count: int, steps: int = 30) -> History:
    kept = History()
    for number in range(1, count + 1):
        kept.begin(f"run-{number}")
        kept.keep(f"run-{number}", SPLIT.replace(batch_size=8 * number), state_of(steps))
    return kept


def test_a_summary_has_the_events_numbers() -> None:
    found = history.summary("r", 1, SPLIT, state_of(50))
    assert found is not None
    assert (found.steps, found.step_seconds, found.crossing_bytes) == (50, 0.00127, 2 * 368_640)
    # vgpu:0 computes 200 + 240 + 90 of 1,270 µs and copies for 80; vgpu:1 computes 740.
    assert found.devices["vgpu:0"].busy == pytest.approx(530 / 1_270)
    assert found.devices["vgpu:0"].communicating == pytest.approx(80 / 1_270)
    assert found.devices["vgpu:1"].busy == pytest.approx(740 / 1_270)
    assert found.waiting == pytest.approx((660 + 450) / 2 / 1_270)
    assert history.summary("r", 1, SPLIT, factory.folded(factory.events(steps=1))) is None


def test_only_the_last_runs_are_kept_and_each_stays_small() -> None:
    kept = history_of(20, steps=2_000)
    assert [each.number for each in kept.all()] == list(range(20 - KEPT + 1, 21))
    assert all(len(each.curve.steps) <= 200 for each in kept.all())
    assert len(kept._numbers) <= KEPT


def test_a_run_is_kept_though_the_next_has_begun() -> None:
    kept = History()
    kept.begin("first")
    kept.begin("second")
    kept.keep("first", SPLIT, state_of())
    assert [(each.run_id, each.number) for each in kept.all()] == [("first", 1)]
    kept.keep("first", SPLIT, state_of(40))
    assert [each.steps for each in kept.all()] == [40]


def test_ghosts_are_the_last_others_and_say_what_they_have_otherwise() -> None:
    kept = history_of(6)
    ghosts = kept.ghosts("run-6", SPLIT.replace(batch_size=48))
    assert [ghost.label for ghost in ghosts] == [f"Run {n}: batch size {8 * n}" for n in (5, 4, 3)][:GHOSTS]
    same = kept.ghosts("another", SPLIT.replace(batch_size=48))
    assert same[0].label == "Run 6"


def falling(steps: int, losses: float) -> Iterator[Event]:
    yield factory.started()
    for step in range(steps):
        yield StepFinished(step, 0, losses, 64, 1e-3, (step + 1) * 10**6)


def test_a_ghost_is_drawn_as_far_as_the_axis_goes_and_not_on_its_own_scale() -> None:
    long, short = RunState(), RunState()
    long.apply_all(falling(400, 2.0))
    short.apply_all(falling(40, 1.0))
    ghost = figures.curve(long, "Run 1")
    spec = figures.spec(short, "loss", earlier=[ghost])
    drawn = spec["data"][0]
    assert drawn["name"] == "Run 1"
    # The axis of a run of 40 steps ends at 50.
    assert spec["layout"]["xaxis"]["autorangeoptions"]["include"] == [0, 50]
    assert 40 < max(drawn["x"]) <= 50
    assert set(drawn["y"]) == {2.0}
    assert drawn["line"]["dash"] != "solid"
    assert [trace["name"] for trace in figures.spec(short, "loss")["data"]] == [t["name"] for t in spec["data"][1:]]


def test_what_differs_comes_first_then_what_was_measured() -> None:
    first = history.summary("a", 1, SPLIT, state_of(50))
    second = history.summary("b", 2, SPLIT.replace(batch_size=32, lr=0.5), state_of(30))
    assert first is not None
    assert second is not None
    rows = {row[0]: row[1:] for row in history.rows(first, second)}
    assert list(rows)[:2] == ["Batch size", "Learning rate"]
    assert rows["Batch size"] == ("64", "32", "")
    assert rows["Step time"] == ("1.27 ms", "1.27 ms", "× 1.00")
    assert rows["vgpu:1 busy"] == ("58%", "58%", "")
    assert rows["Crossing, per step"] == ("737.3 kB", "737.3 kB", "× 1.00")
    assert rows["Outcome"] == ("running, 50 steps", "running, 30 steps", "")
    assert "Test accuracy" not in rows  # neither was tested


def test_times_of_two_clocks_are_no_multiples_of_each_other() -> None:
    first = history.summary("a", 1, SPLIT, state_of(50))
    ranks = history.summary("b", 2, rank_events.EXPERIMENT, rank_events.folded(10))
    assert first is not None
    assert ranks is not None
    rows = {row[0]: row[1:] for row in history.rows(first, ranks)}
    assert rows["Step time"] == ("1.27 ms", "700 µs", "")
    assert rows["Clock"] == ("simulated clock", "wall clock", "")
    assert rows["Samples per second"][2] == ""
    assert rows["rank 0 · cpu busy"][0] == "–"


def test_a_loss_that_is_nan_has_no_multiple() -> None:
    broken = RunState()
    broken.apply_all(falling(10, math.nan))
    first, second = (history.summary(str(n), n, SPLIT, state) for n, state in enumerate((state_of(), broken), 1))
    assert first is not None
    assert second is not None
    assert {row[0]: row[1:] for row in history.rows(first, second)}["Loss"][1:] == ("–", "")


def test_the_figure_shows_both_losses_and_where_the_time_went() -> None:
    kept = history_of(2)
    pair = kept.pair()
    assert pair is not None
    spec = figures.comparison(history.compared(*pair))
    lines = [trace for trace in spec["data"] if trace["type"] == "scatter"]
    bars = [trace for trace in spec["data"] if trace["type"] == "bar"]
    assert [line["name"] for line in lines] == ["Run 1", "Run 2"]
    assert lines[0]["line"]["dash"] != lines[1]["line"]["dash"]
    assert lines[0]["line"]["color"] != lines[1]["line"]["color"]
    assert [sum(parts) for parts in zip(*(bar["x"] for bar in bars), strict=True)] == pytest.approx([1.0] * 4)
    assert len({bar["marker"]["pattern"]["shape"] for bar in bars}) == 3
    assert len(spec["layout"]["yaxis2"]["ticktext"]) == 4


def test_the_frame_compares_as_soon_as_there_are_two_runs() -> None:
    session = Session("a")
    session.history.begin("r1")
    first = Painter("r1", SPLIT, state_of())
    assert "compare" not in json.loads(first.paint(session))["cards"]
    session.history.keep("r1", SPLIT, state_of())
    session.history.begin("r2")
    frame = json.loads(Painter("r2", SPLIT.replace(microbatches=4), state_of(20, 4)).paint(session))
    assert frame["cards"][-1] == "compare"
    assert frame["compare"]["chosen"] == ["r1", "r2"]
    assert frame["compare"]["runs"] == [["r1", "Run 1: microbatches 1"], ["r2", "Run 2"]]
    assert ["Microbatches", "1", "4", ""] in frame["compare"]["rows"]
    assert frame["figures"]["loss"]["data"][0]["name"] == "Run 1: microbatches 1"


def test_the_reader_chooses_which_two() -> None:
    kept = history_of(4)
    kept.chosen = ("run-1", "run-3")
    assert [each.run_id for each in kept.pair() or ()] == ["run-1", "run-3"]
    kept.chosen = ("gone", "run-3")
    assert [each.run_id for each in kept.pair() or ()] == ["run-3", "run-4"]


def test_the_numbers_of_a_chart_as_a_file() -> None:
    session = Session("a")
    assert takeaway.table_file(session, "loss") is None
    run = session.run = FakeRun(DEFAULT, state_of(50))
    lines = (takeaway.table_file(session, "loss") or "").splitlines()
    assert lines[0] == "\ufeffstep,of,loss,accuracy"
    assert len(lines) == 1 + 50  # every point, unlike the table on the page
    assert takeaway.table_file(session, "traffic", 999) == takeaway.table_file(session, "traffic")
    assert takeaway.table_file(session, "nothing") is None
    assert takeaway.table_file(session, "compare") is None
    session.history.begin(run.id)
    session.history.keep("before", DEFAULT, state_of())
    session.history.begin("before")
    session.history.keep("before", DEFAULT, state_of())
    compared = (takeaway.table_file(session, "compare") or "").splitlines()
    assert compared[0] == "\ufeffWhat,Run 1,Run 2,Second : first"
