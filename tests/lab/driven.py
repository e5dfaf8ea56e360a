"""Strategies driven directly, without a process, and the plain PyTorch loop that they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import data, nets, placing, strategies, timing, vgpu
from lab.events import Event, Span, StepFinished
from lab.experiment import Experiment
from lab.graph import trace
from lab.layers import run_layers
from lab.own_nets import materialise
from lab.placement import resolve
from lab.strategies.base import Job, Strategy
from lab.timing.recorder import Recorder, as_event
from lab.vgpu import profiles
from lab.vgpu.roofline import Roofline

STEPS = 3
SPECS = {
    "net": data.REGISTRY["mnist"].spec,
    "mlp": data.REGISTRY["mnist"].spec,
    "resnet18": data.DataSpec("images", (3, 28, 28), 10, 0, 0),
    "gpt": data.REGISTRY["sums"].spec,
}
FIRST = {"net": "conv1", "mlp": "fc1", "resnet18": "conv1", "gpt": "tok_emb"}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return nets.build(name, SPECS[name])


def some_batches(spec: data.DataSpec, size: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(STEPS):
        if spec.kind == "tokens":
            x = torch.randint(spec.classes, (size, *spec.shape), generator=generator)
            y = torch.randint(spec.classes, (size, *spec.shape), generator=generator)
        else:
            x = torch.randn(size, *spec.shape, generator=generator)
            y = torch.randint(spec.classes, (size,), generator=generator)
        made.append((x, y))
    return made


def plain_loop(net: nn.Module, steps: list[tuple[Tensor, Tensor]], optimizer: str = "sgd") -> list[float]:
    made: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9),
        "adam": lambda: torch.optim.Adam(net.parameters(), lr=0.01),
        "adamw": lambda: torch.optim.AdamW(net.parameters(), lr=0.01),
    }
    update, losses = made[optimizer](), []
    for x, y in steps:
        update.zero_grad()
        output = net(x)
        loss = F.cross_entropy(output.reshape(-1, output.shape[-1]), y.reshape(-1))
        loss.backward()
        update.step()
        losses.append(loss.item())
    return losses


class Run:
    """A strategy with its recorder, and what it emits."""

    def __init__(
        self, net: nn.Module, steps: list[tuple[Tensor, Tensor]], placement: dict[str, str] | str, **fields: Any
    ):
        """`placement` gives devices to layers, or is `even` or `auto` on `devices`."""
        devices = fields.pop("devices", None) or list(dict.fromkeys(dict(placement).values()))
        virtual = [int(device[5:]) for device in devices if device.startswith("vgpu")]
        if virtual:
            vgpu.enable(max(virtual) + 1)
        kind = fields.pop("strategy", "model_parallel")
        self.net = net
        self.experiment = Experiment(
            net="own:net", data="mnist", strategy=kind, devices=devices, batch_size=len(steps[0][0]), **fields
        )
        materialise(net, steps[0][0])
        paths = run_layers(net)
        traced = trace(net, paths, *steps[0])
        if isinstance(placement, str):
            chosen = self.experiment.replace(placement=placement)
            room = dict.fromkeys(devices, 10**12)
            hardware = fields.get("hardware")
            model = Roofline(profiles.find(hardware)) if hardware else None
            layers = placing.place(chosen, tuple(devices), net, paths, traced, *steps[0], room, model).layers
        else:
            layers = resolve(placement, [*traced.layers, *(path for path in paths if path not in traced.layers)])
        self.placement = layers
        self.events: list[Event] = []
        timer = timing.make_timer(timing.clock_for(devices), devices)
        self.recorder = Recorder(timer, devices, self._emit, microbatches=self.experiment.microbatches)
        with self.recorder.paused():
            self.graph = traced.placed(layers)
            job = Job(self.experiment, net, layers, self.graph, self.recorder)
            self.strategy: Strategy = strategies.load(kind)(job)

    def _emit(self, batch: list[Any]) -> None:
        self.events += [as_event(item) for item in batch]

    def train(self, steps: list[tuple[Tensor, Tensor]]) -> list[float]:
        for x, y in steps:
            self.recorder.finish_step(self.strategy.train_step(x, y), len(x))
        self.recorder.flush(wait=True)
        return [event.loss for event in self.events if isinstance(event, StepFinished)]

    def spans(self, step: int, kind: str) -> list[Span]:
        return [e for e in self.events if isinstance(e, Span) and e.step == step and e.kind == kind]


def same_parameters(net: nn.Module, expected: nn.Module) -> bool:
    pairs = zip(net.state_dict().values(), expected.state_dict().values(), strict=True)
    return all(torch.equal(a.cpu(), b) for a, b in pairs)
