"""Runs in real worker processes: what they report, and what happens when they break."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import BatchSampler, DistributedSampler

import lab
from lab import backlog, data, nets
from lab.events import (
    Evaluated,
    GraphTraced,
    MemorySampled,
    MemoryTraced,
    Placed,
    RankFailed,
    RunFinished,
    RunStarted,
    Span,
    StepFinished,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

SPLIT = {"conv1": "vgpu:0", "*": "vgpu:1"}
PATIENCE = 60.0
"""Seconds after which a run that should have ended has hung."""


def plain_losses(steps: int, batch_size: int = 64, seed: int = 0) -> list[float]:
    """Net on MNIST on the CPU, as a tutorial writes it."""
    dataset = data.load("mnist")
    torch.manual_seed(seed)
    net = nets.build("net", data.REGISTRY["mnist"].spec)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    samples = DistributedSampler(range(60_000), num_replicas=1, rank=0, seed=seed)
    losses = []
    for indices, _ in zip(BatchSampler(samples, batch_size, drop_last=False), range(steps), strict=False):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(dataset.train_inputs[indices]), dataset.train_targets[indices])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are taken in another order on several threads; virtual GPUs use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "experiment",
    [
        lab.Experiment(steps=6, devices="vgpu:0"),
        lab.Experiment(steps=6, devices="vgpu:1"),
        lab.Experiment(strategy="model_parallel", placement=SPLIT, steps=6),
    ],
    ids=["vgpu", "vgpu:1", "model_parallel"],
)
def test_virtual_gpus_train_as_a_plain_loop_does_to_the_bit(experiment: lab.Experiment) -> None:
    with lab.start(experiment) as run:
        losses = [event.loss for event in run if isinstance(event, StepFinished)]
    assert losses == plain_losses(6)


def test_the_cpu_trains_as_a_plain_loop_does() -> None:
    with lab.start(lab.Experiment(steps=6)) as run:
        losses = [event.loss for event in run if isinstance(event, StepFinished)]
    assert losses == plain_losses(6)


def test_data_parallel_trains_as_one_device_does() -> None:
    experiment = lab.Experiment(strategy="data_parallel", devices="vgpu:0,vgpu:1,vgpu:2", steps=6)
    with lab.start(experiment) as run:
        losses = [event.loss for event in run if isinstance(event, StepFinished)]
        result = run.result()
    assert losses == pytest.approx(plain_losses(6), rel=1e-5)
    assert run.state.placed.copies == ("vgpu:1", "vgpu:2")
    # Out and back for two copies: 21,840 parameters, and the outputs of their 22 and 20 samples.
    assert run.state.crossing_bytes == 2 * 2 * 21_840 * 4 + 2 * (22 + 20) * 10 * 4
    assert all(result.totals[device].busy_ns > 0 for device in experiment.devices)


def test_a_part_of_one_sample_is_too_small_for_batch_norm() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10))
    experiment = lab.Experiment(net="own:Sequential", strategy="data_parallel", batch_size=2, steps=1)
    with lab.start(experiment, net=net) as run:
        list(run)
    assert "Expected more than 1 value per channel" in run.state.failure.cause
    assert "use fewer devices" in run.state.failure.advice


def test_a_run_says_everything_in_order() -> None:
    with lab.start(lab.Experiment(strategy="model_parallel", placement=SPLIT, steps=5, seed=3)) as run:
        events = list(run)
        result = run.result()
    kinds = [type(event) for event in events]
    assert kinds[:3] == [RunStarted, Placed, GraphTraced]
    assert kinds[-2:] == [Evaluated, RunFinished]
    assert [event.step for event in events if isinstance(event, StepFinished)] == [0, 1, 2, 3, 4]
    started, placed, graph = events[0], events[1], events[2].graph
    assert started.run_id == run.id
    assert started.clock == "virtual"
    assert started.data.train_samples == 60_000
    assert lab.Experiment.from_dict(started.experiment) == run.experiment
    assert placed.layers == {"conv1": "vgpu:0", "conv2": "vgpu:1", "fc1": "vgpu:1", "fc2": "vgpu:1"}
    [edge] = [edge for edge in graph.edges if edge.crosses]
    assert (edge.source, edge.target) == ("conv1", "conv2")
    assert edge.forward_bytes == edge.backward_bytes == 64 * 10 * 12 * 12 * 4
    spans = [event for event in events if isinstance(event, Span) and event.step == 4]
    done = {(span.device, span.kind, span.name) for span in spans}
    for layer, device in placed.layers.items():
        assert (device, "forward", layer) in done
        assert (device, "backward", layer) in done
    crossing = [span for span in spans if span.kind == "transfer" and "cpu" not in span.name]
    assert {(span.device, span.peer, span.bytes) for span in crossing} == {
        ("vgpu:0", "vgpu:1", 368_640),
        ("vgpu:1", "vgpu:0", 368_640),
    }
    assert {event.device for event in events if isinstance(event, MemorySampled)} == {"vgpu:0", "vgpu:1"}
    traces = [event for event in events if isinstance(event, MemoryTraced)]
    assert [(trace.device, trace.step) for trace in traces[:2]] == [("vgpu:0", 0), ("vgpu:1", 0)]
    assert [set(trace.sizes["parameters"]) for trace in traces[:2]] == [{4 * 260}, {4 * (5_020 + 16_050 + 510)}]
    assert result.state == "finished"
    assert result.steps == 5
    assert 0 < result.accuracy <= 1


def test_the_times_of_a_device_add_up() -> None:
    """Spans of one device do not overlap, and with its waits they fill the time up to its last span."""
    with lab.start(lab.Experiment(strategy="model_parallel", placement=SPLIT, steps=8, microbatches=4)) as run:
        spans = [event for event in run if isinstance(event, Span)]
    for device in ("vgpu:0", "vgpu:1"):
        lane = sorted((s for s in spans if device in (s.device, s.peer)), key=lambda span: span.start_ns)
        for before, after in pairwise(lane):
            assert before.end_ns <= after.start_ns + 1
        covered = sum(span.duration_ns for span in lane)
        assert covered == pytest.approx(lane[-1].end_ns, rel=0.01)


def test_a_late_reader_gets_every_event() -> None:
    with lab.start(lab.Experiment(steps=3)) as run:
        assert run.wait(PATIENCE)
        events = list(run)
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)


def test_two_runs_at_once_do_not_mix() -> None:
    with lab.start(lab.Experiment(steps=4, seed=1)) as one, lab.start(lab.Experiment(steps=4, seed=2)) as two:
        losses = [[e.loss for e in run if isinstance(e, StepFinished)] for run in (one, two)]
    assert losses == [plain_losses(4, seed=1), plain_losses(4, seed=2)]


class Sleeper(nn.Module):
    """Takes half a minute for each forward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)
        self.naps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "meta":
            time.sleep(30)
        return self.fc(x.flatten(1))


