"""PyTorch's own operators on virtual GPUs, and what people do with tensors besides computing. Expected: the CPU's."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lab import vgpu
from lab.errors import DeviceError
from lab.vgpu.tensor import VGPUTensor
from tests.benchmarks import opinfo

DEVICE = "vgpu:1"


@pytest.fixture(autouse=True)
def machine() -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield vgpu.enable(devices=4)
    torch.set_num_threads(threads)


# -- PyTorch's operator database; all of it: python -m tests.benchmarks.opinfo -------------------------------------

SAMPLE = (
    "abs", "addmm", "amax", "argsort", "bmm", "cat", "cdist", "chalf", "chunk", "clamp", "cumsum", "diagonal_copy",
    "einsum", "empty_like", "expand", "fft.fft", "fft.hfft", "fft.ifft", "flip", "gather", "index_add", "index_put",
    "index_select", "linalg.cholesky", "linalg.eig", "linspace.tensor_overload", "log_softmax", "logsumexp", "matmul",
    "nn.functional.batch_norm", "nn.functional.conv2d", "nn.functional.cross_entropy", "nn.functional.dropout",
    "nn.functional.embedding", "nn.functional.gelu", "nn.functional.layer_norm", "nn.functional.max_pool2d",
    "nn.functional.mish", "nn.functional.scaled_dot_product_attention", "nn.functional.silu", "norm", "polar", "repeat",
    "roll", "scatter", "sort", "split", "std", "sum", "svd", "take_along_dim", "tensor_split", "topk", "tril", "unfold",
    "unique", "view_as_complex", "where",
)  # fmt: skip


@pytest.fixture(scope="module")
def operators() -> dict[str, Any]:
    return {opinfo.full_name(op): op for op in opinfo.operators()}


@pytest.mark.parametrize("name", SAMPLE)
def test_an_operator_gives_the_cpus_bits(name: str, operators: dict[str, Any]):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's samples go into old corners
        assert opinfo.check(operators[name], samples=3) == opinfo.Outcome(name, "passes")


def test_the_comparison_sees_a_wrong_result(operators: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(VGPUTensor, "cpu", lambda self: self.to("cpu") * (1 + 2**-20), raising=False)
    assert opinfo.check(operators["abs"], samples=1).reason == "sample 0, forward: other numbers"


# -- recurrent nets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.RNN, {}),
        (nn.RNN, {"nonlinearity": "relu", "bidirectional": True}),
        (nn.LSTM, {}),
        (nn.LSTM, {"bidirectional": True, "dropout": 0.5, "batch_first": True}),
        (nn.LSTM, {"proj_size": 2}),
        (nn.LSTM, {"bias": False}),
        (nn.GRU, {}),
        (nn.GRU, {"dropout": 0.5}),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_recurrent_nets(kind: type[nn.RNNBase], options: dict[str, Any]):
    def run(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        net = kind(3, 4, 2, **options).to(device)
        x = torch.randn(5, 2, 3).to(device).requires_grad_()
        out, _ = net(x)
        out.square().sum().backward()
        with torch.no_grad():
            again, _ = net(x)
        return [out, again, x.grad, *(parameter.grad for parameter in net.parameters())]

    for actual, expected in zip(run(DEVICE), run("cpu"), strict=True):
        assert torch.equal(actual.cpu(), expected)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_packed_sequences(kind: type[nn.RNNBase]):
    def run(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        net = kind(3, 4, bidirectional=True).to(device)
        packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 2, 3).to(device), torch.tensor([5, 3]))
        out, lengths = nn.utils.rnn.pad_packed_sequence(net(packed)[0])
        out.square().sum().backward()
        return [out, lengths, *(parameter.grad for parameter in net.parameters())]

    for actual, expected in zip(run(DEVICE), run("cpu"), strict=True):
        torch.testing.assert_close(actual.cpu(), expected)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_recurrent_cells(kind: type[nn.RNNCellBase]):
    def run(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        net = kind(3, 4).to(device)
        out = net(torch.randn(2, 3).to(device))
        out = out[0] if isinstance(out, tuple) else out
        out.sum().backward()
        return [out, *(parameter.grad for parameter in net.parameters())]

    for actual, expected in zip(run(DEVICE), run("cpu"), strict=True):
        torch.testing.assert_close(actual.cpu(), expected)


# -- files, pickles and copies -----------------------------------------------------------------------------------


def reloaded(value: Any, **options: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True, **options)


@pytest.mark.parametrize(
    ("options", "device"),
    [
        ({}, "vgpu:1"),
        ({"map_location": "vgpu:2"}, "vgpu:2"),
        ({"map_location": {"vgpu:1": "vgpu:3"}}, "vgpu:3"),
        ({"map_location": "cpu"}, "cpu"),
    ],
)
def test_a_saved_state_loads_where_it_should(options: dict[str, Any], device: str):
    net = nn.Linear(2, 3).to(DEVICE)
    state = reloaded(net.state_dict(), **options)
    assert {value.device for value in state.values()} == {torch.device(device)}
    assert torch.equal(state["weight"].cpu(), net.weight.detach().cpu())
    assert (type(state["weight"]) is Tensor) == (device == "cpu")
    nn.Linear(2, 3).to(DEVICE).load_state_dict(state)


def test_what_the_cpu_saved_loads_on_a_virtual_gpu_and_views_stay_views():
    x = torch.arange(6.0).reshape(2, 3).t()
    before = vgpu.current().pools[2].allocated
    loaded = reloaded({"all": x, "row": x[1]}, map_location="vgpu:2")
    assert torch.equal(loaded["all"].cpu(), x)
    assert vgpu.current().pools[2].allocated - before == x.nbytes
    loaded["row"].zero_()
    assert loaded["all"][1].tolist() == [0.0, 0.0]


def test_a_file_for_a_device_that_is_not_there_says_so():
    file = io.BytesIO()
    torch.save(torch.ones(2, device="vgpu:3"), file)
    vgpu.enable(devices=2)
    file.seek(0)
    with pytest.raises(DeviceError, match="no vgpu:3, this lab has 2"):
        torch.load(file, weights_only=True)


def test_parameters_modules_and_optimizers_in_files():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(DEVICE)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 2, device=DEVICE)).sum().backward()
    optimizer.step()
    parameter = reloaded(net[0].weight)
    assert isinstance(parameter, nn.Parameter)
    assert parameter.requires_grad
    optimizer.load_state_dict(reloaded(optimizer.state_dict()))
    optimizer.step()
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert again[0].weight.device == torch.device(DEVICE)
    assert torch.equal(again[0].weight.cpu(), net[0].weight.cpu())


def test_pickle():
    x = torch.arange(4.0, device=DEVICE)
    one, view = pickle.loads(pickle.dumps((x, x[1:3])))
    assert (one.device, one.tolist(), view.tolist()) == (torch.device(DEVICE), [0, 1, 2, 3], [1, 2])


def test_deep_copies_share_what_the_originals_share():
    x = torch.ones(3, device=DEVICE)
    x.note = "kept"
    before = vgpu.current().pools[1].allocated
    copied = copy.deepcopy({"x": x, "view": x[1:], "same": x})
    assert vgpu.current().pools[1].allocated == 2 * before
    copied["x"][1] = 5
    assert (copied["view"].tolist(), x.tolist()) == ([5.0, 1.0], [1.0, 1.0, 1.0])
    assert copied["same"] is copied["x"]
    assert copied["x"].note == "kept"
    weight = nn.Parameter(torch.ones(2, device=DEVICE))
    weight.sum().backward()
    other = copy.deepcopy(weight)
    assert isinstance(other, nn.Parameter)
    assert (other.requires_grad, other.grad.tolist()) == (True, [1.0, 1.0])
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(weight * 2)


# -- modules that leave, checkpoints, states ---------------------------------------------------------------------


def test_a_module_that_returns_to_the_cpu_keeps_its_parameters():
    net = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    net[1].weight = net[0].weight
    net.to(DEVICE)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net[0].weight.sum().backward()
    net.cpu()
    assert net[0].weight is net[1].weight is optimizer.param_groups[0]["params"][0]
    assert type(net[0].weight) is nn.Parameter
    assert (net[0].weight.device, net[0].weight.grad.device) == (torch.device("cpu"), torch.device("cpu"))
    assert not torch.__future__.get_swap_module_params_on_conversion()


def test_parameters_move_by_their_data():
    net = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(1, 2)).sum().backward()
    before = net.weight.detach().clone()
    for device in ("vgpu:1", "vgpu:3", "cpu"):
        for parameter in net.parameters():
            parameter.data = parameter.data.to(device)
            parameter.grad.data = parameter.grad.data.to(device)
        assert isinstance(net.weight, nn.Parameter)
        assert net.weight.device == net.weight.grad.device == torch.device(device)
        assert torch.equal(net.weight.detach().cpu(), before)
        optimizer.step()
        before -= 0.1  # the gradient is one
    assert type(net.weight) is nn.Parameter


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpoints(reentrant: bool):
    def run(device: str, block: Callable[..., Tensor]) -> list[Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Tanh()).to(device)
        x = torch.randn(4, 3).to(device).requires_grad_()
        block(net, x).sum().backward()
        return [x.grad.cpu(), net[0].weight.grad.cpu()]

    expected = run("cpu", lambda net, x: net(x))
    actual = run(DEVICE, lambda net, x: checkpoint(net, x, use_reentrant=reentrant))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_the_state_of_the_generator():
    state = torch.vgpu.get_rng_state(1)
    first = torch.randn(3, device=DEVICE)
    torch.vgpu.set_rng_state(state, 1)
    assert torch.equal(torch.randn(3, device=DEVICE).cpu(), first.cpu())
    with torch.random.fork_rng(devices=[0, 1], device_type="vgpu"):
        torch.randn(7, device=DEVICE)
    torch.vgpu.set_rng_state(state, 1)
    assert torch.equal(torch.randn(3, device=DEVICE).cpu(), first.cpu())


def test_conjugates_and_negatives_are_views_as_on_the_cpu():
    z = torch.tensor([1 + 2j, 3 - 1j], device=DEVICE)
    conjugate = z.conj()
    assert conjugate.is_conj()
    z.mul_(2)
    assert conjugate.tolist() == [2 - 4j, 6 + 2j]
    assert conjugate.imag.is_neg()
    assert torch.view_as_real(conjugate.resolve_conj()).tolist() == [[2, -4], [6, 2]]
