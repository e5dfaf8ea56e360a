"""What went wrong, as sentences inside a widget: a traceback from a click would be lost in the kernel's log."""

from __future__ import annotations

import html
import traceback
from collections.abc import Iterable

from ipywidgets import HTML

from lab.errors import ExperimentError, LabError, Problem
from lab.state import RunState
from widgets.notebook import text

_BOX = "border-left:4px solid #d55e00;padding:6px 10px;margin:4px 0;background:rgba(213,94,0,0.10);color:inherit"


class Alert(HTML):
    """Empty as long as all is well."""

    def clear(self) -> None:
        self.value = ""

    def error(self, error: BaseException) -> None:
        """What an exception means to the reader."""
        match error:
            case ExperimentError():
                self._say(text.PROBLEMS_TITLE, map(_sentence, error.problems))
            case LabError():
                self._say(text.NOT_NOW, [str(error)])
            case _:
                details = "".join(traceback.format_exception(error))
                self._say(text.NOT_NOW, [f"{type(error).__name__}: {error}", text.BUG], details)

    def failure(self, state: RunState) -> None:
        """Why a run failed, the root cause first."""
        failure = state.failure
        if failure is None:
            return
        others = [f"rank {other.rank}: {other.cause}" for other in state.failures[1:]]
        advice = [failure.advice] if failure.advice else []
        self._say(text.FAILED_TITLE, [failure.cause, *advice, *others], failure.traceback)

    def _say(self, title: str, sentences: Iterable[str], details: str = "") -> None:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
        more = ""
        if details:
            inside = f"<pre style='white-space:pre-wrap;font-size:12px'>{html.escape(details)}</pre>"
            more = f"<details><summary>{text.DETAILS}</summary>{inside}</details>"
        said = f'<div role="alert" style="{_BOX}"><b>{html.escape(title)}</b><ul style="margin:2px 0">{items}</ul>'
        self.value = f"{said}{more}</div>"


def _sentence(problem: Problem) -> str:
    """With the panel's names for the fields."""
    label = text.FIELDS.get(problem.field, problem.field)
    return f"{label}: {problem.message.replace('batch_size', text.BATCH.lower())}"
