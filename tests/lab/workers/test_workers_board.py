"""The board: what a rank writes is what the parent reads, also of a rank that is no more."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from lab.workers.board import KEPT_COLLECTIVES, KEPT_SUMS, Board


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board"


def test_before_a_rank_says_anything(path: Path) -> None:
    board = Board(path, 2, create=True)
    position = board.read(1)
    assert (position.step, position.phase, position.entered, position.collectives) == (0, "starting", 0, ())


def test_each_rank_writes_its_own_part(path: Path) -> None:
    board = Board(path, 3, create=True)
    began = time.monotonic_ns()
    for rank in range(3):
        Board(path, 3).pen(rank).at(10 + rank, "backward")
    assert [(board.read(rank).step, board.read(rank).phase) for rank in range(3)] == [
        (10, "backward"),
        (11, "backward"),
        (12, "backward"),
    ]
    assert began <= board.read(2).since_ns <= time.monotonic_ns()


def test_a_collective_is_waited_in_until_it_is_left(path: Path) -> None:
    board = Board(path, 1, create=True)
    pen = board.pen(0)
    pen.at(4, "synchronise")
    first, second = pen.enter("all_reduce", 500), pen.enter("broadcast", 8)
    assert [(c.number, c.step, c.kind, c.bytes) for c in board.read(0).collectives] == [
        (0, 4, "all_reduce", 500),
        (1, 4, "broadcast", 8),
    ]
    pen.leave(first)
    assert [c.number for c in board.read(0).waiting_in] == [second]
    pen.at(5, "data")
    assert board.read(0).entered == 2
    left = board.read(0).collectives[0]
    assert left.entered_ns <= left.left_ns <= time.monotonic_ns()


def test_the_last_collectives_are_kept(path: Path) -> None:
    board = Board(path, 1, create=True)
    pen = board.pen(0)
    numbers = [pen.enter("all_reduce", number) for number in range(3 * KEPT_COLLECTIVES + 5)]
    kept = board.read(0).collectives
    assert [c.bytes for c in kept] == numbers[-KEPT_COLLECTIVES:]
    pen.leave(numbers[0])  # long overwritten: another one stands in its place
    assert all(not c.left_ns for c in board.read(0).collectives)


def test_a_collective_knows_its_phase_and_its_bucket(path: Path) -> None:
    board = Board(path, 1, create=True)
    pen = board.pen(0)
    pen.at(4, "synchronise")
    pen.enter("all_reduce", 504, bucket=1, due=500)
    pen.at(4, "evaluation")
    pen.enter("all_reduce", 24)
    assert [(c.phase, c.bucket, c.due) for c in board.read(0).collectives] == [
        ("synchronise", 1, 500),
        ("evaluation", -1, 0),
    ]


def test_the_last_checksums_are_kept_of_each_rank(path: Path) -> None:
    board = Board(path, 2, create=True)
    for rank in range(2):
        pen = board.pen(rank)
        for step in range(KEPT_SUMS + 3):
            pen.summed(step, (step, -(2**63), 7 + (rank == 1 and step == 9)))
    sums = board.sums(0)
    assert sorted(sums) == list(range(3, KEPT_SUMS + 3))
    assert len(set(sums.values())) == KEPT_SUMS
    assert [step for step in sums if sums[step] != board.sums(1)[step]] == [9]


def _write_and_die(path: Path) -> None:
    pen = Board(path, 2).pen(1)
    pen.at(7, "forward")
    pen.enter("all_reduce", 123)
    os._exit(1)


def test_what_a_killed_rank_wrote_outlives_it(path: Path) -> None:
    board = Board(path, 2, create=True)
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(path,))
    process.start()
    process.join()
    process.close()
    position = board.read(1)
    assert (position.step, position.phase, position.waiting_in[0].bytes) == (7, "forward", 123)