def test_stop_ends_a_run_in_the_middle_of_a_step() -> None:
    with lab.start(lab.Experiment(), net=Sleeper) as run:
        while run.state.placed is None:
            assert not run.wait(0.02)
        run.stop()
        assert run.wait(10)
        assert run.result().state == "stopped"


def test_stop_keeps_what_was_reported() -> None:
    with lab.start(lab.Experiment(epochs=1000)) as run:
        while run.state.step < 3:
            assert not run.wait(0.02)
        run.stop()
        result = run.result(PATIENCE)
    assert result.state == "stopped"
    assert result.steps >= 3


def test_stop_before_the_worker_is_up() -> None:
    run = lab.start(lab.Experiment(epochs=1000))
    run.close()
    assert run.done
    assert run.result().state == "stopped"


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "meta":
            raise ValueError("this layer is broken on purpose")
        return self.fc(x.flatten(1))


def test_an_exception_arrives_with_its_traceback() -> None:
    with lab.start(lab.Experiment(), net=Broken) as run:
        with pytest.raises(lab.RunError, match="broken on purpose") as caught:
            run.result(PATIENCE)
        failure = run.state.failure
    assert failure.primary
    assert failure.cause == "ValueError: this layer is broken on purpose"
    assert 'raise ValueError("this layer is broken on purpose")' in failure.traceback
    assert caught.value.failure == failure
    assert run.state.status == "failed"


def test_a_killed_worker_is_reported() -> None:
    with lab.start(lab.Experiment(epochs=1000)) as run:
        while run.state.step < 1:
            assert not run.wait(0.02)
        os.kill(run.pids[0], signal.SIGKILL)
        assert run.wait(10)
        failure = run.state.failure
    assert failure.cause.startswith("rank 0 was killed by SIGKILL, in ")
    assert run.state.finished.state == "failed"
    assert run.state.finished.steps >= 1


class Quitter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "meta":
            os._exit(0)
        return self.fc(x.flatten(1))


def test_exit_code_zero_without_a_word_is_a_failure() -> None:
    with lab.start(lab.Experiment(), net=Quitter) as run:
        assert run.wait(PATIENCE)
    assert "exit code 0" in run.state.failure.cause


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    with lab.start(lab.Experiment(lr=1000, epochs=1, dtype="float32", net="mlp")) as run:
        events = list(run)
    [failure] = [event for event in events if isinstance(event, RankFailed)]
    assert "learning rate of 1000" in failure.cause
    assert "learning rate" in failure.advice
    steps = [event for event in events if isinstance(event, StepFinished)]
    assert not torch.isfinite(torch.tensor(steps[-1].loss))
    assert all(torch.isfinite(torch.tensor(event.loss)) for event in steps[:-1])
    assert events[-1].state == "failed"


