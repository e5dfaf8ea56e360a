"""Gradio's page, made to send many frames to many tabs.

For each output of a function, also for one that is left as it is, Gradio makes a component anew and asks every class
for its signature; with the buttons and controls beside each frame, that was two thirds of a busy server's time. Here
only what changes goes through it.

After each event Gradio also makes statistics of the last 10,000, for a page of its own that is closed here.

Tried with gradio 6.31; `postprocess_data` has no documentation, nor have the queue's two numbers.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import gradio as gr


class LeanBlocks(gr.Blocks):
    """`gr.Blocks`, for functions most of whose outputs mostly stay as they are."""

    def queue(self, *arguments: Any, **options: Any) -> Any:
        made = super().queue(*arguments, **options)
        self._queue.ANALYTICS_MAX_EVENTS = 1
        self._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize  # spelled as Gradio does
        return made

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        outputs = block_fn.outputs
        several = isinstance(predictions, (list, tuple)) and len(predictions) == len(outputs) > 1
        changed = [place for place, value in enumerate(predictions) if not _stays(value)] if several else []
        if not several or len(changed) == len(outputs):
            everything: list[Any] = await super().postprocess_data(block_fn, predictions, state)
            return everything
        answers = [gr.skip() for _ in outputs]
        if changed:
            fewer = copy.copy(block_fn)
            fewer.outputs = [outputs[place] for place in changed]
            values = [predictions[place] for place in changed]
            made = await super().postprocess_data(fewer, values if len(values) > 1 else values[0], state)
            for place, value in zip(changed, made, strict=True):
                answers[place] = value
        return answers


def _stays(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()
