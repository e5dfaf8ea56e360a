"""Backward's operations go to the streams of their forward, as on CUDA."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from lab import vgpu
from lab.vgpu.backward_streams import _MOST_CHANGES, _Changes
from lab.vgpu.clock import Stream
from lab.vgpu.links import LinkModel, OwnLinks
from lab.vgpu.machine import Machine
from lab.vgpu.observer import Operation

OPERATION = 1000


class Watch:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def operation(self, operation: Operation) -> None:
        self.seen.append((operation.func._schema.name[6:], operation.stream, operation.start_ns))

    def transfer(self, *about: object) -> None: ...

    def memory(self, *about: object) -> None: ...

    def streams(self) -> list[tuple[str, int]]:
        return [(name, stream) for name, stream, _ in self.seen]


@pytest.fixture(autouse=True)
def machine() -> Machine:
    made = vgpu.enable(devices=2)
    made.clock.issue_ns = 0
    made.clock.topology = OwnLinks(LinkModel(bytes_per_ns=1.0, latency_ns=0))
    made.model = type("Alike", (), {"duration_ns": staticmethod(lambda *about: OPERATION)})()
    return made


@pytest.fixture
def watch(machine: Machine) -> Iterator[Watch]:
    made = Watch()
    machine.observers.append(made)
    yield made
    machine.observers.remove(made)


def leaf() -> torch.Tensor:
    return torch.ones(2, device="vgpu:0", requires_grad=True)


def test_each_operation_goes_back_on_its_own_stream(machine: Machine, watch: Watch):
    x, side = leaf(), torch.vgpu.Stream()
    watch.seen.clear()
    y = x.sin()
    side.wait_stream(torch.vgpu.current_stream())
    with torch.vgpu.stream(side):
        z = y.exp()
    torch.vgpu.current_stream().wait_stream(side)
    loss = z.tan()
    loss.backward(torch.ones_like(loss))
    forward = [("sin", 0), ("exp", 1), ("tan", 0)]
    assert watch.streams()[:3] == forward
    backward = watch.streams()[3:]
    # d tan, d exp and d sin, in this order; that of exp is the multiplication by its own result.
    on_side = [name for name, stream in backward if stream == 1]
    assert on_side == ["mul"]
    before, after = backward[: backward.index(("mul", 1))], backward[backward.index(("mul", 1)) + 1 :]
    assert ("cos", 0) in after
    assert {stream for _, stream in before + after} == {0}
    # One after the other, although the streams take turns.
    starts = [start for *_, start in watch.seen]
    assert starts == sorted(set(starts))
    assert torch.vgpu.current_stream() == torch.vgpu.default_stream()
    assert machine.clock.streams[0].free_ns == machine.clock.now_ns


def test_the_stream_of_the_caller_waits_in_the_end(machine: Machine):
    x, side = leaf(), torch.vgpu.Stream()
    with side:
        loss = x.exp()
    loss.backward(torch.ones(2, device="vgpu:0"))
    torch.vgpu.current_stream()
    assert machine.clock.streams[0].free_ns >= machine.clock.stream(0, 1).free_ns


def test_a_hook_may_choose_a_stream_of_its_own(watch: Watch):
    x, side, third = leaf(), torch.vgpu.Stream(), torch.vgpu.Stream()
    with side:
        y = x.exp()

    def hook(gradient: torch.Tensor) -> None:
        assert torch.vgpu.current_stream() == side
        with third:
            gradient.cosh()
        assert torch.vgpu.current_stream() == side

    y.register_hook(hook)
    watch.seen.clear()
    y.backward(torch.ones(2, device="vgpu:0"))
    assert [seen for seen in watch.streams() if seen[0] in ("cosh", "mul")] == [("cosh", 2), ("mul", 1)]


def test_what_is_computed_again_and_its_backward(watch: Watch):
    x, side = leaf(), torch.vgpu.Stream()
    for reentrant in (True, False):
        with side:
            y = checkpoint(torch.exp, x, use_reentrant=reentrant)
        watch.seen.clear()
        y.backward(torch.ones(2, device="vgpu:0"))
        assert [seen for seen in watch.streams() if seen[0] in ("exp", "mul")] == [("exp", 1), ("mul", 1)]


def test_without_side_streams_nothing_is_looked_up(watch: Watch):
    leaf().exp().sum().backward()
    assert {stream for _, stream in watch.streams()} == {0}


def test_old_changes_are_forgotten():
    changes, streams = _Changes(), [Stream(0, number) for number in range(3)]
    for number in range(_MOST_CHANGES + 1):
        changes.note(10 * number, streams[number % 3])
    assert changes.at(5) is None
    assert changes.at(10 * _MOST_CHANGES) is streams[_MOST_CHANGES % 3]
    assert changes.at(10 * _MOST_CHANGES - 1) is streams[(_MOST_CHANGES - 1) % 3]
