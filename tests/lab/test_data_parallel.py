"""Data parallelism, driven directly, against plain PyTorch loops on the CPU."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import vgpu
from lab.events import Span
from lab.experiment import Experiment
from lab.strategies import data_parallel as data_parallel_file
from lab.strategies.base import Job
from lab.strategies.data_parallel import OnCuda
from tests.lab.driven import SPECS, STEPS, Run, build, plain_loop, same_parameters, some_batches

Steps = list[tuple[Tensor, Tensor]]
NET_PARAMETERS = (10 * 25 + 10) + (20 * 250 + 20) + (50 * 320 + 50) + (10 * 50 + 10)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def in_double(steps: Steps) -> Steps:
    return [(x.double() if x.is_floating_point() else x, y) for x, y in steps]


def data_parallel(net: nn.Module, steps: Steps, count: int, kind: str = "vgpu") -> Run:
    devices = [f"{kind}:{index}" for index in range(count)]
    return Run(net, steps, {"*": devices[0]}, strategy="data_parallel", devices=devices)


# -- the same as one device ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["net", "mlp", "gpt"])
def test_losses_gradients_and_parameters_are_those_of_a_plain_loop(name: str, count: int) -> None:
    steps = in_double(some_batches(SPECS[name], 10))  # 3 parts of 4, 4, 2, and 4 of 3, 3, 3, 1
    expected = build(name).double()
    losses = plain_loop(expected, steps)
    run = data_parallel(build(name).double(), steps, count)
    assert run.train(steps) == pytest.approx(losses, rel=1e-12)
    for actual, wanted in zip(run.net.parameters(), expected.parameters(), strict=True):
        assert actual.device == torch.device("vgpu:0")
        torch.testing.assert_close(actual.grad.cpu(), wanted.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(actual.detach().cpu(), wanted.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["net", "mlp", "gpt"])
def test_in_single_precision_they_agree_within_rounding(name: str) -> None:
    steps = some_batches(SPECS[name], 8)
    losses = plain_loop(build(name), steps)
    assert data_parallel(build(name), steps, 2).train(steps) == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("device", ["cpu", "vgpu:0"])
def test_one_device_is_a_plain_loop_to_the_bit(device: str) -> None:
    steps = some_batches(SPECS["resnet18"], 4)
    expected = build("resnet18")
    losses = plain_loop(expected, steps)
    run = Run(build("resnet18"), steps, {"*": device}, strategy="data_parallel")
    assert run.train(steps) == losses
    assert same_parameters(run.net, expected)


@pytest.mark.parametrize("last", [1, 3, 5])
def test_a_short_last_batch_uses_as_many_devices_as_it_has_parts(last: int) -> None:
    steps = in_double(some_batches(SPECS["mlp"], 8))
    steps[-1] = (steps[-1][0][:last], steps[-1][1][:last])
    losses = plain_loop(build("mlp").double(), steps)
    run = data_parallel(build("mlp").double(), steps, 4)
    assert run.train(steps) == pytest.approx(losses, rel=1e-12)
    worked = {span.device for span in run.spans(STEPS - 1, "forward")}
    parts = {1: 1, 3: 3, 5: 3}[last]  # five samples over four devices: 2, 2, 1
    assert worked == {f"vgpu:{index}" for index in range(parts)}


def test_the_cpu_and_virtual_gpus_together() -> None:
    steps = in_double(some_batches(SPECS["net"], 6))
    losses = plain_loop(build("net").double(), steps)
    devices = ["vgpu:0", "cpu"]
    run = Run(build("net").double(), steps, {"*": "vgpu:0"}, strategy="data_parallel", devices=devices)
    assert run.train(steps) == pytest.approx(losses, rel=1e-12)


class Shared(nn.Module):
    """A weight shared by two layers, a layer run twice, a frozen layer, and an LSTM, which keeps a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(784, 16), nn.Linear(16, 16)
        self.tied = nn.Linear(16, 16)
        self.tied.weight = self.second.weight
        self.frozen = nn.Linear(16, 16).requires_grad_(False)
        self.memory = nn.LSTM(16, 8, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x.flatten(1)))  # (B, 16)
        x = torch.tanh(self.tied(self.second(self.second(x))))
        x, _ = self.memory(self.frozen(x).unsqueeze(1))  # (B, 1, 8)
        out: Tensor = self.head(x.squeeze(1))
        return out


