"""A training run, from an Experiment to its last event. This is what a worker process does."""

from __future__ import annotations

import math
import platform
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

import lab
from lab import data, devices, nets, placing, strategies, timing, vgpu
from lab.data import Dataset
from lab.data.batches import batches
from lab.events import (
    Clock,
    DataSource,
    DeviceInfo,
    DeviceTotals,
    Evaluated,
    Event,
    GraphTraced,
    RunStarted,
    Span,
    StepFinished,
)
from lab.experiment import Experiment, Link
from lab.graph import trace
from lab.layers import layer_paths
from lab.strategies.base import Job, Strategy, loss_function
from lab.timing.recorder import Recorder, SpanRow
from lab.vgpu import profiles
from lab.vgpu.links import LinkModel
from lab.workers.failure import NotFiniteLossError

Emit = Callable[[list[Event | SpanRow]], None]


class Training:
    """One rank's run.

    Args:
        emit: takes events in batches.
        stop: set when the run is to end after the step it is at.
    """

    def __init__(self, run_id: str, emit: Emit, stop: threading.Event) -> None:
        self.run_id = run_id
        self.state: Literal["finished", "stopped"] = "finished"
        self._send = emit
        self._stop = stop
        self._recorder: Recorder | None = None
        self._began = time.monotonic()
        self._bad_loss: StepFinished | None = None

    def run(self, experiment: Experiment, own_net: Any = None) -> None:
        """Trains to the end, or until stopped.

        Raises:
            NotFiniteLossError: when the loss becomes NaN or infinite.
        """
        clock = timing.clock_for(experiment.devices, experiment.clock)
        if clock == "virtual":
            # A virtual GPU is one core of this machine: so its measured times do not depend on how many cores are free,
            # and small operations do not spend theirs on waking threads.
            torch.set_num_threads(1)
        net = build_net(experiment, own_net)
        dataset = data.load(experiment.data or "mnist")
        dtype = getattr(torch, experiment.dtype)
        net = net.to(dtype)
        inputs, targets = dataset.train_inputs, dataset.train_targets
        steps = experiment.steps or experiment.epochs * math.ceil(len(inputs) / experiment.batch_size)

        started = self._started(experiment, net, clock, dataset.source, steps)
        example = (_typed(inputs[: experiment.batch_size], dtype), targets[: experiment.batch_size])
        layers = layer_paths(net)
        traced = trace(net, layers, *example)
        hardware = vgpu.current().model if clock == "virtual" else None
        capacities = {info.name: info.memory_bytes for info in started.devices}
        placed = placing.place(experiment, net, layers, traced, *example, capacities, hardware)
        graph = traced.placed(placed.layers)
        self._emit([started, placed, GraphTraced(graph)])

        timer = timing.make_timer(clock, experiment.devices)
        recorder = Recorder(timer, experiment.devices, self._emit, microbatches=experiment.microbatches)
        self._recorder = recorder
        with recorder.paused():
            strategy = strategies.load(experiment.strategy)(Job(experiment, net, placed.layers, graph, recorder))
        self._began = time.monotonic()
        self._train(strategy, recorder, dataset, experiment, steps, dtype)

    def _train(
        self,
        strategy: Strategy,
        recorder: Recorder,
        dataset: Dataset,
        experiment: Experiment,
        steps: int,
        dtype: torch.dtype,
    ) -> None:
        inputs, targets = dataset.train_inputs, dataset.train_targets
        evaluated = -1
        for step, (epoch, indices, last) in enumerate(_schedule(len(inputs), experiment, steps)):
            with recorder.span("data", ["cpu"], "batch"):
                x, y = _typed(inputs[indices], dtype), targets[indices]
            loss = strategy.train_step(x, y)
            recorder.finish_step(loss, len(indices))
            if step == 0:
                recorder.flush()
            if self._bad_loss is not None or self._stop.is_set():
                break
            if last:
                evaluated = step
                self._evaluate(strategy, recorder, dataset, experiment, dtype, step, epoch)
        recorder.flush(wait=True)
        if self._bad_loss is not None:
            raise NotFiniteLossError(
                f"the loss became {self._bad_loss.loss} at step {self._bad_loss.step}, "
                f"with a learning rate of {experiment.lr}"
            )
        if self._stop.is_set() and step < steps - 1:
            self.state = "stopped"
        elif evaluated != step:
            self._evaluate(strategy, recorder, dataset, experiment, dtype, step, epoch)

    def _evaluate(
        self,
        strategy: Strategy,
        recorder: Recorder,
        dataset: Dataset,
        experiment: Experiment,
        dtype: torch.dtype,
        step: int,
        epoch: int,
    ) -> None:
        """Loss and accuracy on the test split; takes no time on the run's clock."""
        size = max(64, experiment.batch_size)
        loss, correct, count = 0.0, 0, 0
        with recorder.paused():
            for x, y in zip(dataset.test_inputs.split(size), dataset.test_targets.split(size), strict=True):
                if self._stop.is_set():
                    return
                outputs = vgpu.peek(strategy.predict(_typed(x, dtype))).to("cpu", torch.float32)
                loss += loss_function(outputs, y).item() * y.numel()
                correct += int((outputs.argmax(-1) == y).sum())
                count += y.numel()
        self._emit([Evaluated(step, epoch, "test", loss / count, correct / count, len(dataset.test_inputs))])

    def _emit(self, batch: list[Event | SpanRow]) -> None:
        """Sends a batch; nothing is sent of what comes after a loss that is no number."""
        for position, item in enumerate(batch):
            if isinstance(item, StepFinished) and not math.isfinite(item.loss):
                self._bad_loss = item
                batch = batch[: position + 1]
                break
        if self._bad_loss is None or batch[-1:] == [self._bad_loss]:
            self._send(batch)

    def _started(
        self, experiment: Experiment, net: nn.Module, clock: Clock, source: DataSource, steps: int
    ) -> RunStarted:
        entry = nets.REGISTRY.get(experiment.net)
        return RunStarted(
            run_id=self.run_id,
            experiment=experiment.to_dict(),
            devices=tuple(map(_enable_devices(experiment), experiment.devices)),
            clock=clock,
            data=source,
            net=entry.title if entry else f"{type(net).__name__} (your own)",
            total_steps=steps,
            versions=_versions(),
        )

    # -- for the last words ----------------------------------------------------------------------------------------

    @property
    def steps_done(self) -> int:
        return self._recorder.steps_done if self._recorder else 0

    @property
    def wall_seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def last_spans(self) -> tuple[Span, ...]:
        return tuple(Span(*row) for row in self._recorder.last_rows) if self._recorder else ()

    def totals(self) -> dict[str, DeviceTotals]:
        return self._recorder.totals() if self._recorder else {}


