"""An answer that is written in part is still to be done, and its todo tells the task."""

from __future__ import annotations

from typing import Any

import pytest

from lab.exercises import check, names

PARTS: list[tuple[str, Any]] = [
    ("00-cut", {"fc2": "vgpu:1", "*": ...}),
    ("01-accuracy", lambda scores, labels: ...),
    ("02-update", lambda theta, gradients, eta: ...),
    ("03-share", lambda samples, rank, world_size: ...),
    ("03-same", lambda batch_size, lr, ranks: (..., ...)),
    ("03-same", lambda batch_size, lr, ranks: (batch_size // ranks, ...)),
    ("03-same", lambda batch_size, lr, ranks: {"batch_size": ..., "lr": lr}),
]


@pytest.mark.parametrize(("name", "answer"), PARTS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(PARTS)])
def test_one_that_is_written_in_part_is_blank(name: str, answer: Any) -> None:
    verdict = check(name, answer)
    assert (verdict.outcome, verdict.sentence) == ("blank", check(name).sentence)


@pytest.mark.parametrize("name", names())
def test_a_todo_is_a_sentence(name: str) -> None:
    todo = check(name).sentence
    assert todo[0].isupper()
    assert todo.endswith(".")
