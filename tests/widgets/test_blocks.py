"""What a function leaves as it is costs nothing; what it changes arrives as Gradio would send it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from widgets.web.blocks import LeanBlocks

SKIP = {"__type__": "update"}
ANSWERS: list[Callable[[], Any]] = [
    lambda: ("frame", gr.skip(), gr.skip()),
    lambda: ("frame", gr.Button(interactive=False), gr.skip()),
    lambda: ("frame", gr.Button("Go", interactive=True), gr.update(value=7, label="Seven")),
    lambda: (gr.skip(), gr.skip(), gr.skip()),
    lambda: (gr.skip(), gr.skip(), 9),
    gr.skip,
]
"""Made anew each time: Gradio takes what it gets apart."""


def answered(kind: type[gr.Blocks], answer: Callable[[], Any]) -> tuple[list[Any], int]:
    """What the browser gets, and how many components were made for it."""
    with kind() as page:
        shown, button, number = gr.HTML("before"), gr.Button("Stop"), gr.Number(1)
        button.click(answer, None, [shown, button, number])
    (function,) = page.fns.values()
    state = SessionState(page)
    before = [state[block._id] for block in function.outputs]
    answers = asyncio.run(page.postprocess_data(function, answer(), state))
    for each in answers:
        if isinstance(each, dict) and each.get("props") == SKIP:
            del each["props"]  # of an HTML, Gradio says twice that it stays
    return answers, sum(state[block._id] is not old for block, old in zip(function.outputs, before, strict=True))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    asyncio.set_event_loop(None)


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_browser_gets_what_gradio_would_send(answer: Callable[[], Any]) -> None:
    assert answered(LeanBlocks, answer)[0] == answered(gr.Blocks, answer)[0]


def test_what_stays_is_not_made_anew() -> None:
    assert answered(LeanBlocks, ANSWERS[0])[1] == 0
    assert answered(LeanBlocks, ANSWERS[1])[1] == 1
    assert answered(gr.Blocks, ANSWERS[0])[1] == 2  # as long as this is so, the class is worth having


def test_no_statistics_are_made_of_every_event() -> None:
    with LeanBlocks() as page:
        pass
    page.queue()
    page._queue.events_recorded = 5
    assert page._queue.compute_analytics_summary([{"function": "f", "status": "success"}]) == {"functions": {}}
    assert page._queue.ANALYTICS_MAX_EVENTS == 1
