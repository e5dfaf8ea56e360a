"""The rank's end of control: gates, and what the parent says."""

from __future__ import annotations

import threading
import time

import pytest

from lab.workers.control import GATES, Control, phase_of, position, step_of


def test_gates_are_numbered_in_the_order_in_which_a_step_comes_to_them() -> None:
    assert [position(2, phase) for phase in GATES] == [10, 11, 12, 13, 14]
    assert [(step_of(gate), phase_of(gate)) for gate in (0, 4, 13)] == [(0, "data"), (0, "update"), (2, "synchronise")]


class Waiter:
    """Comes to a gate on a thread of its own."""

    def __init__(self, control: Control, gate: int) -> None:
        self.waits: list[int] = []
        control.on_wait = self.waits.append
        self._thread = threading.Thread(target=control.gate, args=(gate,))
        self._thread.start()

    def passed(self, timeout: float = 10.0) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def has_said(self, times: int) -> bool:
        deadline = time.monotonic() + 10
        while len(self.waits) < times and time.monotonic() < deadline:
            time.sleep(0.002)
        return len(self.waits) == times


def test_nothing_holds_up_a_rank_that_nobody_has_told_to_wait() -> None:
    control = Control()
    assert Waiter(control, 10_000).passed()
    control.tell(("until", 8, 0))
    assert Waiter(control, 7).passed()


def test_a_held_rank_says_where_it_waits_and_goes_on_to_the_gate_it_is_given() -> None:
    control = Control()
    control.tell(("hold",))
    waiter = Waiter(control, 3)
    assert waiter.has_said(1)
    control.tell(("until", 5, 0))
    assert waiter.passed()
    assert waiter.waits == [3]


def test_a_rank_that_is_where_it_is_sent_says_so_again() -> None:
    control = Control()
    control.tell(("hold",))
    waiter = Waiter(control, 5)
    assert waiter.has_said(1)
    control.tell(("until", 5, 0))
    assert waiter.has_said(2)
    control.tell(("set", {"lr": 1.0}))
    control.tell(("run", 0))
    assert waiter.passed()
    assert waiter.waits == [5, 5]


def test_the_time_stood_still_is_taken_off_the_clock_once() -> None:
    control, shifts = Control(), []
    control.on_shift = shifts.append
    control.tell(("until", 0, 0))
    waiter = Waiter(control, 0)
    assert waiter.has_said(1)
    control.tell(("run", 5_000))
    assert waiter.passed()
    assert Waiter(control, 1).passed()
    assert shifts == [5_000]


def test_a_rank_that_is_bound_says_that_it_has_heard() -> None:
    control, heard = Control(), []
    control.on_bound = lambda: heard.append(True)
    control.tell(("bound", 7))
    assert heard == [True]
    waiter = Waiter(control, 7)
    assert waiter.has_said(1)
    control.tell(("run", 0))
    assert waiter.passed()


def test_a_stop_opens_all_gates() -> None:
    control = Control()
    control.tell(("until", 0, 0))
    waiter = Waiter(control, 0)
    assert waiter.has_said(1)
    control.tell(("stop",))
    assert waiter.passed()
    assert control.stopped


def test_settings_are_handed_out_once_all_of_them_and_in_order() -> None:
    control = Control()
    control.tell(("set", {"lr": 1.0}))
    control.tell(("set", {"fault": "a"}))
    control.tell(("set", {"fault": "b"}))
    assert control.settings() == [("lr", 1.0), ("fault", "a"), ("fault", "b")]
    assert control.settings() == []


def test_a_message_that_it_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not know the message"):
        Control().tell(("dance",))


def test_ranks_that_stand_still_do_so_for_as_long_unless_they_are_told_something() -> None:
    control = Control()
    assert control.stand_still(0.01) == 10_000_000
    threading.Timer(0.05, control.tell, [("hold",)]).start()
    assert 0 < control.stand_still(30) < 20e9
    control.tell(("stop",))
    assert control.stand_still(30) < 1e9
