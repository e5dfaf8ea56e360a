"""The profiles of several ranks on one line of time. Expected times are worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lab import vgpu
from lab.errors import DeviceError
from lab.vgpu import LinkModel
from tests.lab.ranks import run_ranks

NUMBERS = 250_000
"""1 MB in float32: a kernel that reads and writes it takes 10 + 200 us on `classroom`."""
KERNEL_US, LATE = 210, 20


def profiled(rank: int) -> tuple[Any, list[tuple[int, int]]]:
    """Rank 1 begins its profile and comes to the all-reduce late. What rank 0 gathered, and this rank's collective."""
    x = torch.ones(NUMBERS, device=f"vgpu:{rank}")
    dist.barrier()
    for _ in range(5 * rank):
        x.mul(2)
    torch.vgpu.synchronize(rank)
    with vgpu.profile() as profile:
        for _ in range(LATE * rank):
            x.mul(2)
        dist.all_reduce(x)
        torch.vgpu.synchronize(rank)
    own = [(each.start_ns, each.end_ns) for each in profile.collectives]
    whole = profile.of_all_ranks()
    if whole is None:
        return None, own
    devices = {device: whole.use(device) for device in whole.devices}
    memory = {device: max(point.total for point in whole.memory_of(device)) for device in ("vgpu:0", "vgpu:1")}
    together = [(each.device, each.ready_ns, each.start_ns, each.end_ns) for each in whole.collectives]
    return (devices, memory, together, str(whole), whole.length_ns), own


def test_profiles_of_ranks_are_laid_on_one_line_of_time(tmp_path: Path) -> None:
    first, second = run_ranks(2, profiled, tmp_path, devices=2, hardware="classroom", link=LinkModel(1.0, 20_000))
    (devices, memory, together, text, length_ns), own = first
    assert second[0] is None
    assert sorted(device for device, *_ in together) == ["vgpu:0", "vgpu:1"]
    assert {(start, end) for _, _, start, end in together} == set(own)  # rank 0's profile began first
    (_, ready_0, start, end), (_, ready_1, _, _) = sorted(together)
    assert end - start == 2 * (20_000 + 500_000)
    assert start == ready_1
    # Rank 1 computes before its profile begins, and inside: rank 0 waits for both.
    assert ready_1 - ready_0 == pytest.approx((5 + LATE) * KERNEL_US * 1000, rel=0.01)
    assert devices["vgpu:0"].operations == 0
    assert (devices["vgpu:1"].operations, devices["vgpu:1"].busy_ns) == (LATE, LATE * KERNEL_US * 1000)
    assert memory == {"vgpu:0": 4 * NUMBERS, "vgpu:1": 2 * 4 * NUMBERS}
    assert length_ns >= end
    assert "vgpu:1  all_reduce" in text


def test_without_ranks_there_is_nothing_to_gather() -> None:
    vgpu.enable(devices=1)
    with vgpu.profile() as profile:
        torch.ones(1, device="vgpu:0")
    with pytest.raises(DeviceError, match="init_process_group"):
        profile.of_all_ranks()
