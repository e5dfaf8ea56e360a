"""Steps whose memory is traced: which they are, and that they say what a ledger says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from lab import vgpu
from lab.events import PURPOSES, MemoryTraced
from lab.timing import step_memory
from lab.timing.recorder import Recorder
from lab.timing.step_memory import StepMemory
from lab.timing.virtual import VirtualTimer
from lab.vgpu.machine import Machine
from lab.vgpu.memory_record import MemoryPoint, thinned

LINEAR = 4 * (10 * 10 + 10)


class _Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(step_memory, "time", clock)
    return clock


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = vgpu.enable(devices=2, memory=1_000_000)
    yield machine
    assert machine.observers == []


def test_the_first_steps_are_traced_and_then_one_in_a_second(clock: _Clock, machine: Machine):
    memory = StepMemory(machine, ["cpu", "vgpu:1"])
    memory.step_begins()
    traced = []
    for step in range(31):
        clock.now += 0.125
        memory.step_ended(step)
        traced += [(trace.device, trace.step) for trace in memory.report()]
    memory.drop()
    # A step that begins a second after the last traced one began is traced.
    assert traced == [("vgpu:1", step) for step in (0, 1, 9, 17, 25)]


def test_a_trace_holds_the_step_to_the_byte(clock: _Clock, machine: Machine):
    net = nn.Linear(10, 10, device="vgpu:0")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    memory = StepMemory(machine, ["vgpu:0", "vgpu:1"])
    memory.step_begins()
    for step in range(2):
        optimizer.zero_grad()
        net(torch.ones(5, 10, device="vgpu:0")).sum().backward()
        optimizer.step()
        machine.pools[0].reset_peak() if step == 0 else None
        memory.step_ended(step)
    memory.drop()
    here, there = memory.report()
    assert memory.report() == []
    assert (here.device, here.step, here.capacity) == ("vgpu:0", 1, 1_000_000)
    assert {purpose: sizes[0] for purpose, sizes in here.sizes.items()} == {
        "parameters": LINEAR,
        "gradients": LINEAR,
        "optimizer state": LINEAR,
        "activations": 0,
        "other": 0,
    }
    totals = [sum(sizes) for sizes in zip(*here.sizes.values(), strict=True)]
    assert max(totals) == machine.pools[0].peak
    assert len(totals) == len(here.times_ns)
    assert {len(sizes) for sizes in there.sizes.values()} == {1}


def test_the_recorder_reports_what_was_traced(clock: _Clock, machine: Machine):
    batches: list[list[object]] = []
    recorder = Recorder(VirtualTimer(["vgpu:0"]), ["vgpu:0"], batches.append)
    with recorder.paused():
        net = nn.Linear(10, 10, device="vgpu:0")
    for _ in range(3):
        with recorder.paused():  # as for an evaluation: what goes on there is no part of a step
            torch.zeros(5000, device="vgpu:0")
        loss = net(torch.ones(5, 10, device="vgpu:0")).sum()
        recorder.finish_step(loss, 5)
    recorder.flush(wait=True)
    traces = [event for batch in batches for event in batch if isinstance(event, MemoryTraced)]
    # The pauses ended what had begun, except before the first step.
    assert [trace.step for trace in traces] == [0]
    assert set(traces[0].sizes["parameters"]) == {LINEAR}
    assert max(traces[0].sizes["other"]) < 5000
    assert max(traces[0].sizes["activations"]) == 5 * 10 * 4 + 4


def test_thinning_keeps_the_ends_and_the_peak():
    totals = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9]
    points = [MemoryPoint(at, dict.fromkeys(PURPOSES, 0) | {"other": total}) for at, total in enumerate(totals)]
    for limit in range(3, 20):
        shown = thinned(points, limit)
        assert len(shown) <= limit
        assert (shown[0], shown[-1]) == (points[0], points[-1])
        assert max(point.total for point in shown) == 9
        assert all(a.at_ns < b.at_ns for a, b in itertools.pairwise(shown))
    assert thinned(points, 15) == points
