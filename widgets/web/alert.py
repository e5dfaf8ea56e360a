"""What the page says when a run cannot start, and the lesson when one has failed: who was first, why, what it did last,
and what the others saw because of it."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias

from lab.errors import Problem
from lab.events import RankFailed, Span
from lab.stacks import readable
from lab.state import RunState
from widgets.figures import duration, words
from widgets.web import lessons, text
from widgets.web.session import Session

LAST_SPANS = 4
"""Of what the rank did last, as many as are shown."""
Lesson: TypeAlias = Literal["memory", "killed", "silent", "absent", "calls", "copies", "numbers", "error"]
_SIGNS: tuple[tuple[Lesson, re.Pattern[str]], ...] = (
    ("memory", re.compile(r"out of memory", re.IGNORECASE)),
    ("killed", re.compile(r"was killed by")),
    ("silent", re.compile(r"without saying that it was done")),
    ("absent", re.compile(r"has been in|did not join")),
    ("calls", re.compile(r"left out|brought")),
    ("copies", re.compile(r"parameters differ")),
    ("numbers", re.compile(r"became (?:nan|inf|NaN)")),
)
"""What the lab's sentences on a failure have in common, by what is to be learnt from it."""


def of(session: Session, state: RunState) -> dict[str, Any] | None:
    """The alert that a tab shows; None for none."""
    return _problems(session) or _failure(state)


def lesson(failure: RankFailed, several: bool) -> Lesson | None:
    """What is to be learnt from a failure; None when that is for the reader's own code to say."""
    found = next((name for name, sign in _SIGNS if sign.search(failure.cause)), None)
    return found or ("error" if several else None)


_NOTHING_MORE: dict[str, Any] = {"lesson": "", "advice": "", "last": [], "others": [], "traceback": ""}


def _problems(session: Session) -> dict[str, Any] | None:
    problems = session.problems
    if not problems:
        return None
    title = session.problems_title or _cannot_start(len(problems))
    return {"title": title, "items": [_sentence(problem) for problem in problems], **_NOTHING_MORE}


def _cannot_start(count: int) -> str:
    return text.PROBLEMS_TITLE if count == 1 else text.PROBLEMS_TITLE_MANY.format(count=count)


def _sentence(problem: Problem) -> str:
    """With the page's names for the fields."""
    label = text.FIELDS.get(problem.field, problem.field)
    return f"{label}: {problem.message.replace('batch_size', text.BATCH.lower())}"


def _failure(state: RunState) -> dict[str, Any] | None:
    failure = state.failure
    if failure is None:
        return None
    several = several_ranks(state)
    learnt = lesson(failure, several)
    return {
        "title": text.RANK_FAILED_TITLE.format(rank=failure.rank) if several else text.FAILED_TITLE,
        "items": [failure.cause],
        "lesson": lessons.FAILURES[learnt] if learnt else "",
        "advice": failure.advice,
        "last": [_did(span) for span in failure.last_spans[-LAST_SPANS:]],
        "others": [_seen_by(other) for other in state.failures[1:]],
        "traceback": readable(failure.traceback),
    }


def several_ranks(state: RunState) -> bool:
    """Also before the ranks have met."""
    return state.started is not None and state.started.experiment.get("world_size", 1) > 1


def _did(span: Span) -> str:
    took = duration(span.end_ns - span.start_ns)
    return text.DID_LAST.format(step=span.step, kind=words.KINDS[span.kind], name=span.name, took=took)


def _seen_by(failure: RankFailed) -> str:
    line = failure.cause.strip().partition("\n")[0]
    return line if line.startswith(f"rank {failure.rank}") else f"rank {failure.rank}: {line}"
