"""The notebook's views, without a browser: what they send, how often, and from which thread."""

from __future__ import annotations

import gc
import itertools
import json
import math
import threading
import time
import weakref
from typing import Any

import pytest

from lab.events import StepFinished
from tests.widgets import events_factory as factory
from tests.widgets.notebook.slow_run import SlowRun, until
from widgets.notebook import (
    BreakdownView,
    BucketView,
    BusyView,
    GraphView,
    LossView,
    MemoryView,
    RankLog,
    TimelineView,
    TrafficView,
    follow,
)

VIEWS = (LossView, TimelineView, GraphView, MemoryView, BusyView, BreakdownView, BucketView, TrafficView)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lab-follow")]


def points(view: LossView) -> int:
    return len(json.loads(view.figure)["data"][0]["x"])


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_shows_a_run_that_has_ended_without_a_thread(kind: type[LossView], no_leaks: None) -> None:
    run = SlowRun(factory.EXPERIMENT)
    run.end()
    view = kind(run)
    assert json.loads(view.figure)["layout"]["title"]["text"]
    assert threads() == []
    view.close()


def test_a_view_follows_its_run_and_the_thread_ends_with_it(no_leaks: None) -> None:
    run = SlowRun(factory.EXPERIMENT)
    view = LossView(run)
    assert points(view) == 5
    run.apply(factory.step_events(5))
    until(lambda: points(view) == 6)
    run.apply(factory.step_events(6))
    run.end()
    until(lambda: not threads())
    assert points(view) == 7  # what came last is drawn too
    view.close()


def test_one_thread_follows_a_run_for_all_its_views(no_leaks: None) -> None:
    run = SlowRun(factory.EXPERIMENT)
    views = [kind(run) for kind in VIEWS] + [RankLog(run)]
    assert len(threads()) == 1
    run.end()
    until(lambda: not threads())
    for view in views:
        view.close()


def test_the_thread_ends_when_all_views_are_closed(no_leaks: None) -> None:
    run = SlowRun(factory.EXPERIMENT)
    view = LossView(run)
    view.close()
    until(lambda: not threads())
    assert not run.done


def test_a_run_that_nobody_holds_is_let_go() -> None:
    run = SlowRun(factory.EXPERIMENT)
    gone = weakref.ref(run)
    view = LossView(run)
    run.end()
    until(lambda: not threads())
    view.close()
    del run, view
    gc.collect()
    assert gone() is None


def test_a_fast_run_is_drawn_a_few_times_a_second_with_few_points(no_leaks: None) -> None:
    run = SlowRun(factory.EXPERIMENT)
    view = LossView(run)
    drawn: list[float] = []
    view.observe(lambda change: drawn.append(time.monotonic()), "figure")
    for step in range(5, 3_000):  # faster than anybody can look
        run.apply([StepFinished(step, 0, 1.0, 64, 0.001, step)])
    began = time.monotonic()
    while time.monotonic() - began < 1:
        step += 1
        run.apply([StepFinished(step, 0, 1.0, 64, 0.001, step)])
        time.sleep(0.002)
    gaps = [after - before for before, after in itertools.pairwise(drawn)]
    assert min(gaps) > 0.09  # at most ten times a second
    assert sum(len(trace["x"]) for trace in json.loads(view.figure)["data"]) < 2_000
    run.end()
    until(lambda: not threads())
    view.close()


def test_nothing_is_sent_while_nothing_happens(no_leaks: None) -> None:
    run = SlowRun(factory.EXPERIMENT)
    view = LossView(run)
    sent: list[Any] = []
    view.observe(sent.append, "figure")
    time.sleep(0.5)
    assert sent == []
    view.close()
    until(lambda: not threads())


def test_clicks_on_other_threads_and_the_follower_do_not_block_each_other(no_leaks: None) -> None:
    run = SlowRun(factory.EXPERIMENT)
    view = LossView(run)

    def change(index: int) -> None:
        for round_ in range(20):
            view.theme = ("light", "dark")[(index + round_) % 2]
            view.numbers = not view.numbers

    clicking = [threading.Thread(target=change, args=(index,)) for index in range(4)]
    for thread in clicking:
        thread.start()
    for step in range(5, 60):
        run.apply(factory.step_events(step))
    for thread in clicking:
        thread.join(20)
        assert not thread.is_alive()
    run.end()
    until(lambda: not threads())
    assert points(view) == 60
    view.close()


