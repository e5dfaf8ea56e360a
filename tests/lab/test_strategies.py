"""Strategies, driven directly, against plain PyTorch loops on the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import nets, vgpu
from lab.errors import DeviceError
from lab.events import Span
from lab.strategies.base import evaluating
from lab.strategies.model_parallel import AlignDevices, bring_inputs, place
from lab.timing.recorder import Recorder
from lab.timing.wall import WallTimer
from tests.lab.driven import FIRST, SPECS, STEPS, Run, build, plain_loop, same_parameters, some_batches


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# -- to the bit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", nets.NAMES)
@pytest.mark.parametrize("device", ["cpu", "vgpu:0"])
def test_single_is_a_plain_loop(name: str, device: str):
    steps = some_batches(SPECS[name], 4)
    expected = build(name)
    losses = plain_loop(expected, steps)
    run = Run(build(name), steps, {"*": device}, strategy="single")
    assert run.train(steps) == losses
    assert len(set(losses)) == STEPS
    assert same_parameters(run.net, expected)


@pytest.mark.parametrize("name", nets.NAMES)
def test_model_parallel_is_a_plain_loop(name: str):
    steps = some_batches(SPECS[name], 4)
    expected = build(name)
    losses = plain_loop(expected, steps)
    run = Run(build(name), steps, {FIRST[name]: "vgpu:0", "*": "vgpu:1"})
    assert run.train(steps) == losses
    assert same_parameters(run.net, expected)
    for (path, actual), wanted in zip(run.net.named_parameters(), expected.parameters(), strict=True):
        assert actual.device == torch.device("vgpu:0" if path.startswith(FIRST[name] + ".") else "vgpu:1")
        assert torch.equal(actual.grad.cpu(), wanted.grad)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_other_optimizers_across_devices(optimizer: str):
    steps = some_batches(SPECS["net"], 4)
    expected = build("net")
    losses = plain_loop(expected, steps, optimizer)
    run = Run(build("net"), steps, {"fc*": "vgpu:1", "*": "vgpu:0"}, optimizer=optimizer)
    assert run.train(steps) == losses
    assert same_parameters(run.net, expected)


@pytest.mark.parametrize(
    "placement",
    [
        {"conv1": "cpu", "*": "vgpu:0"},
        {"conv*": "vgpu:0", "*": "cpu"},
        {"conv1": "vgpu:0", "conv2": "vgpu:1", "fc1": "vgpu:0", "fc2": "vgpu:2"},
    ],
)
def test_any_mix_of_devices(placement: dict[str, str]):
    steps = some_batches(SPECS["net"], 4)
    expected = build("net")
    losses = plain_loop(expected, steps)
    run = Run(build("net"), steps, placement)
    assert run.train(steps) == losses
    assert same_parameters(run.net, expected)


def test_predict_is_the_net_in_evaluation_mode_and_leaves_it_training():
    steps = some_batches(SPECS["resnet18"], 4)
    plain = build("resnet18")
    run = Run(build("resnet18"), steps, {"conv1": "vgpu:0", "*": "vgpu:1"})
    output = run.strategy.predict(steps[0][0])
    with torch.no_grad():
        expected = plain.eval()(steps[0][0])
    assert torch.equal(vgpu.peek(output), expected)
    assert run.net.training
    assert not output.requires_grad


# -- microbatches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net", "mlp", "gpt"])
@pytest.mark.parametrize("microbatches", [2, 4])
def test_microbatches_give_the_same_losses_and_gradients(name: str, microbatches: int):
    steps = some_batches(SPECS[name], 4)
    expected = build(name).double() if name != "gpt" else build(name)
    steps = [(x.double() if x.is_floating_point() else x, y) for x, y in steps]
    losses = plain_loop(expected, steps)
    net = build(name).double() if name != "gpt" else build(name)
    run = Run(net, steps, {FIRST[name]: "vgpu:0", "*": "vgpu:1"}, microbatches=microbatches)
    tolerance = 1e-4 if name == "gpt" else 1e-9
    assert run.train(steps) == pytest.approx(losses, rel=tolerance)
    for actual, wanted in zip(run.net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(actual.grad.cpu(), wanted.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("last", [1, 3, 7])
def test_a_last_batch_that_does_not_divide(last: int):
    steps = [(x.double(), y) for x, y in some_batches(SPECS["mlp"], 8)]
    steps[-1] = (steps[-1][0][:last], steps[-1][1][:last])
    expected = build("mlp").double()
    losses = plain_loop(expected, steps)
    run = Run(build("mlp").double(), steps, {"fc1": "vgpu:0", "*": "vgpu:1"}, microbatches=4)
    assert run.train(steps) == pytest.approx(losses, rel=1e-12)
    for actual, wanted in zip(run.net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(actual.grad.cpu(), wanted.grad, rtol=1e-9, atol=1e-12)


def test_stages_overlap_only_with_microbatches():
    steps = some_batches(SPECS["mlp"], 8)

    def overlap(microbatches: int) -> int:
        run = Run(build("mlp"), steps, {"fc1": "vgpu:0", "*": "vgpu:1"}, microbatches=microbatches)
        run.train(steps)
        spans = run.spans(1, "forward") + run.spans(1, "backward")
        return sum(
            max(0, min(a.end_ns, b.end_ns) - max(a.start_ns, b.start_ns))
            for a in spans
            for b in spans
            if a.device == "vgpu:0" and b.device == "vgpu:1"
        )

    assert overlap(1) == 0
    assert overlap(4) > 0


# -- what is recorded ---------------------------------------------------------------------------------------------


def test_spans_of_a_step():
    steps = some_batches(SPECS["net"], 8)
    run = Run(build("net"), steps, {"conv1": "vgpu:0", "*": "vgpu:1"}, microbatches=2)
    run.train(steps)
    for step in range(STEPS):
        transfers = [(s.device, s.peer, s.bytes) for s in run.spans(step, "transfer")]
        activation = 4 * 10 * 12 * 12 * 4  # of one microbatch of four
        crossing = [("vgpu:0", "vgpu:1", activation), ("vgpu:1", "vgpu:0", activation)]
        batch = [("cpu", "vgpu:0", 8 * 28 * 28 * 4), ("cpu", "vgpu:1", 8 * 8)]
        assert sorted(transfers) == sorted(batch + 2 * crossing)
        for kind in ("forward", "backward"):
            turns = {(s.name, s.microbatch, s.device) for s in run.spans(step, kind)}
            assert turns == {
                (layer, microbatch, "vgpu:0" if layer == "conv1" else "vgpu:1")
                for layer in ("conv1", "conv2", "fc1", "fc2")
                for microbatch in (0, 1)
            }
        assert {s.device for s in run.spans(step, "optimizer")} == {"vgpu:0", "vgpu:1"}
    flops = sum(span.flops for span in run.spans(0, "forward") if span.name == "fc1")
    assert flops == 2 * 8 * 320 * 50
    for device in ("vgpu:0", "vgpu:1"):
        spans = [e for e in run.events if isinstance(e, Span) and device in (e.device, e.peer)]
        ordered = sorted(spans, key=lambda span: (span.start_ns, span.end_ns))
        assert all(a.end_ns <= b.start_ns for a, b in itertools.pairwise(ordered)), device


# -- nets of one's own --------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(784, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x.flatten(1)))
        x = x + torch.tanh(self.second(x))
        out: Tensor = self.head(torch.cat([x, x * 2], 1)[:, :32])
        return out


def test_a_residual_connection_across_devices():
    steps = some_batches(SPECS["mlp"], 4)
    torch.manual_seed(0)
    expected = Residual()
    torch.manual_seed(0)
    run = Run(Residual(), steps, {"first": "vgpu:0", "second": "vgpu:1", "head": "vgpu:2"})
    assert run.train(steps) == plain_loop(expected, steps)
    assert same_parameters(run.net, expected)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(784, 10)
        self.tail = nn.Linear(784, 10)
        self.tail.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.flatten(1)) + self.tail(x.flatten(1))
        return out


def test_tied_layers_live_together_or_are_refused():
    steps = some_batches(SPECS["mlp"], 4)
    with pytest.raises(DeviceError, match=r"'head' \(on vgpu:0\) and 'tail' \(on vgpu:1\) share a parameter"):
        Run(Tied(), steps, {"head": "vgpu:0", "tail": "vgpu:1"})
    torch.manual_seed(0)
    expected = Tied()
    torch.manual_seed(0)
    run = Run(Tied(), steps, {"*": "vgpu:1"})
    assert run.train(steps) == plain_loop(expected, steps)
    assert run.net.head.weight is run.net.tail.weight


def test_manual_transfers_show_the_real_error():
    steps = some_batches(SPECS["net"], 4)
    run = Run(build("net"), steps, {"conv1": "vgpu:0", "*": "vgpu:1"}, transfers="manual")
    message = "Expected all tensors to be on the same device, but found at least two devices, vgpu:0 and vgpu:1!"
    with pytest.raises(RuntimeError, match=message):
        run.strategy.train_step(*steps[0])


class Moves(nn.Module):
    """Moves its own tensors: out, and back for the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(784, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x.flatten(1)))
        out: Tensor = self.second(x.to(self.second.weight.device)).to(x.device)
        return out


