"""How busy a device is, is one number on every face."""

from __future__ import annotations

import pytest

from lab import breakdown, insight, terminal
from lab.events import DeviceTotals, RunFinished, Span, StepFinished
from lab.insight import questions
from lab.insight.findings import Overview
from lab.state import RunState
from lab.timing.overlap import COMPUTATION
from tests.lab import rank_events
from tests.widgets import events_factory as factory
from widgets import figures
from widgets.board.state import measured
from widgets.web import history

PLACED = factory.folded(factory.events(steps=50))
COMPUTED = {"vgpu:0": 530 / 1_270, "vgpu:1": 740 / 1_270}
"""Of a step's 1,270 us by hand: 200 + 240 + 90 on the one, 740 on the other. The rest is copies and waiting."""


def board(state: RunState) -> dict[str, float]:
    return {name: about["busy"] for name, about in measured(state)["devices"].items()}


def on_each_face(state: RunState) -> dict[str, dict[str, float]]:
    """Face -> device -> how busy it says it is."""
    names = state.device_names
    summary = history.summary("r", 1, factory.EXPERIMENT, state)
    assert summary is not None
    rows = {row[0]: row[1:] for row in figures.table(state, "busy").rows}
    columns = figures.table(state, "busy").columns[1:]
    places = [columns.index(figures.words.KINDS[kind]) for kind in COMPUTATION]
    return {
        "board": board(state),
        "terminal": {name: terminal.device_shares(state, name).busy for name in names},
        "history": {name: summary.devices[name].busy for name in names},
        "shares": {name: sum(state.shares(name).get(kind, 0.0) for kind in COMPUTATION) for name in names},
        "table": {name: sum(float(rows[name][place][:-1]) for place in places) / 100 for name in names},
    }


def test_every_face_says_what_was_computed() -> None:
    for face, shares in on_each_face(PLACED).items():
        assert shares == pytest.approx(COMPUTED, abs=2e-3 if face == "table" else 1e-9), face
    answer = questions.measure("busiest", PLACED)
    assert answer is not None
    assert answer.shares == pytest.approx(COMPUTED)
    overview = insight.look(PLACED)[0]
    assert isinstance(overview, Overview)
    assert overview.computing == pytest.approx(sum(COMPUTED.values()) / 2)


def test_ranks_too() -> None:
    state = rank_events.folded()
    by_hand = {
        name: sum(state.totals[name].get(kind, 0) for kind in COMPUTATION) / state.elapsed_ns
        for name in state.device_names
    }
    assert all(0 < share < 1 for share in by_hand.values())
    assert board(state) == pytest.approx(by_hand)
    assert {name: terminal.device_shares(state, name).busy for name in by_hand} == pytest.approx(by_hand)
    answer = questions.measure("busiest", state)
    assert answer is not None
    assert list(answer.shares.values()) == pytest.approx(list(by_hand.values()))
    overview = insight.look(state)[0]
    assert isinstance(overview, Overview)
    assert overview.computing == pytest.approx(sum(by_hand.values()) / len(by_hand))


def test_collectives_of_one_process_are_communication_and_no_waiting() -> None:
    state = RunState()
    state.apply(factory.started())
    state.apply_all(
        [
            Span("vgpu:0", 0, 0, "forward", "conv1", 0, 400),
            Span("vgpu:0", 0, 0, "collective", "gather", 300, 600),
            StepFinished(0, 0, 1.0, 64, 8e-7, 800),
        ]
    )
    spent = breakdown.of_device(state, "vgpu:0")
    assert spent is not None
    assert (spent.busy, spent.hidden, spent.communicating, spent.waiting) == (0.5, 0.125, 0.25, 0.25)
    shares = state.shares("vgpu:0")
    assert (shares["forward"], shares["collective"], shares["wait"]) == (0.5, 0.25, 0.25)


def test_what_was_left_out_of_the_spans_is_counted() -> None:
    state = factory.folded(factory.events(steps=5))
    totals = {name: DeviceTotals(600, 100, 80, 300, hidden_ns=40) for name in state.device_names}
    state.apply(RunFinished("finished", 5, 1.0, totals, dropped_spans=7))
    assert board(state) == {name: pytest.approx(600 / 1_040) for name in totals}
    shown = terminal.device_shares(state, "vgpu:0")
    assert (shown.busy, shown.transfer, shown.waiting) == pytest.approx((600 / 1_040, 140 / 1_040, 300 / 1_040))
