"""The end of a run in a terminal says what just happened, in a few sentences."""

from __future__ import annotations

import io

from rich.console import Console

from lab import terminal
from lab.state import RunState
from tests.widgets import events_factory as factory


def printed(state: RunState, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(terminal.explanation(state))
    return out.getvalue()


def test_the_first_sentences_with_what_they_rest_on() -> None:
    lines = printed(factory.folded(factory.events(steps=6))).strip().splitlines()
    assert lines[0].strip() == "What just happened"
    assert len([line for line in lines if line.startswith("•")]) == 4
    assert all(len(line) <= 80 for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "vgpu:0 does nothing 52% of the time: mostly it waits for vgpu:1, which works on conv2. (simulated)" in text


def test_nothing_of_a_run_without_a_step() -> None:
    assert printed(RunState()).strip() == ""
    assert printed(factory.folded(iter([factory.started(), factory.failed()]))).strip() == ""
