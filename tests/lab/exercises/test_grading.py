"""Verdicts: what a check says of an answer that is right, wrong, blank, or raises."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
import torch

from lab import vgpu
from lab.errors import LabError, WrongAnswerError
from lab.exercises import check, grading
from lab.exercises.grading import MIME, Verdict, Wrong, call, exercise
from lab.exercises.reading import lists_of_numbers


@pytest.fixture(autouse=True)
def doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_exercises", {})
    monkeypatch.setattr(grading, "MODULES", {})
    monkeypatch.setattr(grading, "_failures", {})

    @exercise("99-double", todo="Return twice the number.", hints=("What is 3 + 3?", "Add it to itself."))
    def double(answer: Any) -> str:
        got = call(answer, 3, about={ZeroDivisionError: "Nothing has to be divided."})
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


def leaves(number: int) -> None:
    raise SystemExit


def interrupted(number: int) -> None:
    raise KeyboardInterrupt


def test_an_answer_that_would_end_python_does_not() -> None:
    verdict = check("99-double", leaves)
    assert verdict.outcome == "raised"
    assert "SystemExit, in line" in verdict.sentence
    assert "return in its place" in verdict.sentence


def test_an_interrupt_is_the_readers_own() -> None:
    with pytest.raises(KeyboardInterrupt):
        check("99-double", interrupted)


class Hostile:
    """Raises for whatever is done to it."""

    def __eq__(self, other: object) -> bool:
        raise TypeError("comparison not implemented")

    def __repr__(self) -> str:
        raise ValueError("no words")

    __hash__ = None  # type: ignore[assignment]


def test_an_answer_never_makes_its_check_raise() -> None:
    verdict = check("99-double", lambda number: Hostile())
    assert verdict.outcome == "wrong"
    assert "TypeError: comparison not implemented" in verdict.sentence
    assert "a Hostile" in check("99-double", Hostile()).sentence


def test_hints_open_one_by_one_and_close_with_a_right_answer() -> None:
    def told() -> tuple[str, ...]:
        return check("99-double", lambda number: number).hints

    assert [told(), told(), told(), told()] == [(), ("What is 3 + 3?",), *2 * [("What is 3 + 3?", "Add it to itself.")]]
    assert check("99-double", lambda number: ...).hints == ()
    assert "Hint: Add it to itself." in repr(check("99-double", divides))
    assert check("99-double", lambda number: 2 * number).hints == ()
    assert told() == ()


@pytest.mark.parametrize("answer", [lambda number: number, divides, ..., lambda number: ...])
def test_a_strict_check_raises_for_what_is_not_right(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongAnswerError, match="99-double"):
        check("99-double", answer, strict=True)
    monkeypatch.setenv(grading.STRICT_VARIABLE, "1")
    with pytest.raises(WrongAnswerError):
        check("99-double", answer)
    assert not check("99-double", answer, strict=False)
    monkeypatch.setenv(grading.STRICT_VARIABLE, "0")
    assert not check("99-double", answer)


def test_a_strict_check_of_a_right_answer_is_as_always() -> None:
    assert check("99-double", lambda number: 2 * number, strict=True).passed


def test_an_answer_leaves_the_surroundings_as_they_were() -> None:
    def changes(number: int) -> int:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        torch.set_default_dtype(torch.float64)
        os.environ["HOME"] = "/nowhere"
        os.chdir("/")
        vgpu.enable(devices=7)
        return 6

    mine = vgpu.enable(devices=3)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    others = torch.get_default_dtype(), dict(os.environ), os.getcwd()
    assert check("99-double", changes)
    assert vgpu.current() is mine
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]  # type: ignore[index]
    assert (torch.get_default_dtype(), dict(os.environ), os.getcwd()) == others


def test_what_is_no_function_is_said() -> None:
    assert "A function is asked for, and this is 6." in check("99-double", 6).sentence


def test_an_unknown_exercise_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(LabError, match="did you mean '99-double'"):
        check("99-doubel", 1)


def test_a_verdict_shows_itself_safely() -> None:
    bundle = check("99-double", lambda number: "<b>")._repr_mimebundle_()
    assert "twice 3 is 6; yours is &lt;b&gt;" in bundle["text/html"]
    assert bundle["text/plain"] == "✗ Not yet (99-double): twice 3 is 6; yours is <b>"
    assert bundle[MIME] == {
        "exercise": "99-double",
        "outcome": "wrong",
        "sentence": "twice 3 is 6; yours is <b>",
        "hints": [],
    }


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