def test_manual_transfers_by_a_net_that_does_them():
    steps = some_batches(SPECS["mlp"], 4)
    torch.manual_seed(0)
    expected = Moves()
    torch.manual_seed(0)
    run = Run(Moves(), steps, {"first": "vgpu:0", "second": "vgpu:1"}, transfers="manual")
    assert run.train(steps) == plain_loop(expected, steps)
    assert same_parameters(run.net, expected)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs a CUDA device")
def test_model_parallel_on_cuda():
    steps = some_batches(SPECS["net"], 8)
    losses = plain_loop(build("net"), steps)
    second = "cuda:1" if torch.cuda.device_count() > 1 else "cpu"
    run = Run(build("net"), steps, {"conv*": "cuda:0", "*": second}, microbatches=2)
    assert run.train(steps) == pytest.approx(losses, rel=1e-2)  # TF32 and other kernels round differently
    devices = {span.device for step in range(STEPS) for span in run.spans(step, "forward")}
    assert devices == {"cuda:0", second}


def test_evaluation_leaves_frozen_modules_frozen() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net[1].eval()
    with evaluating(net):
        assert not net.training
        assert not torch.is_grad_enabled()
    assert net.training
    assert net[0].training
    assert not net[1].training


def test_operands_given_by_name_are_aligned_too() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 3)
            self.b = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.a(x)
            return torch.add(input=h, other=self.b(h))

    vgpu.enable(devices=2)
    torch.manual_seed(0)
    net = Sum()
    x = torch.randn(5, 4)
    with torch.no_grad():
        expected = net(x)
    place(net, {"a": "vgpu:0", "b": "vgpu:1"})
    recorder = Recorder(WallTimer(), ["vgpu:0", "vgpu:1"], lambda batch: None)
    recorder.placement = {"a": "vgpu:0", "b": "vgpu:1"}
    bring_inputs(net, recorder.placement, recorder)
    with AlignDevices(recorder):
        output = net(x.to("vgpu:0"))
    assert torch.equal(output.cpu(), expected)
