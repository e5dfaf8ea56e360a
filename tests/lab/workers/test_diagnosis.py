"""Who is to blame: evidence made by hand, each a story whose culprit is known."""

from __future__ import annotations

import dataclasses
import re

import pytest

from lab.events import RankFailed, Span
from lab.workers.board import KEPT_COLLECTIVES, Collective, Phase, Position
from lab.workers.diagnosis import Divergence, Evidence, diagnose, is_communication

S = 1_000_000_000
RESET = (
    "RuntimeError: Got the following error when running the callback: RuntimeError: "
    "[/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:20711: Connection reset by peer. "
    "This is typically caused by a remote worker hanging or bugs in the application."
)
SPAN = Span("cpu", 1, 4, "forward", "fc1", 0, 10)


def trains(rank: int, skipped: int, step: int, steps: int, buckets: list[int], late: int) -> Position:
    """A rank of a run of so many steps, each with these buckets, and an evaluation of 24 bytes after the last. It has
    left out the first bucket of step `skipped` (-1: of none), and is so many collectives into step `step`."""
    calls: list[tuple[int, Phase, int, int]] = []
    for of in range(steps):
        calls += [(of, "synchronise", i, size) for i, size in enumerate(buckets) if (of, i) != (skipped, 0)]
    calls.append((steps - 1, "evaluation", -1, 24))
    begun = [call for call in calls if call[0] < step]
    own = [*begun, *[call for call in calls if call[0] == step][:late]]
    collectives = tuple(
        Collective(number, of, "all_reduce", size, 1, int(number < len(own) - 1), phase, bucket, size * (bucket >= 0))
        for number, (of, phase, bucket, size) in enumerate(own)
    )
    return Position(step, own[-1][1] if late else "forward", 0, collectives[-KEPT_COLLECTIVES:])


@pytest.mark.parametrize("buckets", [[500], [300, 700], [300, 300]], ids=str)
@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("skipped", [0, 3, 11])
def test_the_step_in_which_a_bucket_was_left_out(
    skipped: int, victim: int, world_size: int, buckets: list[int]
) -> None:
    """Told of what is on the board alone, at whatever collective of the next step or of the evaluation it is seen."""
    positions = {}
    for rank in range(world_size):
        place = (skipped, len(buckets)) if skipped == 11 or len(set(buckets)) > 1 else (skipped + 1, 1)
        positions[rank] = trains(rank, skipped if rank == victim else -1, *place[:1], 12, buckets, place[1])
    if len(set(buckets)) == 1 and skipped < 11:
        # Sizes that are alike keep nobody: the others have taken what the rank brought in its next step.
        others = trains(0, -1, skipped, 12, buckets, len(buckets))
        positions = {rank: positions[rank] if rank == victim else others for rank in positions}
    found = blamed(Evidence(world_size, positions=positions))
    assert found.rank == victim
    assert re.search(r"left out .* in step (\d+)", found.cause)[1] == str(skipped)  # type: ignore[index]


def test_a_rank_that_has_passed_a_step_without_its_all_reduce() -> None:
    """It calls nothing else: the others wait for it in step 0, and it is in step 1."""
    positions = {0: at(0, "synchronise", (0, 500), left=False), 1: at(1, "forward")}
    assert blamed(Evidence(2, positions=positions)).cause == (
        "rank 1 left out an all-reduce in step 0: where the others were at the all-reduce of step 0, it was in forward "
        "of step 1"
    )


@pytest.mark.parametrize("victim", [0, 1])
def test_a_tensor_of_another_size_in_the_first_step_of_two_ranks(victim: int) -> None:
    """There is no step before; but a bucket's size is known to the rank itself."""
    positions = {}
    for rank in range(2):
        first = Collective(0, 0, "all_reduce", 504 if rank == victim else 500, 1, 0, "synchronise", 0, 500)
        positions[rank] = Position(0, "synchronise", 0, (first,))
    assert blamed(Evidence(2, positions=positions)).cause == (
        f"rank {victim} brought 504 bytes to all_reduce 0 (step 0), where the others brought 500"
    )


@pytest.mark.parametrize(("world_size", "victim"), [(2, 1), (3, 0), (4, 2)])
def test_the_board_tells_since_when_parameters_differ_that_nobody_has_reported(world_size: int, victim: int) -> None:
    sums = {rank: {step: step * 7 + (rank == victim and step >= 3) for step in range(9)} for rank in range(world_size)}
    sums[0].pop(8)
    found = blamed(Evidence(world_size, sums=sums))
    assert (found.rank, found.cause) == (
        victim,
        f"rank {victim}'s parameters differ from the others' since step 3",
    )


