"""Clocks, the recorder and waits, with times worked out by hand."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from lab import timing, vgpu
from lab.events import DeviceTotals, MemorySampled, Span, StepFinished
from lab.timing.recorder import SHORTEST_WAIT_NS, Recorder, WaitFinder, as_event
from lab.timing.virtual import VirtualTimer
from lab.timing.wall import WallTimer
from lab.vgpu.links import LinkModel
from lab.vgpu.observer import Collective

MS = 1_000_000


@pytest.mark.parametrize(
    ("devices", "asked", "clock"),
    [
        (["cpu"], "auto", "wall"),
        (["cuda:0", "cuda:1"], "auto", "cuda"),
        (["vgpu:0"], "auto", "virtual"),
        (["vgpu:0", "cpu"], "auto", "virtual"),
        (["cuda:0", "cpu"], "auto", "wall"),
        (["cuda:0", "vgpu:0"], "auto", "wall"),
        (["vgpu:0"], "wall", "wall"),
    ],
)
def test_the_clock_that_suits_the_devices(devices: list[str], asked: Any, clock: str):
    assert timing.clock_for(devices, asked) == clock


# -- the wall clock -----------------------------------------------------------------------------------------------


def test_wall_timer_measures_and_leaves_pauses_out():
    timer = WallTimer()
    mark = timer.begin("cpu")
    time.sleep(0.02)
    first = timer.end(mark)
    with timer.paused():
        time.sleep(0.2)
    mark = timer.begin("cpu")
    second = timer.end(mark)
    assert timer.ready(first)
    start, end = timer.read(first)
    assert 20 * MS <= end - start < 180 * MS
    assert second[0] - end < 180 * MS  # the pause is not in it
    assert second[0] >= end


def test_wall_timer_knows_the_memory():
    allocated, peak, capacity = WallTimer().memory("cpu")
    assert 10_000_000 < allocated <= peak < capacity
    vgpu.enable(devices=1, memory=1000)
    x = torch.zeros(10, device="vgpu:0")
    assert WallTimer().memory("vgpu:0") == (x.nbytes, 40, 1000)


# -- the virtual clock --------------------------------------------------------------------------------------------


def test_virtual_timer_reads_the_devices_own_times():
    machine = vgpu.enable(devices=2, link=LinkModel(bytes_per_ns=1.0, latency_ns=0))
    timer, clock, issue = VirtualTimer(), machine.clock, machine.clock.issue_ns
    mark = timer.begin("vgpu:0")
    assert timer.end(mark) is None  # nothing happened
    mark = timer.begin("vgpu:0")
    clock.run(0, 100_000)
    clock.run(0, 50_000)
    clock.run(1, 999_000)
    assert timer.end(mark) == (issue, issue + 150_000)
    assert timer.now_ns() == 3 * issue + 999_000
    seen: list[Any] = []
    timer.on_transfer(lambda *transfer: seen.append(transfer))
    clock.transfer(0, 1, 500, host_waits=False)
    start = 3 * issue + 999_000
    assert seen == [("vgpu:0", "vgpu:1", 500, (start, start + 500))]
    clock.transfer(-1, 0, 5, host_waits=False)
    assert seen[-1][:3] == ("cpu", "vgpu:0", 5)


def test_collectives_of_the_virtual_clock_become_spans_under_the_buckets_names():
    clock, events = vgpu.enable(devices=2).clock, []
    recorder = Recorder(VirtualTimer(), ["vgpu:1"], events.extend)
    done = recorder.collective("vgpu:1", "bucket 0")
    clock.tell_collective(
        Collective(1, 1, "all_reduce", 500, ready_ns=1_000, start_ns=3_000, end_ns=9_000, last_rank=0)
    )  # a wait too short to be told of
    done(500)
    clock.tell_collective(Collective(1, 1, "broadcast", 8, ready_ns=9_000, start_ns=9_000, end_ns=9_500, last_rank=1))
    recorder.finish_step(torch.zeros(()), 1)
    recorder.flush(wait=True)
    spans = [event for event in map(as_event, events) if isinstance(event, Span)]
    assert [(s.device, s.kind, s.name, s.start_ns, s.end_ns, s.bytes) for s in spans] == [
        ("vgpu:1", "collective", "bucket 0", 3_000, 9_000, 500),
        ("vgpu:1", "collective", "broadcast", 9_000, 9_500, 8),
    ]


def test_a_device_that_computes_does_not_wait_for_another_rank():
    """In round times: ready for the all-reduce at 100 µs, and still computing until 130; the others come at 160."""
    clock, events = vgpu.enable(devices=2).clock, []
    recorder = Recorder(VirtualTimer(), ["vgpu:1"], events.extend)
    recorder.placement = {"fc": "vgpu:1"}
    start_ns = clock.issue_ns
    recorder.backward_turn("fc", 0)
    clock.run(1, 130_000)
    recorder.end_turn()
    ready, last = start_ns + 100_000, start_ns + 160_000
    clock.tell_collective(
        Collective(1, 1, "all_reduce", 40, ready_ns=ready, start_ns=last, end_ns=last + 9_000, last_rank=3)
    )
    recorder.finish_step(torch.zeros(()), 1)
    recorder.flush(wait=True)
    [wait] = [event for event in map(as_event, events) if isinstance(event, Span) and event.kind == "wait"]
    assert (wait.device, wait.name, wait.start_ns, wait.end_ns) == ("vgpu:1", "rank 3", start_ns + 130_000, last)
    totals = recorder.totals()["vgpu:1"]
    assert (totals.busy_ns, totals.collective_ns, totals.hidden_ns) == (130_000, 9_000, 0)
    assert totals.idle_ns == start_ns + 30_000


def test_the_cpu_holds_up_the_virtual_host():
    clock = vgpu.enable(devices=1).clock
    timer = VirtualTimer()
    clock.advance_host(7_000)
    mark = timer.begin("cpu")
    time.sleep(0.02)
    start, end = timer.end(mark)
    assert start == 7_000
    assert end - start >= 20 * MS
    assert clock.host_ns == end
    assert clock.run(0, 1) == end + clock.issue_ns


def test_a_kept_loss_makes_nobody_wait():
    clock = vgpu.enable(devices=1).clock
    timer = VirtualTimer()
    loss = torch.tensor(2.5, device="vgpu:0")
    loss = loss * 2
    host = clock.host_ns
    assert timer.value(timer.keep(loss)) == 5.0
    assert clock.host_ns == host


# -- the recorder, on a clock that the test sets ------------------------------------------------------------------


class FakeTimer:
    """Its time is what the test says; spans may be unfinished on their device."""

    def __init__(self) -> None:
        self.now = 0
        self.done_until = math.inf
        self.pauses = 0

    def begin(self, device: str) -> tuple[str, int]:
        return device, self.now

    def end(self, mark: tuple[str, int]) -> tuple[int, int] | None:
        return (mark[1], self.now) if self.now > mark[1] else None

    def read(self, interval: tuple[int, int]) -> tuple[int, int]:
        return interval

    def ready(self, interval: tuple[int, int]) -> bool:
        return interval[1] <= self.done_until

    def keep(self, loss: Tensor) -> Tensor:
        return loss.clone()

    def value(self, kept: Tensor) -> float:
        return kept.item()

    def memory(self, device: str) -> tuple[int, int, int]:
        return {"d0": 10, "d1": 20}[device], 30, 40

    def now_ns(self) -> int:
        return self.now

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pauses += 1
        yield


class Desk:
    """A recorder of layers a (on d0) and b (on d1), and what it emitted."""

    def __init__(self, microbatches: int = 1) -> None:
        self.timer = FakeTimer()
        self.batches: list[list[Any]] = []
        self.recorder = Recorder(self.timer, ["d0", "d1"], self.batches.append, rank=3, microbatches=microbatches)
        self.recorder.placement = {"a": "d0", "b": "d1"}
        self.recorder.flops = {("forward", "a"): 600, ("backward", "a"): 1200}

    def at(self, now: int) -> Recorder:
        self.timer.now = now
        return self.recorder

    def events(self, kind: type) -> list[Any]:
        return [event for batch in self.batches for event in map(as_event, batch) if isinstance(event, kind)]


@pytest.fixture(autouse=True)
def _no_trifles(monkeypatch: pytest.MonkeyPatch) -> None:
    # A turn that a copy cuts off is a trifle by the wall clock, on which these tests take no time.
    monkeypatch.setattr("lab.timing.recorder.TRIFLE_NS", 0)


def one_step(desk: Desk) -> None:
    with desk.at(0).span("data", ["d0"], "batch"):
        desk.at(100)
    desk.at(110).forward_turn("a", 0)
    desk.at(200).forward_turn("b", 0)
    desk.at(260).backward_turn("b", 0)
    desk.at(300).backward_turn("b", 0)  # the same turn still
    desk.at(340).backward_turn("a", 0)
    desk.at(450).end_turn()
    with desk.at(460).span("optimizer", ["d0", "d1"], "optimizer"):
        desk.at(500)
    desk.at(500).finish_step(torch.tensor(1.5), samples=8)


def test_a_step_by_hand():
    desk = Desk()
    one_step(desk)
    desk.recorder.flush(wait=True)
    assert desk.events(Span) == [
        Span("d0", 3, 0, "data", "batch", 0, 100),
        Span("d0", 3, 0, "forward", "a", 110, 200, flops=600),
        Span("d1", 3, 0, "forward", "b", 200, 260),
        Span("d1", 3, 0, "backward", "b", 260, 340),
        Span("d0", 3, 0, "backward", "a", 340, 450, flops=1200),
        Span("d0", 3, 0, "optimizer", "optimizer", 460, 500),
        Span("d1", 3, 0, "optimizer", "optimizer", 460, 500),
    ]
    (finished,) = desk.events(StepFinished)
    assert finished == StepFinished(0, 3, 1.5, 8, 500 / 1e9, 500)
    assert desk.recorder.steps_done == 1
    assert desk.events(MemorySampled)[-2:] == [
        MemorySampled("d0", 500, 10, 30, 40),
        MemorySampled("d1", 500, 20, 30, 40),
    ]
    assert desk.recorder.totals() == {
        "d0": DeviceTotals(100 + 90 + 110 + 40, 0, 0, 500 - 340),
        "d1": DeviceTotals(60 + 80 + 40, 0, 0, 500 - 180),
    }


def test_steps_go_on_where_the_last_ended():
    desk = Desk()
    one_step(desk)
    desk.at(520).forward_turn("a", 0)
    desk.at(700).finish_step(torch.tensor(0.5), samples=2)
    desk.recorder.flush(wait=True)
    first, second = desk.events(StepFinished)
    assert (second.step, second.loss, second.samples, second.seconds, second.end_ns) == (1, 0.5, 2, 200 / 1e9, 700)
    assert [span.step for span in desk.events(Span)] == [0] * 7 + [1]
    assert first.seconds + second.seconds == pytest.approx(700 / 1e9)


def test_a_transfer_cuts_a_turn_in_two_and_occupies_both_ends():
    desk = Desk()
    desk.at(0).forward_turn("b", 0)
    with desk.at(100).transfer("d0", "d1", 64):
        desk.at(130)
    desk.at(200).end_turn()
    with desk.at(200).transfer("cpu", "d1", 8):  # an end that is no device of the rank's
        desk.at(210)
    desk.recorder.finish_step(torch.tensor(0.0), samples=1)
    desk.recorder.flush(wait=True)
    assert desk.events(Span) == [
        Span("d1", 3, 0, "forward", "b", 0, 100),
        Span("d0", 3, 0, "transfer", "d0 → d1", 100, 130, bytes=64, peer="d1"),
        Span("d1", 3, 0, "forward", "b", 130, 200),
        Span("cpu", 3, 0, "transfer", "cpu → d1", 200, 210, bytes=8, peer="d1"),
    ]
    assert desk.recorder.totals() == {
        "d0": DeviceTotals(0, 30, 0, 210 - 30),
        "d1": DeviceTotals(100 + 70, 30 + 10, 0, 0),
    }


def test_turns_belong_to_the_microbatch_that_began_them():
    desk = Desk(microbatches=2)
    for microbatch in (0, 1):
        desk.recorder.microbatch = microbatch
        desk.at(100 * microbatch).forward_turn("a", 0)
        desk.at(100 * microbatch + 60).forward_turn("b", 0)
    for microbatch in (0, 1):
        desk.recorder.microbatch = microbatch
        desk.at(200 + 50 * microbatch).backward_turn("a", 0)
    desk.at(300).finish_step(torch.tensor(0.0), samples=4)
    desk.recorder.flush(wait=True)
    assert [(s.kind, s.name, s.microbatch, s.start_ns, s.end_ns, s.flops) for s in desk.events(Span)] == [
        ("forward", "a", 0, 0, 60, 300),
        ("forward", "b", 0, 60, 100, 0),
        ("forward", "a", 1, 100, 160, 300),
        ("forward", "b", 1, 160, 200, 0),
        ("backward", "a", 0, 200, 250, 600),
        ("backward", "a", 1, 250, 300, 600),
    ]


def test_a_step_waits_for_its_device_unless_told_not_to():
    desk = Desk()
    desk.timer.done_until = 400
    one_step(desk)
    desk.recorder.flush()
    assert desk.events(StepFinished) == []
    desk.timer.done_until = 500
    desk.recorder.flush()
    assert [event.step for event in desk.events(StepFinished)] == [0]
    desk.timer.done_until = 0
    desk.at(600).finish_step(torch.tensor(0.0), samples=1)
    desk.recorder.flush(wait=True)
    assert len(desk.events(StepFinished)) == 2


def test_nothing_is_recorded_in_a_pause_and_all_before_it_is_read():
    desk = Desk()
    one_step(desk)
    with desk.recorder.paused():
        assert len(desk.events(StepFinished)) == 1
        desk.at(600).forward_turn("a", 0)
        desk.at(700).end_turn()
        with desk.recorder.transfer("d0", "d1", 5):
            desk.at(800)
    desk.at(900).finish_step(torch.tensor(0.0), samples=1)
    desk.recorder.flush(wait=True)
    assert desk.timer.pauses == 1
    assert len(desk.events(Span)) == 7


def test_rows_are_spans():
    row = ("d0", 0, 1, "forward", "a", 2, 3, 4, 5, 6, "d1")
    assert as_event(row) == Span("d0", 0, 1, "forward", "a", 2, 3, bytes=4, flops=5, microbatch=6, peer="d1")
    sample = MemorySampled("d0", 1, 2, 3, 4)
    assert as_event(sample) is sample


# -- waits --------------------------------------------------------------------------------------------------------

K = SHORTEST_WAIT_NS


def test_gaps_name_who_was_busy_meanwhile():
    find = WaitFinder(["d0", "d1"])
    spans = [
        Span("d0", 0, 0, "forward", "a", 0, 10 * K),
        Span("d0", 0, 0, "transfer", "d0 → d1", 10 * K, 12 * K, bytes=1, peer="d1"),
        Span("d1", 0, 0, "forward", "b", 12 * K, 20 * K),
        Span("d1", 0, 0, "backward", "b", 20 * K, 30 * K),
        Span("d0", 0, 0, "backward", "a", 30 * K, 40 * K),
    ]
    assert find.waits(spans) == [
        Span("d0", 0, 0, "wait", "d1", 12 * K, 30 * K),
        Span("d1", 0, 0, "wait", "d0", 0, 10 * K),
    ]
    later = [
        Span("d0", 0, 1, "forward", "a", 40 * K + K - 1, 45 * K),  # too short a gap to be a wait
        Span("d1", 0, 1, "forward", "b", 50 * K, 51 * K),
    ]
    # The second device's gap began in the step before, at the end of its last span.
    assert find.waits(later) == [Span("d1", 0, 1, "wait", "d0", 30 * K, 50 * K)]
    idle = [Span("d0", 0, 2, "forward", "a", 60 * K, 61 * K)]
    assert find.waits(idle) == [Span("d0", 0, 2, "wait", "host", 45 * K, 60 * K)]


# -- CUDA ---------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs a CUDA device")
def test_cuda_timer_times_the_stream():
    timer = timing.make_timer("cuda", ["cuda:0"])
    x = torch.ones(4096, 4096, device="cuda:0")
    assert timer.end(timer.begin("cpu")) is None
    x @ x
    torch.cuda.synchronize()
    mark = timer.begin("cuda:0")
    began = time.perf_counter_ns()
    for _ in range(20):
        y = x @ x
    issued = time.perf_counter_ns() - began
    interval = timer.end(mark)
    kept = timer.keep(y[0, 0])
    start, end = timer.read(interval)
    took = time.perf_counter_ns() - began
    assert timer.ready(interval)
    assert issued < end - start <= took * 1.1
    torch.cuda.synchronize()
    assert timer.value(kept) == 4096
    with timer.paused():
        torch.cuda._sleep(200_000_000)
    again = timer.read(timer.end(timer.begin("cuda:0")))
    assert again[0] - end < 50 * MS
    allocated, peak, capacity = timer.memory("cuda:0")
    assert x.nbytes <= allocated <= peak <= capacity
