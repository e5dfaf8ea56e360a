"""How near modelled times come to real ones.

    python -m tests.benchmarks.fidelity [--steps N] [--profile FILE]

Three tables:

1. This machine's CPU on one thread: the step times of four nets, modelled with the CPU's calibrated profile, against
   plain PyTorch.
2. A real GPU, where there is one: the same for resnet18 and gpt, against CUDA events.
3. Model parallelism on a modelled profile: two devices without microbatches are slower than one; over the number of
   microbatches the step time falls and rises again; two stages never gain a factor of 2. The first 2 and the last are
   checked, and the exit code is 1 if one of them does not hold.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lab import data, nets, vgpu
from lab.strategies.base import loss_function
from lab.vgpu import profiles
from lab.vgpu.profiles import Profile
from tests.benchmarks.common import print_table

IMAGES = data.DataSpec("images", (3, 64, 64), 10, 0, 0)


@dataclass(frozen=True)
class Case:
    """A net with its data and its batch."""

    net: str
    spec: data.DataSpec
    batch_size: int

    def title(self) -> str:
        return f"{self.net}, batch {self.batch_size}, {self.spec.shape}"

    def batch(self) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        size = (self.batch_size, *self.spec.shape)
        if self.spec.kind == "images":
            return torch.randn(size), torch.randint(0, self.spec.classes, (self.batch_size,))
        return torch.randint(0, self.spec.classes, size), torch.randint(0, self.spec.classes, size)

    def step(self, device: str) -> Callable[[], None]:
        """A training step on a device, with its batch there already."""
        torch.manual_seed(0)
        net = nets.build(self.net, self.spec).to(device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        inputs, targets = (tensor.to(device) for tensor in self.batch())

        def step() -> None:
            optimizer.zero_grad()
            loss_function(net(inputs), targets).backward()
            optimizer.step()

        return step


CPU_CASES = (
    Case("net", data.REGISTRY["mnist"].spec, 64),
    Case("mlp", data.REGISTRY["mnist"].spec, 64),
    Case("resnet18", IMAGES, 16),
    Case("gpt", data.REGISTRY["sums"].spec, 64),
)
GPU_CASES = (Case("resnet18", IMAGES, 64), Case("gpt", data.REGISTRY["sums"].spec, 256))


def modelled_ms(case: Case, profile: Profile) -> float:
    """A step on `vgpu:0`, the third: the first makes the optimizer's state."""
    clock = vgpu.enable(1, profile, timing="modelled").clock
    step = case.step("vgpu:0")
    for _ in range(3):
        clock.synchronize()
        began = clock.now_ns
        step()
    return (clock.now_ns - began) / 1e6


def cpu_ms(case: Case, steps: int) -> float:
    """A step on the CPU, without the time in which other programs have the core."""
    step = case.step("cpu")
    took = []
    # As a virtual GPU does: backward runs in the thread whose time is taken.
    with torch.autograd.set_multithreading_enabled(False):
        for _ in range(steps + 2):
            began = time.thread_time_ns()
            step()
            took.append((time.thread_time_ns() - began) / 1e6)
    return statistics.median(took[2:])


def gpu_ms(case: Case, steps: int) -> float:
    step = case.step("cuda:0")
    took = []
    for _ in range(steps + 3):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        step()
        ended.record()
        torch.cuda.synchronize()
        took.append(began.elapsed_time(ended))
    return statistics.median(took[3:])


def compare(title: str, cases: tuple[Case, ...], profile: Profile, real_ms: Callable[[Case], float]) -> None:
    rows = []
    for case in cases:
        real, modelled = real_ms(case), modelled_ms(case, profile)
        rows.append([case.title(), f"{real:.2f} ms", f"{modelled:.2f} ms", f"{modelled / real - 1:+.0%}"])
    print_table(title, ["net", "real", "modelled", "error"], rows)


class TwoStages(nn.Module):
    """Equal blocks, half of them on each device, with the outputs of microbatches sent as they come."""

    def __init__(self, devices: tuple[str, str], blocks: int = 8, width: int = 512) -> None:
        super().__init__()
        stages = [
            nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(blocks // 2)))
            for _ in devices
        ]
        self.stages = nn.ModuleList(stage.to(device) for stage, device in zip(stages, devices, strict=True))
        self.devices = devices

    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        waiting, done = None, []
        for part in (*parts, None):  # the second stage works on one microbatch while the first has the next
            if waiting is not None:
                done.append(self.stages[1](waiting))
            waiting = None if part is None else self.stages[0](part).to(self.devices[1])
        return torch.cat(done)


def split_ms(devices: tuple[str, str], profile: Profile, batch: int, microbatches: int) -> float:
    clock = vgpu.enable(2, profile, timing="modelled").clock
    net = TwoStages(devices)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    inputs = torch.randn(batch, 512).to(devices[0])
    for _ in range(2):
        clock.synchronize()
        began = clock.now_ns
        optimizer.zero_grad()
        net(inputs.split(batch // microbatches)).sum().backward()
        optimizer.step()
    return (clock.now_ns - began) / 1e6


def model_parallelism(name: str, batch: int = 1024) -> bool:
    """Prints the table; whether the published behaviour is there."""
    profile = profiles.find(name)
    one = split_ms(("vgpu:0", "vgpu:0"), profile, batch, 1)
    counts = [2**power for power in range(9)]
    times = [split_ms(("vgpu:0", "vgpu:1"), profile, batch, count) for count in counts]
    rows = [["one device", "", f"{one:.3f} ms", "1.00"]]
    for count, took in zip(counts, times, strict=True):
        rows.append(["two devices", f"{count} of {batch // count}", f"{took:.3f} ms", f"{one / took:.2f}"])
    print_table(f"Model parallelism on {profile.title}, modelled", ["", "microbatches", "step", "speed-up"], rows)
    best = times.index(min(times))
    holds = {
        "without microbatches two devices are slower than one": times[0] > one,
        "the step time falls and rises again over the split": 0 < best < len(times) - 1
        and times[: best + 1] == sorted(times[: best + 1], reverse=True)
        and times[best:] == sorted(times[best:]),
        "two stages gain less than a factor of 2": one / min(times) < 2,
    }
    for what, true in holds.items():
        print(f"{'yes' if true else 'NO '}  {what}")
    return all(holds.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="real steps of each net")
    parser.add_argument("--profile", type=Path, help="a calibrated profile of the CPU; measured anew by default")
    parser.add_argument("--split", default="classroom", help="the hardware of the third table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.profile or Path(folder) / "cpu.toml"
        profile = profiles.find(path) if arguments.profile else vgpu.calibrate("cpu", path)
    compare(f"{profile.title}: a training step", CPU_CASES, profile, lambda case: cpu_ms(case, arguments.steps))
    if torch.cuda.is_available():
        gpu = vgpu.calibrate("cuda:0")
        compare(f"{gpu.title}: a training step", GPU_CASES, gpu, lambda case: gpu_ms(case, arguments.steps))
    else:
        print("There is no CUDA device here, so no comparison with a real GPU.")
    return 0 if model_parallelism(arguments.split) else 1


if __name__ == "__main__":
    sys.exit(main())