def at(step: int, phase: Phase, *calls: tuple[int, int], left: bool = True, since_s: float = 0) -> Position:
    """A rank's position after collectives of (step, bytes); with `left` False it is still in the last one."""
    collectives = tuple(
        Collective(number, of, "all_reduce", size, number + 1, number + 2 if left or number < len(calls) - 1 else 0)
        for number, (of, size) in enumerate(calls)
    )
    return Position(step, phase, round(since_s * S), collectives)


def failed(rank: int, cause: str) -> RankFailed:
    return RankFailed(rank, cause, True, traceback=f"trace of {rank}")


def blamed(evidence: Evidence) -> RankFailed:
    """The root cause; whatever else was found has to be secondary."""
    first, *others = diagnose(evidence)
    assert first.primary
    assert not any(other.primary for other in others)
    ranks = [failure.rank for failure in (first, *others)]
    assert len(ranks) == len(set(ranks))
    return first


def test_a_broken_connection_is_secondary_though_it_is_reported_first() -> None:
    """Rank 1 raises; rank 0 hears of it first, from its connection."""
    position = at(3, "synchronise", (3, 500), left=False)
    evidence = Evidence(2, {0: failed(0, RESET), 1: failed(1, "ValueError: bad")}, positions={0: position})
    first, second = diagnose(evidence)
    assert (first.rank, first.cause, first.primary) == (1, "ValueError: bad", True)
    assert (second.rank, second.primary, second.traceback) == (0, False, "trace of 0")
    assert second.cause == (
        "rank 0 lost the others in all_reduce 0 (step 3): connection reset by peer, because rank 1 had failed"
    )


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (-9, "rank 1 was killed by SIGKILL, in backward of step 4"),
        (0, "rank 1 ended with exit code 0 without saying that it was done, in backward of step 4"),
    ],
)
def test_a_death_is_the_cause_and_keeps_what_was_done_last(code: int, cause: str) -> None:
    evidence = Evidence(
        2,
        {0: failed(0, RESET)},
        {1: code},
        positions={0: at(4, "synchronise"), 1: at(4, "backward")},
        last_spans={1: (SPAN,)},
    )
    first = blamed(evidence)
    assert (first.cause, first.last_spans) == (cause, (SPAN,))


def test_the_first_of_two_deaths_is_the_cause() -> None:
    assert blamed(Evidence(3, {}, {2: -9, 0: -6})).rank == 2


def test_a_rank_that_does_not_come_is_the_cause_and_those_that_wait_are_not() -> None:
    """All but rank 1 are in the all-reduce of step 2; it stays in forward."""
    waiting = at(2, "synchronise", (1, 500), (2, 500), left=False)
    evidence = Evidence(
        3,
        positions={0: waiting, 1: at(2, "forward", (1, 500), since_s=10), 2: waiting},
        stacks={0: "stack of 0", 1: "stack of 1"},
        timeout_s=20,
        now_ns=31 * S,
    )
    first, *others = diagnose(evidence)
    assert first.cause == (
        "rank 1 has been in forward of step 2 for 21 s, while the others wait for it in all_reduce 1 (step 2)"
    )
    assert first.traceback == "stack of 1"
    assert "timeout_s than 20" in first.advice
    assert [(other.rank, other.traceback) for other in others] == [(0, "stack of 0"), (2, "")]
    assert others[0].cause == "rank 0 was stopped in all_reduce 1 (step 2), because rank 1 had failed"


def test_a_rank_that_never_joins() -> None:
    evidence = Evidence(2, positions={0: at(0, "joining", since_s=1), 1: Position(0, "starting", 0, ())}, now_ns=4 * S)
    assert blamed(evidence).cause == "rank 1 did not join the group; the others waited 3 s for it"


def test_what_a_rank_says_itself_counts_more_than_its_absence() -> None:
    evidence = Evidence(
        2,
        {1: failed(1, "ValueError: bad")},
        positions={0: at(2, "synchronise", (2, 500), left=False), 1: at(2, "forward")},
    )
    assert blamed(evidence).cause == "ValueError: bad"


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_tensor_of_another_size_of_three_ranks(victim: int) -> None:
    """gloo ends the others' processes; their exits come first, and are not the cause."""
    calls = {rank: [(1, 500), (2, 504 if rank == victim else 500)] for rank in range(3)}
    evidence = Evidence(
        3,
        exits={rank: -6 for rank in range(3) if rank != victim},
        positions={rank: at(2, "synchronise", *own, left=False) for rank, own in calls.items()},
    )
    first = blamed(evidence)
    assert first.rank == victim
    assert first.cause == f"rank {victim} brought 504 bytes to all_reduce 1 (step 2), where the others brought 500"


@pytest.mark.parametrize("victim", [0, 1])
def test_of_two_ranks_the_one_that_does_not_do_as_before(victim: int) -> None:
    calls = {rank: [(1, 500), (2, 504 if rank == victim else 500)] for rank in range(2)}
    evidence = Evidence(2, positions={rank: at(2, "synchronise", *own) for rank, own in calls.items()})
    assert blamed(evidence).rank == victim