def test_shared_and_frozen_parameters() -> None:
    steps = in_double(some_batches(SPECS["mlp"], 7))
    torch.manual_seed(0)
    net = Shared().double()
    expected = copy.deepcopy(net)
    losses = plain_loop(expected, steps)
    run = data_parallel(net, steps, 3)
    assert run.train(steps) == pytest.approx(losses, rel=1e-12)
    assert run.net.tied.weight is run.net.second.weight
    assert run.net.frozen.weight.grad is None
    for actual, wanted in zip(run.net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(actual.detach().cpu(), wanted.detach(), rtol=1e-9, atol=1e-12)
    trained = (784 * 16 + 16) + (16 * 16 + 16) + 16 + 4 * (8 * 16 + 8 * 8 + 8 + 8) + (8 * 10 + 10)
    frozen = 16 * 16 + 16
    assert traffic(run, 0)["replicate", "vgpu:0", "vgpu:1"] == 8 * (trained + frozen)
    assert traffic(run, 0)["reduce", "vgpu:1", "vgpu:0"] == 8 * trained


def test_predict_is_the_net_in_evaluation_mode() -> None:
    steps = some_batches(SPECS["resnet18"], 4)
    run = data_parallel(build("resnet18"), steps, 2)
    with torch.no_grad():
        expected = build("resnet18").eval()(steps[0][0])
    assert torch.equal(vgpu.peek(run.strategy.predict(steps[0][0])), expected)
    assert run.net.training


# -- batch norm, which differs ------------------------------------------------------------------------------------


def test_batch_norm_sees_each_part_alone_and_keeps_the_first_ones_statistics() -> None:
    steps = in_double(some_batches(SPECS["resnet18"], 8))
    run = data_parallel(build("resnet18").double(), steps, 2)
    losses = run.train(steps)

    # A plain loop in which each half is normalised with its own mean and variance.
    net = build("resnet18").double()
    update, expected = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9), []
    for x, y in steps:
        update.zero_grad()
        first, second = x.chunk(2)
        spared = {name: buffer.clone() for name, buffer in net.named_buffers()}
        outputs = [net(first), torch.func.functional_call(net, spared, (second,))]
        loss = F.cross_entropy(torch.cat(outputs), y)
        loss.backward()
        update.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-9)
    for (name, actual), wanted in zip(run.net.named_buffers(), net.buffers(), strict=True):
        torch.testing.assert_close(actual.cpu(), wanted, rtol=1e-9, atol=1e-12, msg=name)

    whole = plain_loop(build("resnet18").double(), steps)
    assert all(abs(ours - theirs) > 1e-3 for ours, theirs in zip(losses, whole, strict=True))


# -- what moves ---------------------------------------------------------------------------------------------------


def traffic(run: Run, step: int) -> Counter[tuple[str, str, str]]:
    """(purpose, source, target) -> bytes in one step."""
    moved: Counter[tuple[str, str, str]] = Counter()
    for span in run.spans(step, "transfer"):
        purpose = span.name.removesuffix(f"{span.device} → {span.peer}").strip()
        moved[purpose, span.device, span.peer] += span.bytes
    return moved


