"""Streams and events of `torch.vgpu` on real tensors; every operation takes a millisecond."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from lab import vgpu
from lab.errors import DeviceError
from lab.vgpu.links import LinkModel, OwnLinks
from lab.vgpu.machine import Machine
from lab.vgpu.observer import Copy, Operation

OPERATION = 1_000_000
BYTE = 1000
"""What a byte takes on every link, in nanoseconds."""


class Watch:
    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def operation(self, operation: Operation) -> None:
        self.seen.append((operation.device, operation.stream, operation.start_ns, operation.end_ns))

    def transfer(self, copy: Copy) -> None:
        self.seen.append((copy.source, copy.source_stream, copy.target, copy.target_stream, copy.start_ns, copy.end_ns))

    def memory(self, *about: object) -> None: ...


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Two devices; issuing costs nothing, so that the schedules can be read."""
    made = vgpu.enable(devices=2)
    made.clock.issue_ns = 0
    made.clock.topology = OwnLinks(LinkModel(bytes_per_ns=1 / BYTE, latency_ns=0))
    made.model = type("Millisecond", (), {"duration_ns": staticmethod(lambda *about: OPERATION)})()
    yield made
    torch.vgpu.set_device(0)


@pytest.fixture
def watch(machine: Machine) -> Watch:
    made = Watch()
    machine.observers.append(made)
    return made


def pinned(count: int) -> torch.Tensor:
    """A tensor that says it lies in pinned memory, on a machine without a device that could pin it."""
    tensor = torch.ones(count)
    tensor.is_pinned = lambda *device: True  # type: ignore[method-assign]
    return tensor


def test_work_goes_to_the_current_stream(watch: Watch):
    x, y = torch.empty(2, device="vgpu:0"), torch.empty(2, device="vgpu:1")
    side = torch.vgpu.Stream(1)
    assert (side.device, side.stream_id) == (torch.device("vgpu:1"), 1)
    with torch.vgpu.stream(side):
        assert torch.vgpu.current_device() == 1
        assert torch.vgpu.current_stream() == side
        assert torch.vgpu.current_stream(0) == torch.vgpu.default_stream(0)
        x.fill_(1)
        y.fill_(1)
        with torch.vgpu.stream(None):
            y.fill_(1)
        y.to("vgpu:0")
    assert torch.vgpu.current_device() == 0
    assert torch.vgpu.current_stream(1) == torch.vgpu.default_stream(1) != side
    y.fill_(1)
    assert watch.seen == [
        (0, 0, 0, OPERATION),
        (1, 1, 0, OPERATION),
        (1, 1, OPERATION, 2 * OPERATION),
        (1, 1, 0, 0, 2 * OPERATION, 2 * OPERATION + 8 * BYTE),
        (1, 0, 2 * OPERATION, 3 * OPERATION),
    ]


def test_a_stream_is_a_context_itself_and_can_be_set():
    side, other = torch.vgpu.Stream(), torch.vgpu.Stream("vgpu:1", priority=-1)
    with side as entered, other, side:
        assert entered is side
        assert torch.vgpu.current_stream() == side
        assert torch.vgpu.current_stream(1) == other
    assert torch.vgpu.current_stream() == torch.vgpu.default_stream()
    torch.vgpu.set_stream(other)
    assert torch.vgpu.current_device() == 1
    assert torch.vgpu.current_stream() == other
    torch.vgpu.set_stream(None)
    torch.vgpu.set_stream(torch.vgpu.default_stream(1))
    assert torch.vgpu.current_stream() == torch.vgpu.default_stream(1)
    assert other.priority == -1


def test_streams_are_the_same_by_number_and_device():
    one, two = torch.vgpu.Stream(0), torch.vgpu.Stream(0)
    with one:
        again = torch.vgpu.current_stream()
    assert again == one != two
    assert len({one, again, two}) == 2
    assert one != torch.vgpu.Stream(1)
    assert isinstance(one, torch.Stream)
    assert repr(one) == "<torch.vgpu.Stream device=vgpu:0 number=1>"


def test_prefetching_on_a_side_stream_overlaps_with_compute(machine: Machine):
    # The usual double buffer: copies of 0.8 ms beside computing of 1 ms.
    batches = [pinned(200) for _ in range(4)]
    copy_ns = 800 * BYTE
    side, main = torch.vgpu.Stream(), torch.vgpu.current_stream()

    def fetch(batch: torch.Tensor) -> torch.Tensor:
        with torch.vgpu.stream(side):
            return batch.to("vgpu", non_blocking=True)

    begin, end = (torch.vgpu.Event(enable_timing=True) for _ in range(2))
    begin.record()
    following = fetch(batches[0])
    for number in range(4):
        main.wait_stream(side)
        here = following
        here.record_stream(main)
        if number < 3:
            following = fetch(batches[number + 1])
        here.mul_(2)
    end.record()
    assert machine.clock.host_ns == 0
    end.synchronize()
    assert machine.clock.host_ns == copy_ns + 4 * OPERATION
    assert begin.elapsed_time(end) == pytest.approx(4.8)


