"""TorchScript on virtual GPUs: scripted, traced, moved, saved and loaded modules do what the module does on the CPU."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab import vgpu
from lab.errors import DeviceError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),  # of batch_norm's check of the batch size
]
DEVICE = "vgpu:1"


@pytest.fixture(autouse=True)
def machine() -> Any:
    return vgpu.enable(devices=2)


class Tied(nn.Module):
    """Two layers with one weight, a norm with buffers, and a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(torch.tanh(self.second(torch.relu(self.first(x))))) * self.scale
        return out


def batch() -> Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


def saved(module: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return file


WAYS: dict[str, Callable[[], Any]] = {
    "scripted, then moved": lambda: torch.jit.script(Tied()).to(DEVICE),
    "scripted on the device": lambda: torch.jit.script(Tied().to(DEVICE)),
    "traced, then moved": lambda: torch.jit.trace(Tied(), batch(), check_trace=False).to(DEVICE),
    "traced on the device": lambda: torch.jit.trace(Tied().to(DEVICE), batch().to(DEVICE), check_trace=False),
    "part of a module that is moved": lambda: nn.Sequential(torch.jit.script(Tied())).to(DEVICE),
    "loaded onto the device": lambda: torch.jit.load(saved(torch.jit.script(Tied())), map_location=DEVICE),
    "loaded where it was saved": lambda: torch.jit.load(saved(torch.jit.script(Tied()).to(DEVICE))),
    "loaded onto another device": lambda: torch.jit.load(
        saved(torch.jit.script(Tied()).to("vgpu:0")), map_location="vgpu:1"
    ),
    "moved by its type and place": lambda: torch.jit.script(Tied().double()).to(DEVICE, torch.float32),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_scripted_module_trains_as_the_module_does(way: str):
    """Often enough that it is optimized."""
    scripted, plain = WAYS[way](), Tied()
    if way.startswith("traced"):
        plain(batch())  # tracing runs it once
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in (scripted, plain)]
    x = batch()
    for _ in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        found, expected = scripted(x.to(DEVICE)), plain(x)
        assert str(found.device) == DEVICE
        torch.testing.assert_close(found.cpu(), expected)
        found.square().sum().backward()
        expected.square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    theirs = dict(plain.state_dict())
    for name, tensor in scripted.state_dict().items():
        assert str(tensor.device) == DEVICE
        torch.testing.assert_close(tensor.cpu(), theirs[name.removeprefix("0.")])


def test_a_weight_stays_shared_and_takes_memory_once():
    plain = Tied().to(DEVICE)
    used = torch.vgpu.memory_allocated(1)
    del plain
    assert torch.vgpu.memory_allocated(1) == 0
    scripted = torch.jit.script(Tied()).to(DEVICE)
    assert scripted.first.weight.data_ptr() == scripted.second.weight.data_ptr()
    assert torch.vgpu.memory_allocated(1) == used
    back = scripted.cpu()
    assert torch.vgpu.memory_allocated(1) == 0
    assert torch.equal(back(batch()), Tied()(batch()))


def test_saving_leaves_a_module_where_it_is(tmp_path: Path):
    scripted = torch.jit.script(Tied()).to(DEVICE)
    used = torch.vgpu.memory_allocated(1)
    scripted.save(str(tmp_path / "net.pt"))
    assert {str(tensor.device) for tensor in scripted.state_dict().values()} == {DEVICE}
    assert torch.vgpu.memory_allocated(1) == used
    noted = {"more": ""}
    loaded = torch.jit.load(str(tmp_path / "net.pt"), map_location="cpu", _extra_files=noted)
    assert set(noted) == {"more"}
    assert torch.equal(loaded(batch()), Tied()(batch()))


def test_a_file_loads_without_the_lab(tmp_path: Path):
    torch.jit.script(Tied()).to(DEVICE).eval().save(str(tmp_path / "net.pt"))
    program = "import sys, torch; print(torch.jit.load(sys.argv[1])(torch.ones(1, 4)).tolist())"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "net.pt")],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(Tied().eval()(torch.ones(1, 4)).tolist())


def test_a_frozen_module_runs_and_says_that_it_cannot_be_saved():
    frozen = torch.jit.freeze(torch.jit.script(Tied().eval()).to(DEVICE))
    for _ in range(3):
        found = frozen(batch().to(DEVICE))
    torch.testing.assert_close(found.cpu(), Tied().eval()(batch()))
    with pytest.raises(DeviceError, match="save it before it is frozen"):
        saved(frozen)
