"""What a virtual GPU says a training step holds, against PyTorch's own `MemTracker` on the CPU.

    python -m tests.benchmarks.memory [--optimizer sgd|adam]

Both watch the same step of the same net: the second step, so that the optimizer has its state, with the batch and the
gradients of the first step among what lives at its beginning. The virtual GPU counts storages as they come and go; the
tracker watches operations on plain CPU tensors and holds weak references to theirs. The bar for the peak is 1%.

The tracker calls activations whatever forward makes and temporary whatever backward makes; it reports buffers and the
batch on their own. Adam's step counters lie on the CPU beside a virtual GPU, as beside a real one: 4 bytes for each
parameter tensor that only the tracker counts.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker

from lab import data, nets, vgpu
from lab.events import PURPOSES, Purpose
from lab.vgpu.purposes import MemoryLedger
from tests.benchmarks.common import print_table

_OF_THE_TRACKER: dict[str, Purpose] = {
    "Parameter": "parameters",
    "Buffer": "parameters",
    "Gradient": "gradients",
    "Optstate": "optimizer state",
    "Activation": "activations",
    "Temp": "other",
    "Other": "other",
}
"""The tracker's names -> ours."""


@dataclass(frozen=True)
class Case:
    """A net and its batch."""

    net: str
    spec: data.DataSpec
    batch_size: int


CASES = (
    Case("net", data.REGISTRY["mnist"].spec, 64),
    Case("mlp", data.REGISTRY["mnist"].spec, 64),
    Case("resnet18", data.DataSpec("images", (3, 64, 64), 10, 0, 0), 8),
    Case("gpt", data.REGISTRY["sums"].spec, 16),
)


@dataclass(frozen=True)
class Comparison:
    """The same step's peak by purpose, in bytes."""

    ours: dict[Purpose, int]
    tracker: dict[Purpose, int]

    @property
    def difference(self) -> float:
        """Of the peaks, as a share of the tracker's."""
        return sum(self.ours.values()) / sum(self.tracker.values()) - 1


class _Training:
    """A net on a device, its optimizer and its batch, after one step."""

    def __init__(self, case: Case, optimizer: str, device: str) -> None:
        torch.manual_seed(0)
        self.net = nets.build(case.net, case.spec).to(device)
        parameters = self.net.parameters()
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(parameters) if optimizer == "adam" else torch.optim.SGD(parameters, 0.01, momentum=0.9)
        )
        self.batch = tuple(tensor.to(device) for tensor in batch(case))
        self.step()

    def step(self) -> None:
        self.optimizer.zero_grad()
        inputs, targets = self.batch
        loss(self.net, inputs, targets).backward()
        self.optimizer.step()


def batch(case: Case) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the net's kind, on the CPU."""
    size, spec = case.batch_size, case.spec
    if spec.kind == "tokens":
        return torch.randint(spec.classes, (size, *spec.shape)), torch.randint(spec.classes, (size, *spec.shape))
    return torch.randn(size, *spec.shape), torch.randint(spec.classes, (size,))


def loss(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(net(inputs).flatten(0, -2), targets.flatten())


def compare(case: Case, optimizer: str) -> Comparison:
    """Has both watch the second step of a training."""
    machine = vgpu.enable(devices=1)
    training = _Training(case, optimizer, "vgpu:0")
    with MemoryLedger(machine) as ledger:
        training.step()
    ours = ledger.at_peak(0)

    training = _Training(case, optimizer, "cpu")
    tracker = MemTracker()
    tracker.track_external(training.net, training.optimizer, *training.batch)
    with tracker:
        training.step()
    theirs: dict[Purpose, int] = dict.fromkeys(PURPOSES, 0)
    for kind, size in tracker.get_tracker_snapshot("peak")[torch.device("cpu")].items():
        if kind != "Total":
            theirs[_OF_THE_TRACKER[kind.value]] += size  # type: ignore[attr-defined]
    return Comparison(ours, theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    arguments = parser.parse_args()
    rows = []
    for case in CASES:
        found = compare(case, arguments.optimizer)
        name = f"{case.net}, {case.batch_size}"
        for who, sizes in (("vgpu:0", found.ours), ("MemTracker", found.tracker)):
            numbers = [f"{sizes[purpose]:,}" for purpose in PURPOSES]
            rows.append([name, who, f"{sum(sizes.values()):,}", *numbers])
            name = ""
        rows.append(["", "difference", f"{found.difference:+.3%}", *[""] * len(PURPOSES)])
    print_table(
        f"Bytes at the peak of a training step with {arguments.optimizer}; bar: 1%",
        ["net, batch", "by", "peak", *PURPOSES],
        rows,
    )


if __name__ == "__main__":
    main()
