"""Who may run now, and who waits."""

from __future__ import annotations

import random
import threading

import pytest

from lab.experiment import Experiment
from tests.widgets.test_sessions import Clock
from widgets.web.handlers import in_line
from widgets.web.leases import Budget, Leases, Need

SMALL = Need(1, 100)


def test_what_the_budget_holds_runs_and_the_rest_waits_in_order() -> None:
    leases = Leases(Budget(runs=2, ranks=4, memory_bytes=1000))
    first, second, third, fourth = (leases.enter(SMALL) for _ in range(4))
    assert [lease.granted for lease in (first, second, third, fourth)] == [True, True, False, False]
    assert [leases.place(lease) for lease in (first, third, fourth)] == [0, 1, 2]
    leases.release(second)
    assert (third.granted, fourth.granted) == (True, False)
    assert leases.place(fourth) == 1


def test_leaving_the_line_moves_the_others_up() -> None:
    leases = Leases(Budget(1, 1))
    running, gone, waiting = (leases.enter(SMALL) for _ in range(3))
    leases.release(gone)
    assert leases.place(waiting) == 1
    leases.release(running)
    leases.release(running)  # twice does no harm
    assert waiting.granted
    assert leases.count() == (1, 0)


@pytest.mark.parametrize(
    ("held", "asked", "fits"),
    [
        (Need(3, 100), Need(1, 100), True),
        (Need(3, 100), Need(2, 100), False),
        (Need(1, 900), Need(1, 100), True),
        (Need(1, 901), Need(1, 100), False),
        (Need(1, 1, frozenset({"cuda:0"})), Need(1, 1, frozenset({"cuda:1"})), True),
        (Need(1, 1, frozenset({"cuda:0", "cuda:1"})), Need(1, 1, frozenset({"cuda:1"})), False),
    ],
)
def test_processes_memory_and_gpus_are_counted(held: Need, asked: Need, fits: bool) -> None:
    leases = Leases(Budget(runs=10, ranks=4, memory_bytes=1000))
    leases.enter(held)
    assert leases.enter(asked).granted is fits


def test_a_large_run_is_not_overtaken() -> None:
    leases = Leases(Budget(runs=10, ranks=4))
    running = leases.enter(Need(2, 1))
    large = leases.enter(Need(4, 1))
    small = leases.enter(Need(1, 1))
    assert (large.granted, small.granted) == (False, False)
    assert leases.try_enter(Need(1, 1)) is None
    leases.release(running)
    assert (large.granted, small.granted) == (True, False)


def test_what_is_larger_than_the_budget_runs_alone() -> None:
    leases = Leases(Budget(runs=10, ranks=2, memory_bytes=10))
    assert leases.enter(Need(8, 1000)).granted


def test_opening_a_page_takes_no_place_in_line() -> None:
    leases = Leases(Budget(1, 1))
    assert leases.try_enter(SMALL) is not None
    assert leases.try_enter(SMALL) is None
    assert leases.count() == (1, 0)


def test_many_tabs_of_one_browser_do_not_keep_the_others_out() -> None:
    leases = Leases(Budget(runs=3, ranks=10))
    tabs = [leases.enter(SMALL, "ada") for _ in range(6)]
    assert [lease.granted for lease in tabs] == [True, True] + [False] * 4
    bob, eve = leases.enter(SMALL, "bob"), leases.enter(SMALL, "eve")
    assert (bob.granted, eve.granted) == (True, False)
    assert leases.place(eve) == 1
    assert [leases.place(lease) for lease in tabs[2:]] == [2, 3, 4, 5]
    leases.release(tabs[0])
    assert (eve.granted, tabs[2].granted) == (True, False)
    assert leases.try_enter(SMALL, "ada") is None
    leases.release(bob)
    assert tabs[2].granted
    # What is ending counts no more: who starts anew does not wait for the earlier run's processes.
    leases.release(eve)
    assert not tabs[3].granted
    tabs[1].leaving = True
    again = leases.enter(SMALL, "ada")
    assert (tabs[3].granted, again.granted) == (True, False)


def test_a_single_place_is_for_everybody_in_turn() -> None:
    leases = Leases(Budget(1, 1))
    first, second = leases.enter(SMALL, "ada"), leases.enter(SMALL, "ada")
    other = leases.enter(SMALL, "bob")
    assert first.granted
    leases.release(first)
    assert (other.granted, second.granted) == (False, True)
    leases.release(second)
    assert other.granted


def test_the_wait_is_told_from_the_lengths_of_earlier_runs() -> None:
    clock = Clock()
    leases = Leases(Budget(2, 2), clock)
    for seconds in (10.0, 30.0):
        lease = leases.enter(SMALL)
        clock.seconds += seconds
        leases.release(lease)
    leases.enter(SMALL), leases.enter(SMALL)
    # Runs take 20 s, two at a time: the first two in line wait for one, the next two for two.
    assert [leases.expected_seconds(place) for place in (1, 2, 3, 4, 5)] == [20, 20, 40, 40, 60]


@pytest.mark.parametrize(
    ("place", "words"),
    [(1, "You are next"), (2, "You are 2nd"), (3, "You are 3rd"), (4, "You are 4th"), (11, "You are 11th"),
     (12, "You are 12th"), (21, "You are 21st"), (112, "You are 112th")],
)  # fmt: skip
def test_the_place_is_a_sentence(place: int, words: str) -> None:
    assert in_line(place, 120) == f"{words} in line; about 2 min"


def test_many_threads_never_exceed_the_budget() -> None:
    leases = Leases(Budget(runs=3, ranks=5, memory_bytes=1000))
    held: list[Need] = []
    guard = threading.Lock()
    wrong: list[str] = []

    def visit(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            need = Need(chance.randint(1, 4), chance.randint(1, 600))
            lease = leases.enter(need)
            if chance.random() < 0.3 or not lease.wait(10):
                leases.release(lease)  # leaves, whether its turn has come or not
                continue
            with guard:
                held.append(need)
                if len(held) > 3 or sum(each.ranks for each in held) > 5:
                    wrong.append(str(held))
            with guard:
                held.remove(need)
            leases.release(lease)

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert leases.count() == (0, 0)


def test_what_a_run_takes() -> None:
    one = Need.of(Experiment())
    two = Need.of(Experiment(strategy="ddp", world_size=2))
    large = Need.of(Experiment(net="resnet18", batch_size=4096))
    assert (one.ranks, two.ranks) == (1, 2)
    assert one.memory_bytes < two.memory_bytes < 10**9
    # Each sample's activations in ResNet-18, of 64 by 64 pixels, take more than a megabyte.
    assert large.memory_bytes > 4 * 10**9
