"""Numbers on a virtual GPU where PyTorch reads them without asking Python: what the same lines do on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._mode_utils import no_dispatch

from lab import vgpu

Make = Callable[[torch.Tensor, torch.Tensor], Any]


@pytest.mark.parametrize(
    "make",
    [
        lambda x, n: torch.tensor([x[0], 3.0]),
        lambda x, n: torch.tensor([[x[0], 5], [n[0], x[1]]], dtype=torch.float64),
        lambda x, n: torch.tensor([(n[0], 1), (2, n[1])]),
        lambda x, n: torch.tensor([n > 5, n < 5][0].tolist()),
        lambda x, n: torch.tensor([n[0] > 5]),
        lambda x, n: torch.tensor([x[0] + 2j]),
        lambda x, n: torch.tensor([x[:1], x[1:2]]),
        lambda x, n: torch.tensor([x, x]),
        lambda x, n: torch.as_tensor([x[0], x[1]]),
        lambda x, n: torch.asarray([x[0]]),
        lambda x, n: x.new_tensor([x[0], 7]).cpu(),
        lambda x, n: torch.FloatTensor([x[0], 8]),
        lambda x, n: torch.LongTensor([n[0], 2]),
        lambda x, n: torch.tensor([x[0], 1.0], requires_grad=True),
        lambda x, n: torch.full((2,), x[0]),
        lambda x, n: torch.arange(n[0]),
        lambda x, n: list("abcdefgh")[n[0]],
        lambda x, n: range(10)[n[0] : n[1]],
        lambda x, n: torch.ones(2, 8)[:, n[0] : n[1]],
        lambda x, n: torch.zeros(3).fill_(x[0]),
        lambda x, n: put(torch.zeros(3), slice(1, None), x[0]),
        lambda x, n: put(torch.zeros(3), torch.tensor([True, False, True]), x[0]),
        lambda x, n: put(torch.zeros(3), torch.tensor([2, 0]), x[0]),
        lambda x, n: put(x, slice(1, None), torch.tensor(4.0)).cpu(),
        lambda x, n: x.fill_(torch.tensor(2.0)).cpu(),
        lambda x, n: torch.nn.init.constant_(torch.zeros(2), x[0]),
    ],
)
def test_a_number_on_a_device_is_read_where_the_cpus_is(make: Make):
    vgpu.enable(devices=2)

    def outcome(device: str) -> str:
        x, n = torch.tensor([1.5, 2.0, 3.0], device=device), torch.tensor([4, 7], device=device)
        try:
            return str(make(x, n))
        except (TypeError, ValueError) as error:
            return repr(error)

    assert outcome("vgpu:1") == outcome("cpu")


def put(target: torch.Tensor, where: Any, value: torch.Tensor) -> torch.Tensor:
    target[where] = value
    return target


def test_one_device_is_filled_from_another():
    vgpu.enable(devices=2)
    number = torch.tensor([4.0, 2.0], device="vgpu:1")[0]
    x = torch.zeros(3, device="vgpu:0").fill_(number)
    assert x.tolist() == [4, 4, 4]
    x[torch.tensor([True, False, False], device="vgpu:0")] = number * 2
    assert x.tolist() == [8, 4, 4]


def test_reading_a_number_makes_the_host_wait():
    machine = vgpu.enable(devices=1, hardware="classroom", timing="modelled")
    x = torch.ones(1000, 1000, device="vgpu:0") @ torch.ones(1000, 1000, device="vgpu:0")
    assert machine.clock.host_ns < machine.clock.current(0).free_ns
    torch.tensor([x[0, 0]])
    assert machine.clock.host_ns >= machine.clock.current(0).free_ns


def test_a_stream_is_recorded_while_dispatch_is_off():
    vgpu.enable(devices=1)
    x = torch.ones(2, device="vgpu:0")
    with no_dispatch():
        x.record_stream(torch.vgpu.current_stream())
    assert x.tolist() == [1, 1]
