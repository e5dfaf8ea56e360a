"""What just happened, in a notebook."""

from __future__ import annotations

import dataclasses

import pytest

from tests.widgets import events_factory as factory
from tests.widgets.fakes import FakeRun
from widgets.notebook import InsightView


def run(steps: int = 6, run_id: str = "run-1", **fields: object) -> FakeRun:
    """A run that has ended."""
    state = factory.folded(factory.events(steps=steps))
    assert state.started is not None
    asked = {**state.started.experiment, **fields}
    state.started = dataclasses.replace(state.started, run_id=run_id, experiment=asked)
    made = FakeRun(factory.EXPERIMENT, state)
    made.end()
    return made


def test_it_says_what_its_run_says() -> None:
    shown = InsightView(run())
    assert "vgpu:0 does nothing 52% of the time: mostly it waits for vgpu:1, which works on conv2." in shown.value
    assert shown.value.count("<li>") == len(shown.said())
    assert "<details>" in shown.value
    shown.close()


def test_it_waits_for_a_run() -> None:
    for shown, words in (
        (InsightView(), "its own numbers explain it here"),
        (InsightView(run(steps=0)), "ended before its first step"),
    ):
        assert shown.said() == []
        assert words in shown.value
        shown.close()


def test_a_second_run_is_compared_with_the_first() -> None:
    shown = InsightView(run(run_id="1", batch_size=8))
    assert not any(each.kind == "Compared" for each in shown.said())
    shown.show(run(run_id="2", batch_size=64))
    [compared] = [each for each in shown.said() if each.kind == "Compared"]
    assert compared.text.startswith("Batch size 64 instead of 8: 8.0 times as many samples per second")
    shown.close()


@pytest.mark.parametrize("name", ["<script>", "a & b"])
def test_names_of_layers_are_text(name: str) -> None:
    made = run()
    made.state.spans = {
        step: [dataclasses.replace(span, name=name) if span.name == "conv2" else span for span in spans]
        for step, spans in made.state.spans.items()
    }
    shown = InsightView(made)
    assert name not in shown.value
    assert "which works on" in shown.value
    shown.close()
