"""The virtual clock against schedules worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lab import vgpu
from lab.vgpu.clock import VirtualClock
from lab.vgpu.links import HOST, LinkModel, OwnLinks
from lab.vgpu.machine import Machine
from lab.vgpu.observer import Copy

FREE = LinkModel(bytes_per_ns=1.0, latency_ns=0)


def clock(devices: int = 2, issue_ns: int = 5, link: LinkModel = FREE) -> VirtualClock:
    return VirtualClock(devices, issue_ns, OwnLinks(link))


def test_a_link_takes_its_latency_and_the_bytes_time():
    assert LinkModel(bytes_per_ns=2.0, latency_ns=30).duration_ns(100) == 30 + 50
    assert LinkModel(bytes_per_ns=2.0, latency_ns=30).duration_ns(0) == 30


def test_the_host_issues_and_goes_on():
    c = clock()
    assert [c.run(0, 100), c.run(0, 100), c.run(0, 100)] == [5, 105, 205]
    assert c.host_ns == 15
    assert c.now_ns == 305


def test_short_operations_wait_for_the_host():
    c = clock(issue_ns=50)
    assert [c.run(0, 10), c.run(0, 10)] == [50, 100]
    assert c.now_ns == 110


def test_two_devices_overlap():
    c = clock()
    assert [c.run(0, 100), c.run(1, 100), c.run(0, 10)] == [5, 10, 105]
    assert (c.streams[0].free_ns, c.streams[1].free_ns, c.now_ns) == (115, 110, 115)


def test_a_copy_takes_its_place_in_both_streams():
    c = clock(issue_ns=0, link=LinkModel(bytes_per_ns=2.0, latency_ns=10))
    seen: list[Copy] = []
    c.on_transfer = seen.append
    c.run(0, 100)
    c.run(1, 300)
    c.transfer(0, 1, 80, host_waits=False)  # after both, for 10 + 40
    assert seen == [Copy(0, 1, 0, 0, 80, 0, 300, 350)]
    assert [c.run(0, 1), c.run(1, 1)] == [350, 350]
    assert c.host_ns == 0


def test_every_pair_has_a_link_of_its_own():
    c = clock(devices=3, issue_ns=0, link=LinkModel(bytes_per_ns=1.0, latency_ns=0))
    seen: list[tuple[int, int]] = []
    c.on_transfer = lambda copy: seen.append((copy.start_ns, copy.end_ns))
    c.transfer(HOST, 0, 100, host_waits=False)
    c.transfer(HOST, 1, 70, host_waits=False)  # beside the first
    c.transfer(1, 2, 30, host_waits=False)
    c.transfer(HOST, 0, 10, host_waits=False)  # behind the first
    c.transfer(2, 0, 10, host_waits=False)
    assert seen == [(0, 100), (0, 70), (70, 100), (100, 110), (110, 120)]


def test_the_host_waits_only_where_it_is_told():
    c = clock(issue_ns=5)
    c.run(0, 100)
    c.transfer(0, HOST, 10, host_waits=True)  # issued at 10, from 105 to 115
    assert c.host_ns == 115
    assert c.run(1, 1) == 120  # issued only now
    c.run(0, 1000)
    c.synchronize(1)
    assert c.host_ns == 125
    c.synchronize()
    assert c.host_ns == 125 + 1000
    c.advance_host(2000)
    c.advance_host(500)  # never back
    assert c.run(0, 1) == 2005


def test_marks_tell_what_came_first():
    c = clock(issue_ns=0)
    c.run(0, 10)
    c.streams[0].mark()
    assert c.streams[0].first_ns is None
    c.run(1, 99)
    c.transfer(0, 1, 50, host_waits=False)  # a copy is no operation of the device's
    assert c.streams[0].first_ns is None
    c.run(0, 7)
    c.run(0, 7)
    assert (c.streams[0].first_ns, c.streams[0].last_ns) == (149, 163)


# -- pipelines ----------------------------------------------------------------------------------------------------


def gpipe(stages: int, microbatches: int, forward: int, backward: int, link: LinkModel) -> int:
    """How long model parallelism's order of issue takes, with operations that last as long as they are told."""
    c = clock(devices=stages, issue_ns=0, link=link)
    for _ in range(microbatches):
        for stage in range(stages):
            if stage:
                c.transfer(stage - 1, stage, 100, host_waits=False)
            c.run(stage, forward)
    for _ in range(microbatches):
        for stage in reversed(range(stages)):
            c.run(stage, backward)
            if stage:
                c.transfer(stage, stage - 1, 100, host_waits=False)
    return c.now_ns


INSTANT = LinkModel(bytes_per_ns=1e12, latency_ns=0)


