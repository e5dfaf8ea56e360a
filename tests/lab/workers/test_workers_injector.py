"""The injector: which rank's faults happen, when, and for how long."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lab import vgpu
from lab.experiment import Link
from lab.faults import Fault
from lab.vgpu.links import Hindered
from lab.workers import slowness
from lab.workers.injector import InjectedError, Injector
from lab.workers.slowness import Emulated, Simulated


def injector(*faults: str, rank: int = 1, slow: Any = None) -> Injector:
    group: Any = SimpleNamespace(rank=rank)
    return Injector([Fault.read(fault) for fault in faults], group, slow or Emulated())


class Clock:
    """Time that passes only when somebody sleeps, or when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        stub = SimpleNamespace(perf_counter=lambda: self.now, monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(slowness, "time", stub)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_fault_happens_in_its_rank_from_its_step_on_and_once() -> None:
    own = injector("raise:1:3")
    for step in range(3):
        own.at(step, "data")
    with pytest.raises(InjectedError, match="rank 1 raised an error before step 3, as you asked"):
        own.at(3, "data")
    own.at(4, "data")
    other = injector("raise:0:0")
    other.at(5, "data")


@pytest.mark.parametrize("step", [2, 7])
def test_a_live_fault_whose_step_has_gone_by_happens_now(step: int) -> None:
    own = injector()
    own.at(step, "data")
    own.add(Fault.read("interrupt:1:0"))
    with pytest.raises(KeyboardInterrupt):
        own.at(step + 1, "data")


def test_what_spoils_an_all_reduce_does_so_for_one_bucket_of_one_step() -> None:
    own = injector("nan:1:2", "skip:1:2", "wrong_shape:1:2")
    own.at(1, "data")
    gradients = torch.ones(4)
    own.spoil(gradients)
    assert (torch.isfinite(gradients).all(), own.skips(), own.misshapen(gradients)) == (True, False, None)
    own.at(2, "data")
    own.spoil(gradients)
    assert gradients.isnan().tolist() == [True, False, False, False]
    assert own.skips()
    assert own.misshapen(gradients).shape == (5,)
    whole = torch.ones(4)
    own.spoil(whole)
    assert (torch.isfinite(whole).all(), own.skips(), own.misshapen(whole)) == (True, False, None)


def test_a_straggler_sleeps_for_as_long_as_it_computes_times_what_is_missing(clock: Clock) -> None:
    own = injector("straggle:1:0:3")
    own.at(0, "data")
    own.at(0, "forward")
    clock.now += 2.0
    own.spoil(torch.ones(1))  # the first bucket is full
    clock.now += 0.5
    own.spoil(torch.ones(1))  # and the second
    assert clock.slept == [pytest.approx(4.0), pytest.approx(1.0)]


def test_an_emulated_link_carries_one_thing_after_another(clock: Clock) -> None:
    own = injector("delay:1:0:100", "throttle:1:0:2")
    assert not own.emulates_link
    own.at(0, "data")
    assert own.emulates_link
    own.hold_up(1_000_000)  # 100 ms, and 1 MB at 2 MB/s
    assert clock.now == pytest.approx(0.6)
    own.relink(Link(bandwidth_gb_per_s=1.0, latency_us=0.0))
    own.hold_up(500_000_000)
    assert clock.now == pytest.approx(1.1)


def test_on_virtual_gpus_every_rank_knows_of_a_slow_link_and_only_the_rank_itself_is_slow() -> None:
    machine = vgpu.enable(devices=4, link="nvlink3")
    link = machine.clock.topology.route(0, 1).link
    slow = Simulated(machine, lambda rank: (2 * rank, 2 * rank + 1))
    other = injector("delay:1:0:5", "throttle:1:0:10", "straggle:1:0:3", rank=0, slow=slow)
    other.at(0, "data")
    other.at(0, "forward")
    assert machine.slowness == 1
    route = machine.clock.topology.route
    assert route(0, 1).link == link
    assert route(1, 2).link.latency_ns == link.latency_ns + 5_000_000
    assert route(2, 0).link.bytes_per_ns == 10e6 / 1e9
    assert not other.emulates_link
    own = injector("straggle:0:0:3", rank=0, slow=slow)
    own.at(0, "data")
    assert machine.slowness == 3


def test_a_link_that_is_laid_anew_stays_hindered() -> None:
    machine = vgpu.enable(devices=2, link="nvlink3")
    slow = Simulated(machine, lambda rank: (rank,))
    own = injector("delay:1:0:5", slow=slow)
    own.at(0, "data")
    for _ in range(3):
        own.at(0, "forward")
    assert not isinstance(machine.clock.topology.topology, Hindered)
    machine.clock.topology = vgpu.enable(devices=2, link="pcie3").clock.topology
    own.at(1, "forward")
    assert isinstance(machine.clock.topology, Hindered)
    assert math.isinf(slow._hindrances[1].bytes_per_ns)
