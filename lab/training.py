"""A training run, from an Experiment to its last event. This is what a worker process does."""

from __future__ import annotations

import contextlib
import math
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

import lab
from lab import checks, data, nets, placing, rank_devices, strategies, timing, vgpu
from lab.data import Dataset
from lab.devices import cores
from lab.events import (
    Clock,
    DataSource,
    DeviceTotals,
    Evaluated,
    Event,
    GraphTraced,
    GroupJoined,
    ParametersSummed,
    Paused,
    Placed,
    PlacementGraph,
    RunStarted,
    Span,
    StepFinished,
)
from lab.experiment import Experiment, Link
from lab.faults import Fault
from lab.graph import trace
from lab.layers import run_layers
from lab.own_nets import input_dtype, materialise, to_dtype
from lab.schedule import schedule, total_steps
from lab.strategies.base import Job, Strategy, loss_function
from lab.timing.recorder import Recorder, SpanRow
from lab.workers.checksum import Checksum
from lab.workers.control import Control, GatePhase, phase_of, position, step_of
from lab.workers.failure import NotFiniteLossError
from lab.workers.group import Group
from lab.workers.injector import Injector
from lab.workers.slowness import Emulated, Simulated, Slowness

Emit = Callable[[list[Event | SpanRow]], None]


class Training:
    """One rank's run.

    Args:
        group: the ranks of the run.
        emit: takes events in batches.
        control: what the parent asks of this rank.
    """

    def __init__(self, run_id: str, group: Group, emit: Emit, control: Control) -> None:
        self.run_id = run_id
        self.state: Literal["finished", "stopped"] = "finished"
        self._group = group
        self._send = emit
        self._control = control
        self._recorder: Recorder | None = None
        self._began = time.monotonic()
        self._bad_loss: StepFinished | None = None
        self._step = 0
        self._pause_s = 0.0

    def run(self, experiment: Experiment, own_net: Any = None) -> None:
        """Trains to the end, or until stopped.

        Raises:
            NotFiniteLossError: when the loss becomes NaN or infinite.
        """
        group = self._group
        devices = checks.rank_devices(experiment.devices, group.world_size, group.rank)
        clock = timing.clock_for(experiment.devices, experiment.clock)
        if clock == "virtual":
            # A virtual GPU is one core of this machine: so its measured times do not depend on how many cores are free,
            # and small operations do not spend theirs on waking threads.
            torch.set_num_threads(1)
        elif group.world_size > 1:
            torch.set_num_threads(max(1, cores() // group.world_size))
        net = build_net(experiment, own_net, group.rank)
        dataset = data.load(experiment.data or "mnist")
        dtype = getattr(torch, experiment.dtype)
        materialise(net, dataset.train_inputs[:2])
        net = to_dtype(net, dtype)
        dtype = input_dtype(net, dtype)
        self._about = rank_devices.enable(experiment)
        # Before the ranks meet: rank 0 starts first, and has the time.
        plan = self._plan(experiment, net, dataset, dtype, clock) if group.rank == 0 else None
        injector = Injector(experiment.faults, group, _slowness(experiment, clock))
        injector.joining()
        if strategies.REGISTRY[experiment.strategy].several_ranks:
            group.join()
        if group.rank == 0 and group.world_size > 1:
            trained = tuple(name for name, parameter in net.named_parameters() if parameter.requires_grad)
            threads = torch.get_num_threads()
            self._emit([GroupJoined(group.world_size, group.backend, threads, trained, group.explain)])
        placed, graph = group.share(plan)
        lanes = rank_devices.lane_names(experiment.devices, group.world_size, group.rank)
        timer = timing.make_timer(clock, devices, group.agree)
        recorder = Recorder(timer, devices, self._emit, group.rank, experiment.microbatches, lanes)
        self._recorder = recorder
        with recorder.paused():
            layers = rank_devices.own_placement(placed, experiment.devices, devices)
            job = Job(experiment, net, layers, graph, recorder, group, self._enter, injector)
            strategy = strategies.load(experiment.strategy)(job)
        self._control.on_wait = self._wait_at_gate
        self._control.on_shift = timer.shift
        self._injector, self._strategy, self._experiment = injector, strategy, experiment
        self._simulated = clock == "virtual"
        self._began = time.monotonic()
        self._train(strategy, recorder, dataset, experiment, dtype)

    def _plan(
        self, experiment: Experiment, net: nn.Module, dataset: Dataset, dtype: torch.dtype, clock: Clock
    ) -> tuple[Placed, PlacementGraph]:
        """Says what is going to be trained, and finds out which layer lives where."""
        group = self._group
        inputs, targets = dataset.train_inputs, dataset.train_targets
        started = self._started(experiment, net, clock, dataset.source, total_steps(experiment, len(inputs)))
        size = experiment.batch_size // group.world_size
        example = (_typed(inputs[:size], dtype), targets[:size])
        layers = run_layers(net)
        traced = trace(net, layers, *example)
        hardware = vgpu.current().model if clock == "virtual" else None
        own = checks.rank_devices(experiment.devices, group.world_size, 0)
        capacities = dict(zip(own, (info.memory_bytes for info in started.devices), strict=False))
        placed = placing.place(experiment, own, net, layers, traced, *example, capacities, hardware)
        graph = traced.placed(placed.layers)
        self._emit([started, placed, GraphTraced(graph)])
        return placed, graph

    def _train(
        self, strategy: Strategy, recorder: Recorder, dataset: Dataset, experiment: Experiment, dtype: torch.dtype
    ) -> None:
        inputs, targets = dataset.train_inputs, dataset.train_targets
        steps, control = total_steps(experiment, len(inputs)), self._control
        checksum = Checksum(strategy.net) if self._group.world_size > 1 else None
        evaluated = -1
        for step, (epoch, indices, last) in enumerate(schedule(len(inputs), experiment, self._group.rank)):
            self._step = step
            self._enter("data")
            if control.stopped:
                step -= 1
                break
            with recorder.span("data", ["cpu"], "batch"):
                x, y = _typed(inputs[indices], dtype), targets[indices]
            loss = strategy.train_step(x, y)
            if checksum is not None:
                sums = checksum.sums()
                self._group.pen.summed(step, sums)
                recorder.report([ParametersSummed(step, self._group.rank, sums)])
            recorder.finish_step(loss, len(indices))
            if step == 0:
                recorder.flush()
            if self._bad_loss is not None:
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
        if control.stopped and step < steps - 1:
            self.state = "stopped"
        elif evaluated != step:
            self._evaluate(strategy, recorder, dataset, experiment, dtype, step, epoch)
        self._group.at(step, "done")

    def _enter(self, phase: GatePhase) -> None:
        """The step comes to its next phase: waits if the parent says so, and lets happen what is to go wrong."""
        step = self._step
        self._group.at(step, phase)
        if phase == "data" and step:
            self._stand_still()
        self._control.gate(position(step, phase))
        if phase == "data":
            for name, value in self._control.settings():
                self._change(name, value)
        self._injector.at(step, phase)

    def _stand_still(self) -> None:
        """Between two steps, when people want to watch."""
        if not self._pause_s or self._recorder is None:
            return
        self._recorder.flush(wait=True)
        self._recorder.timer.shift(self._control.stand_still(self._pause_s))

    def _wait_at_gate(self, gate: int) -> None:
        """Everything so far is shown before a pause."""
        if self._recorder is not None:
            self._recorder.flush(wait=True)
        self._send([Paused(self._group.rank, step_of(gate), phase_of(gate))])

    def _change(self, name: str, value: Any) -> None:
        """Changes something while the run goes on; the parent has checked it, and all ranks do it before one step."""
        if name == "lr":
            for group in self._strategy.optimizer.param_groups:
                group["lr"] = value
        elif name == "pause_s":
            self._pause_s = value
        elif name == "fault":
            self._injector.add(Fault.read(value))
        elif name == "link" and self._simulated:
            rank_devices.relink(self._experiment, Link(**value))
        elif name == "link":
            self._injector.relink(Link(**value))

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
        """Loss and accuracy on the test split, each rank on its share; takes no time on the run's clock."""
        group = self._group
        group.at(step, "evaluation")
        size = _evaluated_together(experiment)
        share = slice(group.rank, None, group.world_size)
        inputs, targets = dataset.test_inputs[share].split(size), dataset.test_targets[share].split(size)
        sums = torch.zeros(3, dtype=torch.float64)  # loss, correct, count
        with recorder.paused():
            group.share_buffers(strategy.net)
            for x, y in zip(inputs, targets, strict=True):
                if self._control.stopped and group.world_size == 1:
                    return
                with _saying_that_it_evaluates(len(x)):
                    outputs = vgpu.peek(strategy.predict(_typed(x, dtype))).to("cpu", torch.float32)
                correct = int((outputs.argmax(-1) == y).sum())
                sums += torch.tensor([loss_function(outputs, y).item() * y.numel(), correct, y.numel()])
            loss, correct, count = group.sum(sums).tolist()
        if group.rank == 0:
            self._emit([Evaluated(step, epoch, "test", loss / count, correct / count, len(dataset.test_inputs))])

    def _emit(self, batch: list[Event | SpanRow]) -> None:
        """Sends a batch; nothing is sent of what comes after a loss that is no number."""
        for index, item in enumerate(batch):
            if isinstance(item, StepFinished) and not math.isfinite(item.loss):
                self._bad_loss = item
                batch = batch[: index + 1]
                break
        if self._bad_loss is None or batch[-1:] == [self._bad_loss]:
            self._send(batch)

    def _started(
        self,
        experiment: Experiment,
        net: nn.Module,
        clock: Clock,
        source: DataSource,
        steps: int,
    ) -> RunStarted:
        entry = nets.REGISTRY.get(experiment.net)
        return RunStarted(
            run_id=self.run_id,
            experiment=experiment.to_dict(),
            devices=rank_devices.of_all_ranks(experiment, self._about),
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


def build_net(experiment: Experiment, own_net: Any, rank: int = 0) -> nn.Module:
    """The net, initialised from the Experiment's seed; a module of the user's keeps the parameters that it has.

    Other ranks start from other seeds: what makes their copies equal is DDP, which sends them those of rank 0.
    """
    torch.manual_seed(experiment.seed + rank)
    if own_net is None:
        return nets.build(experiment.net, data.REGISTRY[experiment.data or "mnist"].spec)
    module: nn.Module = own_net if isinstance(own_net, nn.Module) else own_net()
    return module


def _evaluated_together(experiment: Experiment) -> int:
    """How many samples are evaluated at once: as many as a device has in a training step, which keeps more of each than
    evaluation does, so that what fits one fits the other. The CPU has memory for more, which takes less time."""
    splits_layers = strategies.REGISTRY[experiment.strategy].takes_placement  # without, each device has a copy
    copies = experiment.world_size or 1 if splits_layers else len(experiment.devices)
    size = -(-experiment.batch_size // copies)
    return max(64, size) if set(experiment.devices) == {"cpu"} else size


@contextlib.contextmanager
def _saying_that_it_evaluates(samples: int) -> Iterator[None]:
    """An error for want of memory says where it was."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise type(error)(f"in the evaluation on the test split, {samples} samples at once: {error}") from error


def _slowness(experiment: Experiment, clock: Clock) -> Slowness:
    """How a rank is made late on this clock."""
    if clock != "virtual":
        return Emulated()

    def devices_of(rank: int) -> tuple[int, ...]:
        own = checks.rank_devices(experiment.devices, experiment.world_size or 1, rank)
        return tuple(int(device[5:]) for device in own if device.startswith("vgpu"))

    return Simulated(vgpu.current(), devices_of)


def _typed(inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """Images in the Experiment's dtype; tokens stay integers."""
    return inputs.to(dtype) if inputs.is_floating_point() else inputs


def _versions() -> dict[str, str]:
    return {
        "parallel-lab": lab.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
