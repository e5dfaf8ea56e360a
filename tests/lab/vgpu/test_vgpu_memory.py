"""Memory of virtual GPUs, counted by hand to the byte. A float32 takes 4 bytes, an int64 takes 8."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lab import vgpu
from lab.nets.mlp import MLP
from lab.vgpu.memory import Block, MemoryPool, megabytes

CAPACITY = 10_000


@pytest.fixture
def pool() -> MemoryPool:
    """The memory of vgpu:0, one of two of 10,000 bytes."""
    return vgpu.enable(devices=2, memory=CAPACITY).pools[0]


def test_tensors_take_their_bytes_until_the_last_reference_goes(pool: MemoryPool):
    x = torch.zeros(10, 10, device="vgpu:0")
    assert pool.allocated == 400
    y = torch.arange(5, device="vgpu:0")
    assert pool.allocated == 400 + 40
    again = x
    del x
    assert pool.allocated == 440
    del again, y
    assert pool.allocated == 0
    assert vgpu.current().pools[1].allocated == 0


def test_views_cost_nothing_and_keep_the_whole_storage(pool: MemoryPool):
    x = torch.zeros(10, 10, device="vgpu:0")
    row, turned, flat, wide = x[3], x.t(), x.view(100), x[:1].expand(50, 10)
    detached = x.detach()
    assert pool.allocated == 400
    del x, turned, flat, wide, detached
    assert pool.allocated == 400
    del row
    assert pool.allocated == 0


def test_results_take_their_own_and_in_place_operations_nothing(pool: MemoryPool):
    x = torch.zeros(100, device="vgpu:0")
    y = x + 1
    assert pool.allocated == 800
    y.add_(1).mul_(2)
    assert pool.allocated == 800
    y = y + 1  # the old y lives until the new one is there
    assert (pool.allocated, pool.peak) == (800, 1200)


def test_moving_counts_on_both_sides(pool: MemoryPool):
    other = vgpu.current().pools[1]
    x = torch.zeros(100, device="vgpu:0")
    y = x.to("vgpu:1", torch.float64)
    assert (pool.allocated, other.allocated) == (400, 800)
    x = x.to("vgpu:1")
    assert (pool.allocated, other.allocated) == (0, 1200)
    del x, y
    assert other.allocated == 0


def test_a_resized_tensor_is_followed(pool: MemoryPool):
    x = torch.zeros(10, device="vgpu:0")
    x.resize_(100)
    assert pool.allocated == 400
    out = torch.empty(0, device="vgpu:0")
    torch.add(x, 1, out=out)
    assert pool.allocated == 800
    x.data = torch.zeros(5, device="vgpu:0")
    assert pool.allocated == 400 + 20
    del x, out
    assert pool.allocated == 0


def test_a_block_grows_and_shrinks_with_its_storage():
    pool = MemoryPool(0, 100, vgpu.enable(devices=1).clock)
    block = Block(pool, key=1, size=60)
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 50 bytes.* 40 bytes is free"):
        block.resize(110)
    assert pool.allocated == 60
    block.resize(90)
    block.resize(20)
    assert (pool.allocated, pool.peak) == (20, 90)
    del block
    assert pool.allocated == 0


def test_what_backward_needs_is_kept_until_backward(pool: MemoryPool):
    x = torch.zeros(100, device="vgpu:0", requires_grad=True)
    y = x.exp()  # keeps its result
    loss = y.sum()
    del y
    assert pool.allocated == 400 + 400 + 4
    loss.backward()
    assert pool.allocated == 400 + 4 + 400  # the kept result went, the gradient came
    x.grad = None
    assert pool.allocated == 404

    loss = x.neg().sum()  # keeps nothing
    assert pool.allocated == 404


def test_a_training_step_of_mlp():
    pool = vgpu.enable(devices=1, memory=10_000_000).pools[0]
    weights = 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10
    net = MLP(784, 10).to("vgpu:0")
    assert pool.allocated == 4 * weights == 940_584
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.zeros(8, 784, device="vgpu:0"), torch.zeros(8, dtype=torch.int64, device="vgpu:0")
    batch = 8 * 784 * 4 + 8 * 8
    assert pool.allocated == 4 * weights + batch

    loss = F.cross_entropy(net(x), y)
    # Kept for backward: the outputs of both ReLUs, the log-softmax, the total weight of the targets; and the loss.
    assert pool.allocated == 4 * weights + batch + 4 * 8 * (256 + 128 + 10) + 4 + 4
    loss.backward()
    assert pool.allocated == 2 * 4 * weights + batch + 4  # parameters and gradients
    optimizer.step()
    assert pool.allocated == 3 * 4 * weights + batch + 4  # ... and momentum
    optimizer.zero_grad()
    del loss, x, y
    assert pool.allocated == 2 * 4 * weights
    del optimizer
    net.cpu()
    assert pool.allocated == 0


REFUSED = [
    lambda x: torch.zeros(2000, device="vgpu:0"),
    lambda x: torch.zeros(2000).to("vgpu:0"),
    lambda x: torch.randn(2000, device="vgpu:0"),
    lambda x: torch.ones(2000, device="vgpu:1").to("vgpu:0"),
    lambda x: x.repeat(2),
    lambda x: x.to(torch.float64),
    lambda x: torch.empty_like(torch.ones(1, device="vgpu:0").expand(2000), memory_format=torch.contiguous_format),
]


@pytest.mark.parametrize("ask", REFUSED)
def test_past_the_capacity(ask: Callable[[Tensor], Tensor], pool: MemoryPool):
    x = torch.ones(1000, device="vgpu:0")  # 4,000 bytes; each of those asks for 8,000
    with pytest.raises(
        torch.OutOfMemoryError, match=r"Tried to allocate 8\.0 kB. vgpu:0 has a total capacity of 10.0 kB"
    ):
        ask(x)
    assert pool.allocated == 4000
    assert pool.peak <= CAPACITY
    rest = torch.ones(1500, device="vgpu:0")  # exactly what is left
    assert pool.allocated == CAPACITY
    assert rest[:3].tolist() == [1, 1, 1]
    del x, rest
    assert pool.allocated == 0


def test_the_message_says_what_was_asked_used_and_free(pool: MemoryPool):
    x = torch.ones(1000, device="vgpu:0")
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.zeros(2000, device="vgpu:0")
    assert str(caught.value) == (
        "VGPU out of memory. Tried to allocate 8.0 kB. vgpu:0 has a total capacity of 10.0 kB of which 6.0 kB is free. "
        "Of the allocated memory 4.0 kB is held by tensors."
    )
    assert x.sum().item() == 1000


def test_a_hopeless_wish_never_reaches_the_cpus_memory(pool: MemoryPool):
    for make in (torch.zeros, torch.empty, torch.randn):
        with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 40\.0 TB"):
            make(10**13, device="vgpu:0")
    assert pool.allocated == 0


def test_peak(pool: MemoryPool):
    x = torch.zeros(1000, device="vgpu:0")
    y = x + x
    del y
    assert (pool.allocated, pool.peak) == (4000, 8000)
    pool.reset_peak()
    assert pool.peak == 4000
    z = x[:10] + 1
    assert (pool.allocated, pool.peak) == (4040, 4040)
    del x, z
    assert (pool.allocated, pool.peak) == (0, 4040)
    fresh = vgpu.enable(devices=1, memory=CAPACITY).pools[0]
    assert (fresh.allocated, fresh.peak) == (0, 0)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (368_640, "368.6 kB"),
        (2_000_000, "2.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (40_000_000_000_000, "40.0 TB"),
    ],
)
def test_sizes_as_people_read_them(size: int, text: str):
    assert megabytes(size) == text
