"""Mixed precision on virtual GPUs: the types that CUDA's autocast gives, and the numbers of casts made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import vgpu

DEVICE = "vgpu:1"


@pytest.fixture(autouse=True)
def machine() -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield vgpu.enable(devices=3)
    torch.set_num_threads(threads)


def net_on(device: str) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(device)


def batch_on(device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)
    return x.to(device), y.to(device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_step_is_what_casts_by_hand_make(dtype: torch.dtype):
    net, plain = net_on(DEVICE), net_on("cpu")
    x, y = batch_on(DEVICE)
    with torch.autocast("vgpu", dtype=dtype):
        output = net(x)
        assert output.dtype == dtype
        loss = F.cross_entropy(output.float(), y)
    loss.backward()
    first, second = plain[0], plain[2]
    x, y = batch_on("cpu")
    hidden = F.relu(F.linear(x.to(dtype), first.weight.to(dtype), first.bias.to(dtype)))
    expected = F.cross_entropy(F.linear(hidden, second.weight.to(dtype), second.bias.to(dtype)).float(), y)
    expected.backward()
    assert torch.equal(loss.detach().cpu(), expected.detach())
    for mine, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None
        assert mine.grad.dtype == torch.float32
        assert torch.equal(mine.grad.cpu(), theirs.grad)


@pytest.mark.parametrize(
    ("operation", "dtype"),
    [
        (lambda x: x @ x, torch.float16),
        (lambda x: torch.einsum("ij,jk", x, x), torch.float16),
        (lambda x: x.half() + x, torch.float32),
        (lambda x: F.relu(x.half()), torch.float16),
        (lambda x: x.half().softmax(-1), torch.float32),
        (lambda x: x.half().sum(), torch.float32),
        (lambda x: x.half().exp(), torch.float32),
        (lambda x: F.layer_norm(x.half(), (3,)), torch.float32),
        (lambda x: F.mse_loss(x.half(), x.half()), torch.float32),
        (lambda x: torch.addcmul(x.half(), x, x), torch.float32),
        (lambda x: x.half().sum(dtype=torch.float16), torch.float16),
        (lambda x: x.double() @ x.double(), torch.float64),
        (lambda x: torch.nn.functional.scaled_dot_product_attention(x[None], x[None], x[None]), torch.float16),
    ],
)
def test_operators_run_in_the_types_of_cudas_autocast(operation: Any, dtype: torch.dtype):
    x = torch.rand(3, 3, device=DEVICE)
    with torch.autocast("vgpu"):
        assert operation(x).dtype == dtype
        with torch.autocast("vgpu", enabled=False):
            assert (x @ x).dtype == torch.float32
    assert (x @ x).dtype == torch.float32


def test_a_weight_is_cast_once_while_autocast_lasts():
    weight = torch.ones(100, 100, device=DEVICE, requires_grad=True)
    x = torch.ones(1, 100, device=DEVICE)
    pool = vgpu.current().pools[1]
    with torch.autocast("vgpu", dtype=torch.float16), torch.no_grad():
        x @ weight
        held = pool.allocated
        x @ weight
        assert pool.allocated == held
    assert pool.allocated == weight.nbytes + x.nbytes


def test_binary_cross_entropy_is_refused_as_on_cuda():
    x = torch.rand(3, device=DEVICE)
    with (
        torch.autocast("vgpu"),
        pytest.raises(RuntimeError, match=r"binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast"),
    ):
        F.binary_cross_entropy(x, x)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("overflow", [False, True])
def test_gradients_are_scaled_and_overflows_skipped(fused: bool, overflow: bool):
    def run(device: str) -> tuple[list[float], list[Tensor]]:
        second = device.replace("1", "2")
        nets = [net_on(device), net_on(second)]
        parameters = [parameter for net in nets for parameter in net.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=0.1, fused=fused)
        scaler = torch.amp.GradScaler(device.partition(":")[0], init_scale=1024.0, growth_interval=2)
        scales = []
        for number in range(4):
            optimizer.zero_grad()
            losses = [
                F.cross_entropy(net(batch_on(at)[0]), batch_on(at)[1])
                for net, at in zip(nets, (device, second), strict=True)
            ]
            scaler.scale(losses[0] + losses[1].to(device)).backward()
            if overflow and number == 1:
                parameters[-1].grad[0] = float("inf")  # on the second device only
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        return scales, [parameter.detach().cpu() for parameter in parameters]

    scales, weights = run(DEVICE)
    expected_scales, expected = run("cpu")
    assert (
        scales == expected_scales == ([1024.0, 512.0, 512.0, 1024.0] if overflow else [1024.0, 2048.0, 2048.0, 4096.0])
    )
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(weights, expected, strict=True))


def test_unscaled_gradients_can_be_clipped():
    net = net_on(DEVICE)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("vgpu", init_scale=256.0)
    x, y = batch_on(DEVICE)
    scaler.scale(F.cross_entropy(net(x), y)).backward()
    scaler.unscale_(optimizer)
    plain = net_on("cpu")
    F.cross_entropy(plain(batch_on("cpu")[0]), batch_on("cpu")[1]).backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), 0.1)
    assert torch.equal(norm.cpu(), nn.utils.clip_grad_norm_(plain.parameters(), 0.1))  # 256 is a power of two
