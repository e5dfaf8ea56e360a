"""What many virtual GPUs cost: the same nets trained on 64 devices, and on one.

    python -m tests.benchmarks.many_devices [--devices 64] [--rounds N] [--timing measured|modelled]

There are as many copies of Net as devices. A round is one step of each, forward, backward and optimizer. It is made
with every copy on a device of its own and with all copies on vgpu:0, in turns within one process, so that whatever else
the computer does falls on both. The figure is the ratio of the medians; the bar is 1.2.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from lab import data, nets, vgpu
from tests.benchmarks.common import PlainLoop, print_table

BAR = 1.2
BATCH_SIZE = 16


def prepare(devices: list[int]) -> list[tuple[PlainLoop, torch.Tensor, torch.Tensor]]:
    """A net, its optimizer and a batch for each of the devices."""
    spec = data.REGISTRY["mnist"].spec
    prepared = []
    for device in devices:
        torch.manual_seed(0)
        loop = PlainLoop(nets.build("net", spec).to(f"vgpu:{device}"))
        inputs, targets = torch.randn(BATCH_SIZE, *spec.shape), torch.randint(0, spec.classes, (BATCH_SIZE,))
        prepared.append((loop, inputs.to(f"vgpu:{device}"), targets.to(f"vgpu:{device}")))
    return prepared


def measure(devices: int, rounds: int) -> tuple[float, float]:
    """Median seconds of a round on one device and on all."""
    layouts = {"one": prepare([0] * devices), "all": prepare(list(range(devices)))}
    times: dict[str, list[float]] = {"one": [], "all": []}
    warm_up = 2
    for number in range(warm_up + rounds):
        for layout in sorted(layouts, reverse=bool(number % 2)):
            began = time.perf_counter()
            for loop, inputs, targets in layouts[layout]:
                loop.step(inputs, targets)
            times[layout].append(time.perf_counter() - began)
    return statistics.median(times["one"][warm_up:]), statistics.median(times["all"][warm_up:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--timing", choices=["measured", "modelled"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    vgpu.enable(devices=arguments.devices, timing=arguments.timing)
    one, spread = measure(arguments.devices, arguments.rounds)
    print_table(
        f"{arguments.devices} steps of Net at batch {BATCH_SIZE}, one thread, medians of paired rounds",
        ["on vgpu:0", f"on {arguments.devices} devices", "ratio", "bar"],
        [[f"{one * 1e3:.1f} ms", f"{spread * 1e3:.1f} ms", f"{spread / one:.3f}", f"{BAR:.2f}"]],
    )


if __name__ == "__main__":
    main()