def test_bytes_of_a_step_counted_by_hand() -> None:
    steps = some_batches(SPECS["net"], 10)
    steps[-1] = (steps[-1][0][:2], steps[-1][1][:2])
    run = data_parallel(build("net"), steps, 3)
    run.train(steps)
    image, output, net = 28 * 28 * 4, 10 * 4, NET_PARAMETERS * 4
    expected = {("", "cpu", "vgpu:0"): 10 * 8}
    for device, samples in (("vgpu:0", 4), ("vgpu:1", 4), ("vgpu:2", 2)):
        expected["scatter", "cpu", device] = samples * image
        if device != "vgpu:0":
            expected["replicate", "vgpu:0", device] = net
            expected["gather", device, "vgpu:0"] = samples * output
            expected["scatter", "vgpu:0", device] = samples * output  # the gradients of the outputs
            expected["reduce", device, "vgpu:0"] = net
    assert traffic(run, 0) == traffic(run, 1) == expected
    assert traffic(run, 2) == {
        ("", "cpu", "vgpu:0"): 2 * 8,
        ("scatter", "cpu", "vgpu:0"): image,
        ("scatter", "cpu", "vgpu:1"): image,
        ("replicate", "vgpu:0", "vgpu:1"): net,
        ("gather", "vgpu:1", "vgpu:0"): output,
        ("scatter", "vgpu:0", "vgpu:1"): output,
        ("reduce", "vgpu:1", "vgpu:0"): net,
    }


def test_buffers_are_copied_out_and_never_back() -> None:
    steps = some_batches(SPECS["mlp"], 4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10))
    run = data_parallel(net, steps, 2)
    run.train(steps)
    trained = (784 * 10 + 10 + 2 * 10) * 4
    buffers = 2 * 10 * 4 + 8  # running mean and variance, and the number of batches as an int64
    assert traffic(run, 0)["replicate", "vgpu:0", "vgpu:1"] == trained + buffers
    assert traffic(run, 0)["reduce", "vgpu:1", "vgpu:0"] == trained


def test_copies_are_gone_after_the_step() -> None:
    steps = some_batches(SPECS["mlp"], 8)
    run = data_parallel(build("mlp"), steps, 2)
    run.train(steps)
    assert run.recorder.timer.memory("vgpu:1")[0] == 0
    parameters = sum(parameter.nbytes for parameter in run.net.parameters())
    assert run.recorder.timer.memory("vgpu:0")[0] >= 3 * parameters  # with gradients and momentum