def build_net(experiment: Experiment, own_net: Any) -> nn.Module:
    """The net, initialised from the Experiment's seed; a module of the user's keeps the parameters that it has."""
    torch.manual_seed(experiment.seed)
    if own_net is None:
        return nets.build(experiment.net, data.REGISTRY[experiment.data or "mnist"].spec)
    module: nn.Module = own_net if isinstance(own_net, nn.Module) else own_net()
    return module


def _schedule(samples: int, experiment: Experiment, steps: int) -> Iterator[tuple[int, Tensor, bool]]:
    """(epoch, indices of a batch, whether the epoch ends with it) for each step. The order is that of a DataLoader's
    RandomSampler with a generator of the same seed."""
    generator = torch.Generator().manual_seed(experiment.seed)
    per_epoch = math.ceil(samples / experiment.batch_size)
    done = 0
    for epoch in range(math.ceil(steps / per_epoch)):
        for number, indices in enumerate(batches(samples, experiment.batch_size, generator)):
            if done == steps:
                return
            done += 1
            yield epoch, indices, number == per_epoch - 1


def _typed(inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """Images in the Experiment's dtype; tokens stay integers."""
    return inputs.to(dtype) if inputs.is_floating_point() else inputs


def _enable_devices(experiment: Experiment) -> Callable[[str], DeviceInfo]:
    """Makes the virtual GPUs that the Experiment names, and tells what each device is."""
    virtual = [int(device[5:]) for device in experiment.devices if device.startswith("vgpu")]
    profile = profiles.find(experiment.hardware) if virtual else profiles.get(profiles.DEFAULT)
    capacity = max(1, round(experiment.memory_mb * 1e6)) if experiment.memory_mb else profile.capacity_bytes
    if virtual:
        given = experiment.link
        link = given if given is None or isinstance(given, str) else _model(given)
        timing = None if experiment.timing == "auto" else experiment.timing
        vgpu.enable(max(virtual) + 1, profile, link, capacity, experiment.topology, timing)
    title = profile.title
    if virtual and vgpu.current().model is not None:
        title += ", modelled"
    real = {device.name: device for device in devices.available()} if len(virtual) < len(experiment.devices) else {}

    def about(name: str) -> DeviceInfo:
        return real[name] if name in real else DeviceInfo(name, title, capacity, True)

    return about


def _model(link: Link) -> LinkModel:
    return LinkModel(link.bandwidth_gb_per_s, round(link.latency_us * 1000))


def _versions() -> dict[str, str]:
    return {
        "parallel-lab": lab.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
