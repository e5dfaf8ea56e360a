"""What Net's devices send in a step of a real run: DataParallel and a ring, side by side."""

from __future__ import annotations

import pytest

import lab

pytestmark = pytest.mark.usefixtures("no_leaks")

PARAMETERS = 21_840 * 4
"""Of Net, in bytes."""
OUTPUTS = 10 * 4
"""Of one sample."""
IMAGE = 28 * 28 * 4
TARGET = 8


@pytest.mark.parametrize("count", [2, 4])
def test_data_parallel_sends_from_the_first_device_and_to_it(count: int) -> None:
    devices = [f"vgpu:{index}" for index in range(count)]
    with lab.start(lab.Experiment(strategy="data_parallel", devices=devices, steps=2)) as run:
        run.result()
    part = 64 // count
    # Out: parameters, and the gradients of the others' outputs. Back: outputs, and the parameters' gradients.
    first, other = (count - 1) * (PARAMETERS + part * OUTPUTS), part * OUTPUTS + PARAMETERS
    assert run.state.sent_bytes == {"vgpu:0": first, **dict.fromkeys(devices[1:], other)}
    assert run.state.sent_total == run.state.crossing_bytes == first + (count - 1) * other
    assert count != 2 or run.state.sent_total == 177_280
    assert run.state.host_bytes == 64 * (IMAGE + TARGET)


@pytest.mark.parametrize("devices", ["cpu", "vgpu:0,vgpu:1"])
def test_two_ranks_send_their_gradients_once(devices: str) -> None:
    with lab.start(lab.Experiment(strategy="ddp", devices=devices, world_size=2, steps=4)) as run:
        run.result()
    # In step 1 DistributedDataParallel also tells the ranks of its new buckets.
    assert run.state.crossing_bytes == PARAMETERS == 87_360
    assert run.state.sent_bytes == dict.fromkeys(run.state.device_names, 87_360)
    assert run.state.sent_total == 174_720
    assert run.state.host_bytes == (0 if devices == "cpu" else 64 * (IMAGE + TARGET))
