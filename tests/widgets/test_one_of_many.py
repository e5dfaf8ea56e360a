"""One rank, one step, one bucket: no face says "1 ranks"."""

from __future__ import annotations

import re
from dataclasses import replace

from lab.errors import counted
from lab.events import GroupJoined, RunFinished, Span, StepFinished
from lab.state import RunState
from lab.terminal._wording import group_line
from tests.lab import rank_events
from tests.widgets import events_factory as factory
from widgets import figures
from widgets.notebook.rank_log import Log, ranks
from widgets.web import history
from widgets.web.frame import kpis

FALSE_PLURAL = re.compile(r"\b1 [a-z]+s\b(?<!1 ms)")


def one_rank() -> RunState:
    """A run of one rank after its only step."""
    state = RunState()
    state.apply(rank_events.started(1))
    state.apply(GroupJoined(1, "gloo", 1, ("conv1.weight",)))
    state.apply(rank_events.FIRST)
    name = rank_events.NAMES[0]
    state.apply_all([Span(name, 0, 0, "forward", "conv1", 0, 600), StepFinished(0, 0, 1.0, 64, 8e-7, 800)])
    state.apply(RunFinished("finished", 1, 1.0, {}))
    return state


def test_counted() -> None:
    assert [counted(0, "rank"), counted(1, "rank"), counted(2, "rank")] == ["0 ranks", "1 rank", "2 ranks"]
    assert counted(1_234, "step") == "1,234 steps"


def test_no_face_says_one_ranks() -> None:
    state = one_rank()
    assert state.group is not None
    log = Log()
    log.read(state)
    said = [
        group_line(state.group),
        *log.lines,
        *ranks(state),
        *(text for _, text in kpis(state).values()),
        str(figures.spec(state, "placement_graph", "light")),
    ]
    assert "1 rank over gloo, 1 thread" in said
    assert "1 rank has joined by gloo, each with 1 thread" in said
    assert "of the time of the only rank" in said
    assert [line for line in said if FALSE_PLURAL.search(line)] == []


def test_a_run_of_one_step_in_the_history() -> None:
    summary = history.summary("r", 1, factory.EXPERIMENT, factory.folded(factory.events(steps=5)))
    assert summary is not None
    outcomes = [history._outcome(each) for each in (summary, replace(summary, steps=1))]
    assert outcomes[0].endswith(", 5 steps")
    assert outcomes[1].endswith(", 1 step")
