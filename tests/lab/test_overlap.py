"""Communication beside computation, in round times worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lab.events import Span, SpanKind, StepFinished
from lab.timing.overlap import hidden_ns, merged, outside, overlap
from lab.timing.recorder import Recorder, WaitFinder, as_event, total
from lab.timing.wall import WallTimer

US = 1_000


def row(kind: SpanKind, start: int, end: int, device: str = "cpu") -> tuple[Any, ...]:
    return (device, 0, 0, kind, "", start, end, 0, 0, 0, "")


def test_hidden_is_what_a_device_computes_and_communicates_at_once() -> None:
    rows = [
        row("forward", 0, 100),
        row("backward", 100, 200),
        row("collective", 150, 260),  # 50 beside backward, then exposed
        row("collective", 180, 300),  # beside the other one: its 20 to 200 are counted already
        row("optimizer", 290, 320),  # 10 beside the second one
        row("transfer", 200, 250),  # no computation
        row("backward", 0, 400, device="other"),
    ]
    assert hidden_ns(rows) == {"cpu": 50 + 10}
    assert hidden_ns(rows[:2]) == {}
    assert hidden_ns([row("collective", 0, 10)]) == {"cpu": 0}


def test_intervals_that_touch_become_one() -> None:
    assert merged([(5, 7), (0, 2), (2, 3), (6, 6), (9, 9)]) == [(0, 3), (5, 7), (9, 9)]
    assert overlap([(0, 4), (2, 6)], [(3, 5), (5, 9)]) == 3


@pytest.mark.parametrize(
    ("others", "left"),
    [
        ([], [(10, 20)]),
        ([(0, 10), (20, 30)], [(10, 20)]),
        ([(0, 12), (18, 30)], [(12, 18)]),
        ([(12, 14), (16, 18)], [(10, 12), (14, 16), (18, 20)]),
        ([(10, 20)], []),
        ([(5, 15), (14, 40)], []),
        ([(25, 30)], [(10, 20)]),
    ],
)
def test_what_lies_outside(others: list[tuple[int, int]], left: list[tuple[int, int]]) -> None:
    assert outside((10, 20), others) == left


def test_totals_count_no_moment_twice() -> None:
    """100 computed, 60 communicated, of which 40 at once: 120 occupied of 200."""
    kinds: dict[SpanKind, int] = {"forward": 30, "backward": 60, "optimizer": 10, "collective": 60, "wait": 80}
    totals = total(kinds, hidden=40, end_ns=200)
    assert (totals.busy_ns, totals.collective_ns, totals.hidden_ns, totals.idle_ns) == (100, 60, 40, 80)


def test_a_device_that_communicates_does_not_wait() -> None:
    """Two collectives overlap with backward and with each other; between the last one and the update are 30 µs."""

    def span(kind: SpanKind, start_us: int, end_us: int) -> Span:
        return Span("cpu", 0, 0, kind, kind, start_us * US, end_us * US)

    spans = [
        span("backward", 0, 100),
        span("collective", 40, 160),
        span("collective", 90, 130),
        span("optimizer", 190, 200),
    ]
    [wait] = WaitFinder(["cpu"]).waits(spans)
    assert (wait.start_ns, wait.end_ns) == (160 * US, 190 * US)


class SetClock(WallTimer):
    """A wall clock that is put forward by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0

    def now_ns(self) -> int:
        return self.at

    def begin(self, device: str) -> int:
        return self.at

    def end(self, mark: int) -> tuple[int, int]:
        return mark, self.at


def test_a_bucket_of_the_cpu_is_recorded_beside_the_turns_of_layers() -> None:
    clock, events = SetClock(), []
    recorder = Recorder(clock, ["cpu"], events.extend)
    recorder.placement = {"fc": "cpu", "conv": "cpu"}
    recorder.backward_turn("fc", 0)
    clock.at = 100
    done = recorder.collective("cpu", "bucket 0")
    recorder.backward_turn("conv", 0)
    clock.at = 300
    recorder.end_turn()  # the last bucket has come
    clock.at = 350
    done(4_000)
    clock.at = 400
    with recorder.span("optimizer", ["cpu"], "optimizer"):
        clock.at = 450
    recorder.finish_step(torch.zeros(()), 1)
    recorder.flush(wait=True)
    told = [as_event(event) for event in events]
    spans = {(s.kind, s.name): (s.start_ns, s.end_ns, s.bytes) for s in told if isinstance(s, Span)}
    assert spans == {
        ("backward", "fc"): (0, 100, 0),
        ("collective", "bucket 0"): (100, 350, 4_000),
        ("backward", "conv"): (100, 300, 0),
        ("optimizer", "optimizer"): (400, 450, 0),
    }
    [finished] = [event for event in told if isinstance(event, StepFinished)]
    assert finished.end_ns == 450
    totals = recorder.totals()["cpu"]
    assert (totals.busy_ns, totals.collective_ns, totals.hidden_ns) == (350, 250, 200)
    assert totals.idle_ns == 450 - 350 - 250 + 200
