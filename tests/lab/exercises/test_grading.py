"""Verdicts: what a check says of an answer that is right, wrong, blank, or raises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lab.errors import LabError
from lab.exercises import check, grading
from lab.exercises.grading import MIME, Verdict, Wrong, call, exercise, lists_of_numbers


@pytest.fixture(autouse=True)
def doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_exercises", {})
    monkeypatch.setattr(grading, "MODULES", {})

    @exercise("99-double", todo="Return twice the number.")
    def double(answer: Any) -> str:
        got = call(answer, 3, hints={ZeroDivisionError: "Nothing has to be divided."})
        if got != 6:
            raise Wrong(f"twice 3 is 6; yours is {got}")
        return "It doubles."


def test_a_right_answer_passes_and_says_what_holds() -> None:
    verdict = check("99-double", lambda number: 2 * number)
    assert verdict == Verdict("99-double", "right", "It doubles.")
    assert verdict.passed
    assert verdict


def test_a_wrong_answer_names_what_broke() -> None:
    verdict = check("99-double", lambda number: number)
    assert (verdict.outcome, verdict.sentence) == ("wrong", "twice 3 is 6; yours is 3")
    assert not verdict


@pytest.mark.parametrize("blank", [..., lambda number: ...])
def test_what_is_still_blank_says_what_to_do(blank: Any) -> None:
    assert check("99-double", blank) == Verdict("99-double", "blank", "Return twice the number.")


def test_no_answer_at_all_is_blank() -> None:
    assert check("99-double").outcome == "blank"


def divides(number: int) -> float:
    return number / 0


def test_an_error_in_the_answer_is_told_with_its_line_and_a_hint() -> None:
    verdict = check("99-double", divides)
    assert verdict.outcome == "raised"
    assert verdict.sentence.startswith("ZeroDivisionError: division by zero, in line ")
    assert '"return number / 0". Nothing has to be divided.' in verdict.sentence


def test_what_is_no_function_is_said() -> None:
    assert "a function is asked for, and this is 6" in check("99-double", 6).sentence


def test_an_unknown_exercise_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(LabError, match="did you mean '99-double'"):
        check("99-doubel", 1)


def test_a_verdict_shows_itself_safely() -> None:
    bundle = check("99-double", lambda number: "<b>")._repr_mimebundle_()
    assert "twice 3 is 6; yours is &lt;b&gt;" in bundle["text/html"]
    assert bundle["text/plain"] == "✗ Not yet (99-double): twice 3 is 6; yours is <b>"
    assert bundle[MIME] == {"exercise": "99-double", "outcome": "wrong", "sentence": "twice 3 is 6; yours is <b>"}


GROUPS = [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    "answer",
    [
        GROUPS,
        ((0, 2), (1, 3)),
        torch.tensor(GROUPS),
        torch.arange(4).view(2, 2).t(),
        np.array(GROUPS),
        [torch.tensor([0, 2]), np.array([1, 3])],
        [[torch.tensor(0), torch.tensor(2)], [np.int64(1), 3]],
        {0: [0, 2], 1: [1, 3]},
        {1: {3: 1, 4: 3}, 0: torch.tensor([0, 2])},
        (group for group in GROUPS),
        [iter([0, 2]), range(1, 4, 2)],
        zip((0, 1), (2, 3), strict=True),
        {"first": (0, 2), "second": (1, 3)}.values(),
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_groups_of_numbers_may_stand_in_anything(answer: Any) -> None:
    assert lists_of_numbers(answer) == GROUPS


@pytest.mark.parametrize("answer", [3, None, "0213", torch.tensor(3), [0, 2, 1, 3], torch.arange(4), ["02", "13"]])
def test_what_is_no_groups_of_numbers_is_none(answer: Any) -> None:
    assert lists_of_numbers(answer) is None