@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize("microbatches", [1, 2, 4, 8])
def test_microbatches_overlap_as_gpipe_says(stages: int, microbatches: int):
    # Huang et al. 2019: (m + s - 1) slots of each kind, so that the bubble is (s - 1) / (m + s - 1).
    whole = 2400
    part = whole // microbatches
    expected = (microbatches + stages - 1) * (part + 2 * part)
    assert gpipe(stages, microbatches, part, 2 * part, INSTANT) == expected
    if microbatches == 1:
        assert expected == stages * 3 * whole  # one device after the other: no overlap


@pytest.mark.parametrize("microbatches", [1, 2, 5])
def test_copies_between_two_stages_are_paid_for_by_both(microbatches: int):
    # Each copy of 7 + 100 holds up both devices; work on them overlaps except for the first and the last.
    copy = 107
    expected = microbatches * (300 + copy) + 300 + microbatches * (500 + copy) + 500
    assert gpipe(2, microbatches, 300, 500, LinkModel(bytes_per_ns=1.0, latency_ns=7)) == expected


# -- real tensors, with operations of a fixed length --------------------------------------------------------------

OPERATION = 1_000_000
ISSUE = 5_000  # of the profile `classroom`


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Two devices on which every operation takes a millisecond."""
    made = vgpu.enable(devices=2, link=LinkModel(bytes_per_ns=1.0, latency_ns=100))
    run = made.clock.run
    monkeypatch.setattr(made.clock, "run", lambda device, duration: run(device, OPERATION))
    return made


def test_operations_go_on_the_clock_of_their_device(machine: Machine):
    x, y = torch.empty(4, device="vgpu:0"), torch.empty(4, device="vgpu:1")
    assert machine.clock.now_ns == 0  # allocating launches nothing
    x.fill_(1)
    y.fill_(2)
    z = x.view(2, 2).t()  # nor do views
    torch.add(x, 1, out=x)
    assert [stream.free_ns for stream in machine.clock.streams] == [ISSUE + 2 * OPERATION, 2 * ISSUE + OPERATION]
    assert machine.clock.host_ns == 3 * ISSUE
    assert z.shape == (2, 2)


@pytest.mark.parametrize(
    ("read", "waits"),
    [
        (lambda x: x.cpu(), True),
        (lambda x: x[0].item(), True),
        (lambda x: x.tolist(), True),
        (lambda x: float(x.detach()[0]), True),
        (lambda x: torch.vgpu.synchronize(), True),
        (lambda x: torch.vgpu.synchronize(0), True),
        (lambda x: torch.vgpu.synchronize(1), False),
        (lambda x: torch.zeros(8).to("vgpu:0"), True),
        (lambda x: torch.zeros(8).to("vgpu:0", non_blocking=True), True),  # not pinned: staged by the host
        (lambda x: x.to("cpu", non_blocking=True), False),
        (lambda x: x.to("vgpu:1"), False),
        (lambda x: x * 2, False),
        (lambda x: x.sum().backward(), False),
        (lambda x: vgpu.peek(x), False),
    ],
)
def test_the_host_waits_where_cudas_would(read: Callable[[torch.Tensor], object], waits: bool, machine: Machine):
    x = torch.empty(8, device="vgpu:0", requires_grad=True)
    with torch.no_grad():
        x.fill_(1)
    read(x)
    assert (machine.clock.host_ns >= OPERATION) == waits


def test_a_copy_of_real_tensors_takes_its_bytes_time(machine: Machine):
    seen: list[tuple[int, int, int, int]] = []
    machine.clock.on_transfer = lambda copy: seen.append(
        (copy.source, copy.target, copy.bytes, copy.end_ns - copy.start_ns)
    )
    x = torch.zeros(10, 10, requires_grad=True)
    y = x.to("vgpu:0").to("vgpu:1")
    y.sum().backward()
    assert seen == [
        (HOST, 0, 400, 20_400),  # the classroom's own link: 20 us and 1 GB/s
        (0, 1, 400, 500),
        (1, 0, 400, 500),
        (0, HOST, 400, 20_400),
    ]


def test_nothing_takes_time_while_the_clock_is_paused(machine: Machine):
    with machine.paused():
        (torch.ones(3, device="vgpu:0") + 1).to("vgpu:1").cpu()
    assert machine.clock.now_ns == 0
    torch.ones(3, device="vgpu:0")
    assert machine.clock.now_ns > 0


def test_measured_operations_take_what_the_cpu_took():
    machine = vgpu.enable(devices=1)
    x = torch.ones(400, 400, device="vgpu:0")
    before = machine.clock.streams[0].free_ns
    for _ in range(20):
        x = x @ x
    took = machine.clock.streams[0].free_ns - before
    assert 20 * 10_000 < took < 20e9  # 128 million operations each: no machine needs less than 10 µs
