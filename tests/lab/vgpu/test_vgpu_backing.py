"""Virtual GPUs whose numbers are on a real GPU, or nowhere. Bytes and times are those on the CPU."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import data, nets, vgpu
from lab.errors import DeviceError

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def train(net: nn.Module, x: Tensor, y: Tensor, steps: int = 2) -> Tensor:
    """A step as a user writes it, without a look at the loss."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x).flatten(0, -2), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return loss


def batch_for(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    spec = data.REGISTRY[nets.REGISTRY[name].default_data].spec
    torch.manual_seed(0)
    net = nets.build(name, spec)
    if spec.kind == "tokens":
        return net, torch.randint(spec.classes, (2, *spec.shape)), torch.randint(spec.classes, (2, *spec.shape))
    return net, torch.randn(4, *spec.shape), torch.randint(spec.classes, (4,))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm, self.last = nn.Embedding(20, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(self.words(x))[0])


def program(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    if name == "lstm":
        torch.manual_seed(0)
        return Recurrent(), torch.randint(20, (2, 5)), torch.randint(20, (2, 5))
    return batch_for(name)


@pytest.mark.parametrize("name", ["net", "mlp", "gpt"])
def test_without_numbers_bytes_and_times_are_those_with_them(name: str):
    seen = []
    for backing in ("cpu", "meta"):
        machine = vgpu.enable(devices=2, hardware="a100", timing="modelled", backing=backing)
        net, x, y = program(name)
        net.to("vgpu:1")
        train(net, x.to("vgpu:1"), y.to("vgpu:1"))
        seen.append((machine.clock.now_ns, machine.pools[1].peak, machine.pools[1].allocated))
        del net
    assert seen[0] == seen[1]
    assert min(seen[0]) > 0


def test_a_net_that_no_memory_would_hold():
    machine = vgpu.enable(devices=1, hardware="a100", memory="9TB", backing="meta")
    with torch.device("vgpu:0"):
        net = nn.Linear(1_000_000, 1_000_000, bias=False)
    assert machine.pools[0].allocated == 4 * 10**12
    net(torch.randn(1, 1_000_000, device="vgpu:0")).sum().backward()
    assert machine.pools[0].allocated >= 8 * 10**12  # the gradient


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.item(),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: float(x),
        lambda x: torch.zeros(1).copy_(x),
        lambda x: torch.save(x, io.BytesIO()),
        lambda x: bool(x > 0),
    ],
)
def test_reading_numbers_that_there_are_not(read: Any):
    vgpu.enable(devices=1, backing="meta")
    with pytest.raises(DeviceError, match=r"vgpu:0 has no numbers to read: with backing='meta' the lab works out"):
        read(torch.ones(1, device="vgpu:0"))


def test_it_prints_and_copies_without_numbers():
    vgpu.enable(devices=2, backing="meta")
    x = torch.arange(6.0, device="vgpu:1").reshape(2, 3)
    assert repr(x) == "tensor(..., size=(2, 3), device='vgpu:1')"
    assert copy.deepcopy(x).shape == x.to("vgpu:0").shape == (2, 3)
    assert torch.randn(3, generator=torch.Generator("vgpu:1"), device="vgpu:1").shape == (3,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backing": "cuda:7777"}, r"^backing 'cuda:\d+' is not there: this machine has "),
        ({"backing": "tpu"}, r"^backing 'tpu' is not one of cpu, cuda:0 \(or another index\) and meta"),
        ({"backing": "met"}, r"did you mean 'meta'\?"),
        ({"backing": "meta", "timing": "measured"}, r"^backing='meta' computes nothing that could be measured"),
    ],
)
def test_a_backing_that_cannot_be(options: dict[str, Any], message: str):
    with pytest.raises(DeviceError, match=message):
        vgpu.enable(devices=1, **options)


# -- a real GPU ---------------------------------------------------------------------------------------------------


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("timing", ["modelled", "measured"])
@pytest.mark.parametrize("name", ["net", "mlp", "gpt", "lstm"])
def test_on_a_real_gpu_results_are_those_of_cuda(name: str, timing: Any):
    machine = vgpu.enable(devices=2, timing=timing, backing="cuda:0")
    weights = []
    for device in ("cuda:0", "vgpu:1"):
        net, x, y = program(name)
        net.to(device)
        train(net, x.to(device), y.to(device))
        weights.append([parameter.detach().cpu() for parameter in net.parameters()])
    assert vgpu.peek(torch.zeros(1, device="vgpu:1")).device == torch.device("cuda:0")
    assert machine.clock.now_ns > 0
    for mine, theirs in zip(*weights, strict=True):
        torch.testing.assert_close(mine, theirs)


@gpu
@pytest.mark.gpu
def test_on_a_real_gpu_numbers_go_everywhere():
    vgpu.enable(devices=2, backing="cuda:0")
    x = torch.arange(3.0, device="vgpu:0")
    assert x.to("vgpu:1").tolist() == [0.0, 1.0, 2.0]
    assert repr(x) == "tensor([0., 1., 2.], device='vgpu:0')"
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert (loaded.device, loaded.tolist()) == (torch.device("vgpu:0"), [0.0, 1.0, 2.0])
    assert vgpu.peek(loaded).device == torch.device("cuda:0")
    generators = [torch.Generator(device).manual_seed(3) for device in ("cuda:0", "vgpu:1")]
    drawn = [torch.randn(5, generator=generator, device=generator.device).cpu() for generator in generators]
    assert torch.equal(*drawn)
    assert torch.ones(2).pin_memory().is_pinned()
    with pytest.raises(RuntimeError, match="at least two devices, vgpu:0 and cuda:0"):
        x + torch.ones(3, device="cuda:0")
