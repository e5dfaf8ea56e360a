"""Memory over the device's time: worked out by hand, for one device that is behind its host."""

from __future__ import annotations

import torch

from lab import vgpu
from lab.events import PURPOSES
from lab.vgpu.memory_record import MemoryPoint
from lab.vgpu.memory_times import Work, on_device
from tests.lab.vgpu.by_hand import HARDWARE, ISSUE_NS, LATENCY_NS, LAUNCH_NS

SIZE = 4_000
WORK_NS = LAUNCH_NS + 2 * SIZE
"""Of an operation that reads 4 kB and writes 4 kB."""


def point(at_ns: int, total: int) -> MemoryPoint:
    return MemoryPoint(at_ns, {**dict.fromkeys(PURPOSES, 0), "other": total})


def times(points: list[MemoryPoint]) -> list[tuple[int, int]]:
    return [(each.at_ns, each.total) for each in points]


def test_a_block_is_held_from_its_operations_start_to_the_end_of_what_was_issued_before_it_went() -> None:
    vgpu.enable(devices=1, hardware=HARDWARE)
    x = torch.zeros(SIZE // 4, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        y = x * 2
        z = y * 2
        del y
        w = z * 2
        del z
        torch.vgpu.synchronize()
        del w
    first, second, third = (ISSUE_NS + turn * WORK_NS for turn in range(3))
    end = third + WORK_NS
    held = [(0, 1), (first, 2), (second, 3), (third, 2), (third, 3), (end, 2), (end, 1)]
    assert times(p.memory_while_running("vgpu:0")) == [(at_ns, SIZE * blocks) for at_ns, blocks in held]
    by_host = [0, ISSUE_NS, 2 * ISSUE_NS, 2 * ISSUE_NS, 3 * ISSUE_NS, 3 * ISSUE_NS, end]
    assert [each.at_ns for each in p.memory_of("vgpu:0")] == by_host


def test_what_is_copied_is_there_when_the_copy_begins() -> None:
    vgpu.enable(devices=2, hardware=HARDWARE)
    x = torch.zeros(SIZE // 4, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        y = (x * 2).to("vgpu:1")
        torch.vgpu.synchronize()
    doubled = ISSUE_NS + WORK_NS
    assert times(p.memory_while_running("vgpu:1")) == [(0, 0), (doubled, SIZE)]
    gone = doubled + LATENCY_NS + SIZE
    assert times(p.memory_while_running("vgpu:0")) == [(0, SIZE), (ISSUE_NS, 2 * SIZE), (gone, SIZE)]
    assert y.device.index == 1


def test_nothing_moves_back_and_heights_and_their_order_stay() -> None:
    points = [point(0, 0), point(5, 40), point(10, 10), point(10, 30), point(500, 0)]
    works = [Work(10, 100, 200), Work(5, 5, 100)]
    assert times(on_device(points, works)) == [(0, 0), (5, 40), (200, 10), (200, 30), (500, 0)]
    assert times(on_device(points, [])) == times(points)
    assert on_device([], works) == []
