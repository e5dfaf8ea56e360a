"""What the page says when a run cannot start or has failed."""

from __future__ import annotations

import pytest

from lab.errors import Problem
from lab.events import RankFailed
from lab.state import RunState
from tests.widgets import events_factory as factory
from widgets import languages
from widgets.web import alert
from widgets.web.session import Session


@pytest.mark.parametrize(
    ("cause", "learnt"),
    [
        ("OutOfMemoryError: VGPU out of memory. Tried to allocate 11.8 MB.", "memory"),
        ("rank 1 was killed by SIGKILL, in data of step 20", "killed"),
        ("rank 1 ended with exit code 0 without saying that it was done", "silent"),
        ("rank 1 has been in data of step 5 for 4 s, while the others wait for it in all_reduce 8 (step 4)", "absent"),
        ("rank 1 did not join the group; the others waited 5 s for it", "absent"),
        ("rank 1 left out the all-reduce of 87,360 bytes in step 3", "calls"),
        ("rank 1 brought 87,364 bytes to all_reduce 8 (step 4), where the others brought 87,360", "calls"),
        ("rank 1's parameters differ from the others' since step 3, first in conv1.weight", "copies"),
        ("rank 1's gradients became NaN or infinite at step 4, in bucket 0", "numbers"),
        ("the loss became nan at step 12, with a learning rate of 10", "numbers"),
        ("rank 1 raised an error before step 7, as you asked", "error"),
    ],
)
def test_every_kind_of_failure_has_its_lesson(cause: str, learnt: str) -> None:
    assert alert.lesson(RankFailed(1, cause, True), several=True) == learnt


def test_an_error_of_the_readers_own_in_one_process_speaks_for_itself() -> None:
    assert alert.lesson(RankFailed(0, "TypeError: 'int' object is not callable", True), several=False) is None


def test_there_are_words_for_every_lesson() -> None:
    for language in languages.LANGUAGES:
        table = languages.table("widgets.web.lessons", language)
        assert set(table.FAILURES) == set(alert.Lesson.__args__)  # type: ignore[attr-defined]


def test_a_failure_shows_what_the_rank_did_last_and_what_the_others_saw() -> None:
    started = factory.started()
    started.experiment["world_size"] = 2
    spans = tuple(factory.spans(41))
    state = RunState()
    state.apply_all(
        [
            started,
            RankFailed(1, "rank 1 was killed by SIGKILL, in data of step 41", True, last_spans=spans),
            RankFailed(0, "rank 0 lost the others in all_reduce 8, because rank 1 had failed\nmore", False),
        ]
    )
    shown = alert.of(Session("a"), state)
    assert shown is not None
    assert shown["title"] == "Rank 1 failed first"
    assert shown["lesson"].startswith("A process that is killed says nothing.")
    assert shown["last"] == [
        "step 41: optimizer SGD, 80.0 µs",
        "step 41: backward conv1, 240 µs",
        "step 41: optimizer SGD, 90.0 µs",
        "step 41: waiting vgpu:0, 250 µs",
    ]
    assert shown["others"] == ["rank 0 lost the others in all_reduce 8, because rank 1 had failed"]


def test_problems_of_a_wish_come_first_and_teach_nothing() -> None:
    session = Session("a", problems=(Problem("seed", "-1 is not allowed"),))
    state = factory.folded(factory.events(3), iter([factory.failed()]))
    shown = alert.of(session, state)
    assert shown is not None
    assert shown["items"] == ["Seed: -1 is not allowed"]
    assert (shown["lesson"], shown["last"], shown["others"]) == ("", [], [])
    assert alert.of(Session("b"), factory.folded(factory.events(3))) is None