class Only(nn.Module):
    """One layer, whose turn on one device is followed by its turn on the next."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.flatten(1))
        return out


# -- what is recorded ---------------------------------------------------------------------------------------------


def test_the_six_steps_in_the_timeline() -> None:
    steps = some_batches(SPECS["net"], 8)
    run = data_parallel(build("net"), steps, 2)
    run.train(steps)
    layers = {"conv1", "conv2", "fc1", "fc2"}
    for kind in ("forward", "backward"):
        turns = {(span.device, span.name) for span in run.spans(1, kind)}
        both = {(device, layer) for device in ("vgpu:0", "vgpu:1") for layer in layers}
        assert turns == both | {("vgpu:0", "loss")}
    assert {span.device for span in run.spans(1, "optimizer")} == {"vgpu:0"}
    collectives = Counter((span.device, span.name) for span in run.spans(1, "collective"))
    assert collectives == {
        ("vgpu:0", "replicate"): 1,
        ("vgpu:0", "gather"): 1,
        ("vgpu:0", "reduce"): 2,
        ("vgpu:1", "reduce"): 1,
    }

    def begins(kind: str, name: str) -> int:
        return min(span.start_ns for span in run.spans(1, kind) if span.name.split()[0] == name)

    order = [
        *[("transfer", "scatter"), ("transfer", "replicate"), ("forward", "conv1"), ("transfer", "gather")],
        *[("forward", "loss"), ("backward", "loss"), ("backward", "conv1"), ("transfer", "reduce")],
        ("optimizer", "optimizer"),
    ]
    times = [begins(kind, name) for kind, name in order]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    flops = Counter[str]()
    for span in run.spans(1, "forward"):
        flops[span.device] += span.flops if span.name == "fc1" else 0
    assert flops == {"vgpu:0": 2 * 4 * 320 * 50, "vgpu:1": 2 * 4 * 320 * 50}
    for device in ("vgpu:0", "vgpu:1"):
        spans = [e for e in run.events if isinstance(e, Span) and device in (e.device, e.peer)]
        ordered = sorted(spans, key=lambda span: (span.start_ns, span.end_ns))
        assert all(a.end_ns <= b.start_ns for a, b in itertools.pairwise(ordered)), device


def test_a_net_of_one_layer_has_a_turn_on_each_device() -> None:
    steps = some_batches(SPECS["mlp"], 4)
    run = data_parallel(Only(), steps, 2)
    run.train(steps)
    for kind in ("forward", "backward"):
        assert {span.device for span in run.spans(1, kind) if span.name == "head"} == {"vgpu:0", "vgpu:1"}


@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_replicas_work_side_by_side_on_the_virtual_clock(kind: str) -> None:
    steps = some_batches(SPECS["net"], 64)
    run = data_parallel(build("net"), steps, 2)
    run.train(steps)
    reach = {}
    for device in ("vgpu:0", "vgpu:1"):
        spans = [span for span in run.spans(1, kind) if span.device == device and span.name != "loss"]
        reach[device] = (min(span.start_ns for span in spans), max(span.end_ns for span in spans))
    (a0, a1), (b0, b1) = reach.values()
    together = min(a1, b1) - max(a0, b0)
    assert together > 0.5 * min(a1 - a0, b1 - b0)


def test_the_first_device_holds_all_outputs() -> None:
    steps = some_batches(SPECS["net"], 9)
    run = data_parallel(build("net"), steps, 3)
    assert run.strategy.train_step(*steps[0]).device == torch.device("vgpu:0")
    run.recorder.finish_step(torch.zeros(()), 9)
    run.recorder.flush(wait=True)
    assert {span.peer for span in run.spans(0, "transfer") if span.name.startswith("gather")} == {"vgpu:0"}
    assert {span.device for span in run.spans(0, "forward") if span.name == "loss"} == {"vgpu:0"}


# -- PyTorch's own ------------------------------------------------------------------------------------------------


def test_the_real_one_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the plain net in place of PyTorch's wrapper, which needs GPUs."""
    monkeypatch.setattr(nn, "DataParallel", lambda net, device_ids: net)
    steps = some_batches(SPECS["net"], 8)
    losses = plain_loop(build("net"), steps)
    run = Run(build("net"), steps, {"*": "cpu"}, strategy="data_parallel")
    run.strategy = OnCuda(Job(run.experiment, build("net"), {}, None, run.recorder))
    assert run.train(steps) == losses
    assert [span.name for span in run.spans(1, "backward")] == ["backward, reduce"]
    assert run.strategy.predict(steps[0][0]).shape == (8, 10)


@pytest.mark.parametrize(
    ("devices", "real"), [(["cuda:0", "cuda:1"], True), (["cuda:0", "vgpu:0"], False), (["cpu"], False)]
)
def test_the_real_one_is_for_real_gpus_alone(devices: list[str], real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OnCuda", "InSixSteps"):
        monkeypatch.setattr(data_parallel_file, name, lambda job, name=name: name)
    experiment = Experiment(strategy="data_parallel", devices=devices)
    made = data_parallel_file.make(Job(experiment, nn.Identity(), {}, None, None))
    assert made == ("OnCuda" if real else "InSixSteps")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs a CUDA device")
def test_on_cuda_it_is_the_real_one_with_the_same_losses() -> None:
    steps = some_batches(SPECS["net"], 10)
    losses = plain_loop(build("net"), steps)
    count = min(4, torch.cuda.device_count())
    run = data_parallel(build("net"), steps, count, "cuda")
    assert isinstance(run.strategy, OnCuda)
    assert run.train(steps) == pytest.approx(losses, rel=1e-2)  # TF32 and other kernels round differently
    assert {span.device for span in run.spans(1, "forward")} == {f"cuda:{index}" for index in range(count)}