@pytest.mark.parametrize(
    ("copy", "waits"),
    [
        (lambda: pinned(9).to("vgpu:0", non_blocking=True), False),
        (lambda: pinned(9).to("vgpu:0"), True),
        (lambda: torch.ones(9).to("vgpu:0", non_blocking=True), True),  # staged by the host
        (lambda: torch.empty(9, device="vgpu:0").copy_(pinned(9), non_blocking=True), False),
        (lambda: torch.empty(9, device="vgpu:0").copy_(torch.ones(9), non_blocking=True), True),
        (lambda: torch.empty(9, device="vgpu:0").to("cpu", non_blocking=True), False),  # PyTorch pins the result
        (lambda: pinned(9).copy_(torch.empty(9, device="vgpu:0"), non_blocking=True), False),
        (lambda: torch.ones(9).copy_(torch.empty(9, device="vgpu:0"), non_blocking=True), True),
        (lambda: torch.empty(9, device="vgpu:0").cpu(), True),
        (lambda: torch.nn.Linear(9, 1, bias=False).to("vgpu:0", non_blocking=True), True),
    ],
)
def test_the_host_waits_for_copies_of_pageable_memory(copy, waits: bool, machine: Machine):
    copy()
    assert machine.clock.host_ns == (36 * BYTE if waits else 0)


def test_events_across_streams_and_devices(watch: Watch):
    x, y = torch.empty(2, device="vgpu:0"), torch.empty(2, device="vgpu:1")
    side = torch.vgpu.Stream(1)
    x.fill_(1)
    event = torch.vgpu.current_stream().record_event()
    x.fill_(1)
    side.wait_event(event)
    with torch.vgpu.stream(side):
        y.fill_(1)
        y.fill_(1)
    y.fill_(1)  # on the default stream, which waits for nothing
    assert [when[2] for when in watch.seen] == [0, OPERATION, OPERATION, 2 * OPERATION, 0]


def test_what_the_host_asks_and_waits_for(machine: Machine):
    side, event = torch.vgpu.Stream(), torch.vgpu.Event()
    x = torch.empty(2, device="vgpu:0")
    assert side.query()
    assert event.query()  # never recorded
    event.synchronize()
    event.wait(side)
    with side:
        x.fill_(1)
        event.record()
        x.fill_(1)
    assert machine.clock.host_ns == 0
    assert not event.query()
    event.synchronize()
    assert machine.clock.host_ns == OPERATION
    assert event.query()
    assert not side.query()
    side.synchronize()
    assert machine.clock.host_ns == 2 * OPERATION
    assert side.query()
    torch.vgpu.synchronize()
    assert machine.clock.host_ns == 2 * OPERATION


def test_a_loop_that_asks_comes_to_an_end(machine: Machine):
    torch.empty(2, device="vgpu:0").fill_(1)
    event = torch.vgpu.current_stream().record_event()
    while not event.query():
        pass
    assert machine.clock.host_ns == OPERATION


def test_errors_of_events():
    plain, begin, end = torch.vgpu.Event(), *(torch.vgpu.Event(enable_timing=True) for _ in range(2))
    for first, second in ((plain, begin), (begin, plain)):
        with pytest.raises(ValueError, match=r"created with argument 'enable_timing=True'\."):
            first.elapsed_time(second)
    begin.record()
    with pytest.raises(ValueError, match="must be recorded before calculating elapsed time"):
        begin.elapsed_time(end)
    torch.empty(2, device="vgpu:0").fill_(1)
    end.record()
    with pytest.raises(RuntimeError, match="must be completed before calculating elapsed time"):
        begin.elapsed_time(end)
    torch.vgpu.synchronize()
    assert begin.elapsed_time(end) == 1.0
    assert end.elapsed_time(begin) == -1.0
    assert end.device == torch.device("vgpu:0")
    assert plain.device is None
    with pytest.raises(RuntimeError, match=r"Event device 0 does not match recording stream's device 1\."):
        end.record(torch.vgpu.default_stream(1))
    with pytest.raises(DeviceError, match="Leave out interprocess=True"):
        torch.vgpu.Event(interprocess=True)


def test_streams_and_events_outlive_their_machine(machine: Machine):
    side, event = torch.vgpu.Stream(1), torch.vgpu.Event(enable_timing=True)
    with side:
        torch.empty(2, device="vgpu:1").fill_(1)
        event.record()
    machine = vgpu.enable(devices=2)
    assert event.query()
    event.synchronize()
    torch.vgpu.current_stream().wait_event(event)
    assert machine.clock.now_ns == 0
    with side:
        torch.empty(2, device="vgpu:1").fill_(1)
    assert not side.query()
    later = torch.vgpu.Event(enable_timing=True)
    later.record()
    with pytest.raises(ValueError, match="one clock"):
        event.elapsed_time(later)
    vgpu.enable(devices=1)
    with pytest.raises(DeviceError, match="invalid device ordinal"), side:
        pass


def test_each_thread_chooses_its_own_streams(watch: Watch):
    side = torch.vgpu.Stream()

    def work() -> None:
        torch.empty(2, device="vgpu:0").fill_(1)

    with side:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        work()
    assert [when[1] for when in watch.seen] == [0, side.stream_id]