@pytest.mark.parametrize("victim", [0, 1])
def test_of_two_ranks_the_one_with_a_size_that_never_was(victim: int) -> None:
    """In the first step there is no step before."""
    calls = {rank: [(0, 8), (0, 500), (1, 504 if rank == victim else 500)] for rank in range(2)}
    evidence = Evidence(2, positions={rank: at(1, "synchronise", *own) for rank, own in calls.items()})
    assert blamed(evidence).rank == victim


@pytest.mark.parametrize("victim", [0, 1])
def test_one_of_two_buckets_left_out(victim: int) -> None:
    """The rank brings the second bucket where the other brings the first: neither size is new."""
    calls = {rank: [(1, 300), (1, 700), *([(2, 700)] if rank == victim else [(2, 300)])] for rank in range(2)}
    evidence = Evidence(2, positions={rank: at(2, "synchronise", *own, left=False) for rank, own in calls.items()})
    assert blamed(evidence).cause == f"rank {victim} left out the all-reduce of 300 bytes in step 2"


@pytest.mark.parametrize("victim", [0, 1])
def test_the_only_bucket_left_out(victim: int) -> None:
    """The rank goes on with the next step, and is one ahead from then on."""
    calls = {rank: [(1, 500), (3 if rank == victim else 2, 500)] for rank in range(2)}
    positions = {rank: at(own[-1][0], "synchronise", *own, left=False) for rank, own in calls.items()}
    assert blamed(Evidence(2, positions=positions)).cause == (
        f"rank {victim} left out an all-reduce in step 2: where the others were at the all-reduce of step 2, it was at "
        "that of step 3"
    )
    found = Evidence(2, positions=positions, divergence=Divergence(victim, 2, "fc1.weight"))
    assert blamed(found).cause == (
        f"rank {victim} left out an all-reduce in step 2; since then its parameters differ from the others', first in "
        "fc1.weight"
    )


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("sizes", [[500], [300, 700]])
def test_a_bucket_left_out_long_ago(victim: int, sizes: list[int]) -> None:
    """The board keeps the last collectives only, of each rank others: what is forgotten differs from nothing."""
    calls = {rank: [(step, size) for step in range(100) for size in sizes] for rank in range(2)}
    calls[victim].remove((30, sizes[0]))
    for behind in range(2):
        positions = {}
        for rank, own in calls.items():
            whole = at(99, "synchronise", *own[: len(own) - (rank == behind)])
            positions[rank] = dataclasses.replace(whole, collectives=whole.collectives[-KEPT_COLLECTIVES:])
        found = Evidence(2, positions=positions, divergence=Divergence(victim, 30, "fc1.weight"))
        assert blamed(found).rank == victim


def test_parameters_that_differ_while_all_call_the_same() -> None:
    same = at(5, "update", (4, 500), (5, 500))
    evidence = Evidence(2, positions={0: same, 1: same}, divergence=Divergence(1, 3, "conv1.weight"))
    assert blamed(evidence).cause == ("rank 1's parameters differ from the others' since step 3, first in conv1.weight")


def test_nothing_points_at_a_rank() -> None:
    assert blamed(Evidence(2, {1: failed(1, RESET)})).rank == 1
    assert "none of them says why" in blamed(Evidence(2)).cause


def test_ranks_that_were_done_have_nothing_to_say() -> None:
    evidence = Evidence(2, exits={1: -9}, finished={0}, positions={0: at(9, "done"), 1: at(9, "evaluation")})
    assert [failure.rank for failure in diagnose(evidence)] == [1]


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (RESET, True),
        ("DistBackendError: NCCL communicator was aborted", True),
        ("RuntimeError: Timed out waiting 30000ms for recv operation to complete", True),
        ("RuntimeError: [Rank 0]: Ranks 1 failed to pass monitoredBarrier in 13000 ms", True),
        ("ValueError: this layer is broken", False),
        ("OutOfMemoryError: vgpu:0 is out of memory. Tried to allocate 3.1 MB", False),
    ],
)
def test_errors_that_come_from_connections(cause: str, expected: bool) -> None:
    assert is_communication(failed(0, cause)) is expected


def test_who_keeps_the_others_waiting_at_a_gate_is_late() -> None:
    """Nobody is in a collective: rank 0 waits before forward, where rank 1 does not come."""
    positions = {0: at(5, "forward", (4, 500), since_s=9), 1: at(5, "data", (4, 500), since_s=8)}
    evidence = Evidence(2, positions=positions, stacks={1: "its stack"}, at_gate=frozenset({0}), now_ns=30 * S)
    first = blamed(evidence)
    assert (first.rank, first.traceback) == (1, "its stack")
    assert (
        first.cause
        == "rank 1 has been in data of step 5 for 22 s, while the others wait for it so that the run can pause"
    )