def test_out_of_memory_says_how_much() -> None:
    with lab.start(lab.Experiment(devices="vgpu:0", memory_mb=1.0)) as run:
        assert run.wait(PATIENCE)
    assert "Tried to allocate" in run.state.failure.cause
    assert "1.0 MB" in run.state.failure.cause
    # Net's 21,840 parameters; a batch of 64 images and labels.
    assert "held by tensors: 87.4 kB parameters, 201.2 kB other." in run.state.failure.cause
    assert "smaller batch" in run.state.failure.advice


def test_manual_transfers_show_the_real_error() -> None:
    with lab.start(lab.Experiment(strategy="model_parallel", placement=SPLIT, transfers="manual")) as run:
        assert run.wait(PATIENCE)
    assert "Expected all tensors to be on the same device" in run.state.failure.cause
    assert "vgpu:0" in run.state.failure.cause
    assert "vgpu:1" in run.state.failure.cause
    assert "transfers='auto'" in run.state.failure.advice


def test_a_net_that_cannot_travel_is_refused() -> None:
    net = Broken()
    net.lock = __import__("threading").Lock()
    with pytest.raises(lab.RunError, match="cannot be sent to a worker process"):
        lab.start(lab.Experiment(), net=net)


def test_a_module_keeps_its_parameters() -> None:
    torch.manual_seed(7)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    dataset = data.load("mnist")
    order = torch.randperm(60_000, generator=torch.Generator().manual_seed(0))[:64]
    with torch.no_grad():
        expected = F.cross_entropy(net(dataset.train_inputs[order]), dataset.train_targets[order]).item()
    with lab.start(lab.Experiment(steps=1), net=net) as run:
        first = next(event for event in run if isinstance(event, StepFinished))
    assert first.loss == expected


def test_automatic_placement_says_what_it_expects() -> None:
    with lab.start(lab.Experiment(strategy="model_parallel", placement="auto", steps=2)) as run:
        run.result(PATIENCE)
        placed = run.state.placed
    assert placed.method == "auto"
    assert list(placed.layers) == ["conv1", "conv2", "fc1", "fc2"]
    assert set(placed.expected_ns) == {"vgpu:0", "vgpu:1"}
    assert all(ns > 0 for ns in placed.expected_ns.values())


# -- whole scripts, in an interpreter of their own ------------------------------------------------------------------


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_a_net_of_the_script_itself_and_its_prints(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
        import torch
        from torch import nn
        import lab

        class Mine(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(784, 10)
            def forward(self, x):
                print("from the net")
                return self.fc(x.flatten(1))

        if __name__ == "__main__":
            result = lab.start(lab.Experiment(steps=2), net=Mine).result()
            print(result.state, result.steps)
        """,
    )
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "finished 2"
    assert "from the net" in done.stderr


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
        import lab
        lab.start(lab.Experiment(steps=1)).result()
        """,
    )
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert 'if __name__ == "__main__":' in done.stderr


def test_a_killed_parent_leaves_no_worker(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
        import time
        import lab

        if __name__ == "__main__":
            run = lab.start(lab.Experiment(epochs=1000))
            while run.state.step < 1:
                time.sleep(0.01)
            print(run.pids[0], flush=True)
            time.sleep(60)
        """,
    )
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running()
        family = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    _, alive = psutil.wait_procs([worker, *family], timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


# -- loops over a run -------------------------------------------------------------------------------------------------


def test_a_loop_that_was_left_can_be_taken_up_again() -> None:
    with lab.start(lab.Experiment(steps=5)) as run:
        first = []
        for event in run:
            first.append(event)
            if isinstance(event, StepFinished):
                break
        events = first + list(run)
    assert [event.step for event in events if isinstance(event, StepFinished)] == [0, 1, 2, 3, 4]
    assert isinstance(events[-1], RunFinished)


def test_an_abandoned_loop_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_EVENTS", 50)
    monkeypatch.setattr(backlog, "READER_SECONDS", 0.2)
    with lab.start(lab.Experiment(steps=60)) as run:
        abandoned = iter(run)
        next(abandoned)
        assert run.result(PATIENCE).steps == 60
        left = list(run)
    assert isinstance(left[-1], RunFinished)
    assert len(left) < 60 * 9


class Mover(nn.Module):
    """Moves its own activation, to a device that it names."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(784, 20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x.flatten(1)).to("vgpu:1"))


def test_a_net_that_moves_its_own_tensors_trains_with_manual_transfers() -> None:
    experiment = lab.Experiment(
        strategy="model_parallel", placement={"body": "vgpu:0", "head": "vgpu:1"}, transfers="manual", steps=3
    )
    with lab.start(experiment, net=Mover) as run:
        assert run.result(PATIENCE).steps == 3
        [edge] = [edge for edge in run.state.graph.edges if edge.crosses]
    assert (edge.source, edge.target, edge.forward_bytes) == ("body", "head", 64 * 20 * 4)
