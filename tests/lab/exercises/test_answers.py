"""Every answer in `answers/` gets the verdict that it must get: right ones pass, wrong ones are told what broke."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch

from lab import course, exercises
from lab.exercises import check, grading
from tests.lab.exercises.answers import Answer, all_answers

ANSWERS = all_answers()
LEAST = {True: 2, False: 5}
"""Right and wrong answers that each exercise has."""


@pytest.fixture
def devices() -> tuple[str, ...]:
    return course.devices(2, "virtual")


@pytest.fixture(autouse=True)
def first_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_failures", {})


@pytest.mark.parametrize("answer", ANSWERS, ids=[answer.title for answer in ANSWERS])
def test_an_answer_gets_its_verdict(answer: Answer, devices: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    verdict = check(answer.exercise, *answer.given(devices))
    assert verdict.outcome == answer.outcome, verdict
    if answer.words is not None:
        assert answer.words in verdict.sentence
    assert re.match(r"[^a-z]", verdict.sentence) or verdict.outcome == "raised", "it begins like a sentence"
    assert verdict.sentence.endswith((".", "?", "!")), "it ends like a sentence"


def test_every_exercise_has_answers_of_both_kinds() -> None:
    count = Counter((answer.exercise, answer.words is None) for answer in ANSWERS)
    few = {
        f"{name}, {'right' if kind else 'wrong'}": count[name, kind]
        for name in exercises.names()
        for kind, least in LEAST.items()
        if count[name, kind] < least
    }
    assert not few


@pytest.mark.parametrize("name", exercises.names())
def test_the_first_failure_opens_no_hint_and_later_ones_do(name: str, devices: tuple[str, ...]) -> None:
    answer = next(answer for answer in ANSWERS if answer.exercise == name and answer.outcome == "wrong")
    hints = grading._find(name).hints
    assert hints
    for opened in range(len(hints) + 2):
        assert check(name, *answer.given(devices)).hints == hints[:opened]
