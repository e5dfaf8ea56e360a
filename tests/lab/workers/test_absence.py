"""Who did not come, in a cell: stories of three ranks and of two, made by hand."""

from __future__ import annotations

import sys

import pytest

from lab.events import RankFailed
from lab.workers.absence import Where, explain, look, of_failure


def at(rank: int, collective: str = "") -> Where:
    return Where(rank, 1, 2, "time.sleep(40)", collective)


@pytest.mark.parametrize(
    ("running", "waited", "ended", "rank", "words"),
    [
        # Rank 0 sleeps, and the others have lost patience, or are still waiting.
        ([at(0)], {1: "all_reduce", 2: "all_reduce"}, [], 0, "did not come: it is in line 2 of the cell"),
        ([at(0), at(1, "all_reduce"), at(2, "all_reduce")], {}, [], 0, "ranks 1 and 2 wait for it in all_reduce"),
        ([at(2)], {0: "barrier"}, [1], 2, "while rank 0 waits for it in barrier"),
        # One has a batch more, or less, than the others.
        ([], {2: "all_reduce"}, [0, 1], 2, "called a collective more than the others"),
        ([], {0: "all_reduce", 2: "all_reduce"}, [1], 1, "it is at the end of the cell"),
        ([at(0, "all_reduce")], {}, [1], 1, "it is at the end of the cell"),
        # All wait, and not in the same.
        ([], {0: "all_reduce", 1: "broadcast", 2: "all_reduce"}, [], 1, "rank 1 called broadcast"),
    ],
)
def test_the_rank_that_did_not_come(
    running: list[Where], waited: dict[int, str], ended: list[int], rank: int, words: str
) -> None:
    ranks = {where.rank for where in running} | waited.keys() | set(ended)
    found = explain(ranks, {where.rank: where for where in running}, waited, ended)
    assert found is not None
    assert found.rank == rank
    assert words in found.cause


def test_nobody_is_to_blame_where_nobody_waits_or_all_do() -> None:
    assert explain(range(2), {0: at(0), 1: at(1)}, {}, []) is None
    assert explain(range(2), {}, {0: "barrier", 1: "barrier"}, []) is None


def test_a_frame_is_told_by_the_line_of_the_cell() -> None:
    source = "import sys\ndef f():\n    return sys._getframe()\nframe = f()"
    names: dict[str, object] = {}
    exec(compile(source, "<cell>", "exec"), names)
    where = look(1, 7, "<cell>", names["frame"])  # type: ignore[arg-type]
    assert (where.rank, where.cell, where.line, where.collective) == (1, 7, 3, "")
    assert look(0, 1, "<another>", sys._getframe()).line == 0


def test_a_failure_is_told_by_the_outermost_function_of_torch_distributed() -> None:
    trace = (
        '  File "<cell 1 on rank 0>", line 1, in <module>\n'
        '  File "/lib/torch/distributed/c10d_logger.py", line 83, in wrapper\n'
        '  File "/lib/torch/distributed/distributed_c10d.py", line 2, in all_reduce\n'
    )
    assert of_failure(RankFailed(0, "RuntimeError: timed out", True, traceback=trace)) == "all_reduce"
    assert of_failure(RankFailed(0, "RuntimeError: timed out", True)) == ""