def test_the_zoom_is_kept_within_a_run_and_not_beyond() -> None:
    first, second = SlowRun(factory.EXPERIMENT), SlowRun(factory.EXPERIMENT)
    view = LossView(first)
    kept = json.loads(view.figure)["layout"]["uirevision"]
    first.apply(factory.step_events(5))
    view.refresh(everything=True)
    assert json.loads(view.figure)["layout"]["uirevision"] == kept
    view.show(second)
    assert json.loads(view.figure)["layout"]["uirevision"] != kept
    view.close()


def test_the_front_ends_theme_decides_the_colours() -> None:
    run = SlowRun(factory.EXPERIMENT)
    run.end()
    view = LossView(run)
    light = json.loads(view.figure)["layout"]["font"]["color"]
    view.theme = "dark"
    assert json.loads(view.figure)["layout"]["font"]["color"] != light
    view.close()


def test_the_table_is_sent_only_while_it_is_open() -> None:
    run = SlowRun(factory.EXPERIMENT)
    run.end()
    view = LossView(run)
    assert json.loads(view.figure)["table"] is None
    view.numbers = True
    table = json.loads(view.figure)["table"]
    assert table["columns"] == ["step", "of", "loss", "accuracy"]
    assert len(table["rows"]) == 5
    view.close()


def test_an_earlier_step_of_the_timeline_can_be_chosen_once_it_stands_still() -> None:
    run = SlowRun(factory.EXPERIMENT)
    view = TimelineView(run)
    assert json.loads(view.figure)["steps"] == []
    run.end()
    view.refresh(everything=True)
    assert json.loads(view.figure)["steps"] == [0, 1, 2, 3, 4]
    view.step = 2
    assert "step 2" in json.loads(view.figure)["layout"]["title"]["text"]
    view.close()


def test_a_loss_that_is_no_number_is_valid_json() -> None:
    run = SlowRun(factory.EXPERIMENT)
    run.apply([StepFinished(5, 0, math.nan, 64, 0.001, 10**9)])
    run.end()
    view = LossView(run)
    assert "NaN" not in view.figure
    view.close()


def test_where_there_are_no_widgets_the_numbers_are_shown() -> None:
    run = SlowRun(factory.EXPERIMENT)
    run.end()
    view = LossView(run)
    data, _ = view._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"].startswith("<table>")
    assert data["text/html"].count("<tr>") == 6  # five steps and the head
    assert "<script" not in data["text/html"]
    assert [trace.type for trace in view.static().data] == ["scatter", "scatter"]
    assert "open the notebook in Jupyter" in LossView()._repr_mimebundle_()[0]["text/html"]
    view.close()


def test_plotly_is_sent_once_for_all_views() -> None:
    one, other = LossView(), MemoryView()
    assert one.bundle == other.bundle
    assert len(str(one._esm)) < 20_000
    one.close()
    other.close()


def test_the_log_says_who_did_what_and_keeps_it() -> None:
    run = SlowRun(factory.EXPERIMENT)
    log = RankLog(run)
    assert "rank 0 · 5 steps" in log.value
    assert "started: Net: two convolutions" in log.value
    run.apply([factory.failed()])
    run.end("failed")
    log.refresh(everything=True)
    said = log.value
    assert "rank 0 failed, root cause: the worker was killed by signal 9" in said
    assert said.index("root cause") < said.index("Run it again.") < said.index("failed after 5 steps")
    assert "Traceback (most recent call last)" in said
    log.close()


def test_stopping_all_reaches_the_runs_that_are_looked_at(no_leaks: None) -> None:
    from widgets.notebook import cells

    looked_at, other = SlowRun(factory.EXPERIMENT), SlowRun(factory.EXPERIMENT)
    view = LossView(looked_at)
    assert looked_at in follow.live()
    cells.stop_all()
    assert looked_at.done
    assert not other.done
    until(lambda: not threads())
    view.close()
