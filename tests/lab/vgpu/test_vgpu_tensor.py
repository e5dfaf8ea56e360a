"""Virtual GPUs as PyTorch devices: what they print, refuse and compute. Expected values come from the CPU."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lab import data, nets, vgpu
from lab.errors import DeviceError
from lab.strategies.base import loss_function

DIFFERENT = r"Expected all tensors to be on the same device, but found at least two devices, {} and {}!"


@pytest.fixture(autouse=True)
def machine() -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield vgpu.enable(devices=4)
    torch.set_num_threads(threads)


def on(index: int, *values: float, **options: Any) -> Tensor:
    return torch.tensor(values, device=f"vgpu:{index}", **options)


def same(actual: Tensor, expected: Tensor) -> bool:
    """Bit for bit, with the same layout."""
    return (
        torch.equal(actual.cpu(), expected)
        and actual.dtype == expected.dtype
        and actual.stride() == expected.stride()
        and actual.requires_grad == expected.requires_grad
    )


# -- what it says it is -------------------------------------------------------------------------------------------


def test_a_tensor_says_where_it_is():
    x = torch.zeros(2, 3, device="vgpu:1")
    assert x.device == torch.device("vgpu:1")
    assert x.is_vgpu
    assert torch.zeros(1, device="vgpu").device == torch.device("vgpu:0")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: on(1, 1.0, 2.0), "tensor([1., 2.], device='vgpu:1')"),
        (lambda: torch.arange(3, device="vgpu:0"), "tensor([0, 1, 2], device='vgpu:0')"),
        (lambda: on(0, 1.0, dtype=torch.float64), "tensor([1.], dtype=torch.float64, device='vgpu:0')"),
        (lambda: on(2, 1.0, requires_grad=True), "tensor([1.], device='vgpu:2', requires_grad=True)"),
        (lambda: on(2, 1.0, requires_grad=True) * 2, "tensor([2.], device='vgpu:2', grad_fn=<MulBackward0>)"),
        (lambda: torch.tensor(2.5, device="vgpu:3"), "tensor(2.5000, device='vgpu:3')"),
    ],
)
def test_it_prints_as_on_cuda(make: Callable[[], Tensor], text: str):
    assert repr(make()) == text


def test_a_loss_can_be_formatted():
    assert f"{torch.tensor(2.345, device='vgpu:1'):.2f}" == "2.35"  # the float32 nearest to 2.345 is above it
    assert f"{on(1, 1.0)}" == "tensor([1.], device='vgpu:1')"


# -- devices that do not go together ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mix", "first", "second"),
    [
        (lambda: on(0, 1.0) + on(1, 1.0), "vgpu:0", "vgpu:1"),
        (lambda: on(3, 1.0) + on(1, 1.0), "vgpu:3", "vgpu:1"),
        (lambda: on(2, 1.0) + torch.ones(1), "vgpu:2", "cpu"),
        (lambda: torch.ones(1) + on(2, 1.0), "vgpu:2", "cpu"),
        (lambda: on(0, 1.0).add_(on(1, 1.0)), "vgpu:0", "vgpu:1"),
        (lambda: torch.ones(1).add_(on(1, 1.0)), "vgpu:1", "cpu"),
        (lambda: torch.cat([on(0, 1.0), on(1, 1.0)]), "vgpu:0", "vgpu:1"),
        (lambda: torch.cat([torch.ones(1), on(1, 1.0)]), "vgpu:1", "cpu"),
        (lambda: torch.where(on(0, 1.0) > 0, on(0, 1.0), on(1, 1.0)), "vgpu:0", "vgpu:1"),
        (lambda: on(0, 1.0) + torch.tensor(1.0, device="vgpu:1"), "vgpu:0", "vgpu:1"),
        (lambda: torch.ones(1) + torch.tensor(1.0, device="vgpu:1"), "vgpu:1", "cpu"),
        (lambda: torch.add(on(0, 1.0), 1, out=torch.empty(1, device="vgpu:1")), "vgpu:0", "vgpu:1"),
        (lambda: torch.add(on(0, 1.0), 1, out=torch.empty(1)), "vgpu:0", "cpu"),
        (lambda: torch.equal(on(0, 1.0), on(1, 1.0)), "vgpu:0", "vgpu:1"),
        (lambda: torch.ones(3)[on(1, 0.0).long()], "vgpu:1", "cpu"),
        (lambda: on(0, 1.0, 2.0)[on(1, 0.0).long()], "vgpu:0", "vgpu:1"),
        (lambda: nn.Linear(2, 3).to("vgpu:1")(torch.ones(1, 2)), "vgpu:1", "cpu"),
        (lambda: nn.Embedding(5, 2).to("vgpu:1")(torch.tensor([1])), "vgpu:1", "cpu"),
        (lambda: F.cross_entropy(torch.ones(2, 3, device="vgpu:1"), torch.tensor([0, 1])), "vgpu:1", "cpu"),
        (lambda: F.cross_entropy(torch.ones(1, 3, device="vgpu:1"), on(0, 1).long()), "vgpu:1", "vgpu:0"),
    ],
)  # fmt: skip
def test_mixed_devices_are_refused_and_named(mix: Callable[[], Any], first: str, second: str):
    with pytest.raises(RuntimeError, match=DIFFERENT.format(first, second)):
        mix()


def test_a_cpu_number_without_dimensions_may_take_part():
    assert torch.equal((on(1, 1.0, 2.0) * torch.tensor(3.0)).cpu(), torch.tensor([3.0, 6.0]))
    assert (torch.tensor(3.0) - on(1, 1.0)).device == torch.device("vgpu:1")


def test_an_index_may_lie_on_the_cpu_as_on_cuda():
    x = on(1, 5.0, 6.0, 7.0)
    assert x[torch.tensor([2, 0])].tolist() == [7.0, 5.0]
    x[torch.tensor([True, False, True])] = 0.0
    assert x.tolist() == [0.0, 6.0, 0.0]
    with pytest.raises(RuntimeError, match=DIFFERENT.format("vgpu:1", "cpu")):
        x[torch.tensor([0, 1])] = torch.ones(2)


class _Doubled(Tensor):
    """A tensor class of somebody else's, which stands for twice the numbers that it holds."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> Any:
        made = Tensor._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype, device=inner.device)  # type: ignore[attr-defined]
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return func(*tree_map_only(cls, lambda one: one.inner * 2, args), **(kwargs or {}))


@pytest.mark.parametrize(
    "mix", [torch.add, lambda a, b: torch.add(b, a), lambda a, b: torch.cat([a, b]), lambda a, b: a.clone().copy_(b)]
)
def test_another_class_of_tensors_decides_what_becomes_of_its_own(mix: Callable[..., Tensor]):
    plain = torch.tensor([1.0, 2.0])
    found = mix(plain.to("vgpu:1"), _Doubled(plain.to("vgpu:1")))
    assert found.device == torch.device("vgpu:1")
    assert torch.equal(found.cpu(), mix(plain, plain * 2))


def test_an_optimizer_refuses_a_gradient_from_elsewhere():
    weight = on(0, 1.0, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    optimizer.state[weight]["momentum_buffer"] = torch.zeros(1, device="vgpu:1")
    with pytest.raises(RuntimeError, match=DIFFERENT.format("vgpu:1", "vgpu:0")):
        optimizer.step()


class _Wanders(torch.autograd.Function):
    """Its backward mixes devices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient + torch.ones(1, device="vgpu:0")


def test_mixed_devices_in_backward_are_refused_and_named():
    with pytest.raises(RuntimeError, match=DIFFERENT.format("vgpu:1", "vgpu:0")):
        _Wanders.apply(on(1, 1.0, requires_grad=True)).backward()


def test_an_error_inside_backward_reaches_the_caller_and_leaves_the_process_alive():
    # In a process of its own: an error that unwinds the engine with the interpreter's error set aborts the process.
    program = """
import torch
from lab import vgpu
vgpu.enable(1, memory=12_000)
x = torch.ones(1000, device="vgpu:0", requires_grad=True)  # 4,000 bytes
loss = (x * x).sum()  # 4,000 more; backward needs two gradients of 4,000 at once
try:
    loss.backward()
except torch.OutOfMemoryError:
    print("refused")
print((torch.ones(2, device="vgpu:0") + 1).tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n[2.0, 2.0]\n"), done.stderr


# -- devices that are not there -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda: torch.zeros(3, device="vgpu:9"),
        lambda: torch.arange(3, device="vgpu:9"),
        lambda: torch.tensor([1.0], device="vgpu:9"),
        lambda: torch.zeros(3).to("vgpu:9"),
        lambda: torch.zeros(3, device="vgpu:1").to("vgpu:9"),
        lambda: torch.zeros_like(torch.zeros(3, device="vgpu:1"), device="vgpu:9"),
        lambda: nn.Linear(2, 2).to("vgpu:9"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_what_is(use: Callable[[], Any]):
    with pytest.raises(DeviceError, match=r"no vgpu:9, this lab has 4 virtual GPUs, vgpu:0 to vgpu:3") as caught:
        use()
    assert "lab.vgpu.enable(devices=10)" in str(caught.value)


@pytest.mark.parametrize("count", [0, -1, 65])
def test_a_lab_has_1_to_64_devices(count: int):
    with pytest.raises(DeviceError, match=rf"devices={count} is not possible: the lab has 1 to 64 virtual GPUs"):
        vgpu.enable(devices=count)
    assert vgpu.current().device_count == 4  # what was there stays


def test_unknown_hardware_names_the_nearest():
    with pytest.raises(DeviceError, match=r"^hardware 'clasroom' is not one of .*did you mean 'classroom'\?\)$"):
        vgpu.enable(hardware="clasroom")


def test_before_enable_there_are_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lab.vgpu.tensor._machine", None)
    for use in (vgpu.current, lambda: torch.zeros(1, device="vgpu:0")):
        with pytest.raises(DeviceError, match=r"no virtual GPUs yet: call lab.vgpu.enable\(devices=2\) first"):
            use()


def test_enable_again_starts_afresh_with_other_settings():
    old = torch.zeros(256, device="vgpu:3")
    kept = torch.zeros(256, device="vgpu:1")
    new = vgpu.enable(devices=2, memory=4_000)
    assert (new.device_count, new.pools[1].allocated, new.pools[1].capacity, new.clock.now_ns) == (2, 0, 4_000, 0)
    assert (kept + 1).device == torch.device("vgpu:1")
    with pytest.raises(DeviceError, match="no vgpu:3, this lab has 2"):
        old + 1
    del kept, old
    assert new.pools[1].allocated == 0


def test_the_device_module():
    assert torch.vgpu.device_count() == 4
    assert torch.vgpu.is_available()
    torch.vgpu.set_device("vgpu:2")
    try:
        assert torch.zeros(1, device="vgpu").device == torch.device("vgpu:2")
        with pytest.raises(DeviceError, match="no vgpu:7"):
            torch.vgpu.set_device(7)
    finally:
        torch.vgpu.set_device(0)
    x = torch.zeros(100, device="vgpu:1")
    assert torch.vgpu.memory_allocated(1) == x.nbytes == 400


# -- to and from --------------------------------------------------------------------------------------------------


def test_there_and_back():
    x = torch.arange(6.0).reshape(2, 3).t()
    y = x.to("vgpu:1").to("vgpu:2").cpu()
    assert type(y) is Tensor
    assert torch.equal(x, y)
    x_on = x.to("vgpu:1")
    assert x_on.to("vgpu:1") is x_on
    assert x_on.to("vgpu:2", torch.float64).dtype == torch.float64
    assert torch.equal(torch.zeros(2).copy_(on(1, 3.0, 4.0)), torch.tensor([3.0, 4.0]))
    assert on(0, 0.0, 0.0).copy_(on(1, 3.0, 4.0)).tolist() == [3.0, 4.0]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    ("move", "device", "dtype"),
    [
        (lambda x: x.to("vgpu:1"), "vgpu:1", torch.float32),
        (lambda x: x.to("cpu"), "cpu", torch.float32),
        (lambda x: x.to("vgpu:1", torch.float64), "vgpu:1", torch.float64),
        (lambda x: x.to(torch.ones(1, dtype=torch.int64, device="vgpu:1")), "vgpu:1", torch.int64),
        (lambda x: x.to(torch.ones(1)), "cpu", torch.float32),
        (lambda x: x.type_as(torch.ones(1, dtype=torch.float64, device="vgpu:1")), "vgpu:1", torch.float64),
        (lambda x: x.cpu().to(x), "vgpu:0", torch.float32),
    ],
)  # fmt: skip
def test_tensors_move_where_autograd_is_off(mode: Any, move: Callable[[Tensor], Tensor], device: str, dtype: Any):
    with mode():
        moved = move(on(0, 1.0, 2.0))
        assert (moved.device, moved.dtype) == (torch.device(device), dtype)
        assert (moved + 1).tolist() == [2.0, 3.0]


def test_a_copy_shares_nothing():
    x = torch.zeros(2)
    y = x.to("vgpu:0")
    z = y.to("vgpu:1")
    y += 1
    assert (x.tolist(), y.tolist(), z.tolist()) == ([0, 0], [1, 1], [0, 0])


def test_numbers_come_out():
    assert on(1, 2.5).item() == 2.5
    assert float(on(1, 2.5)) == 2.5
    assert bool(on(1, 1.0) > 0)
    assert on(1, 1.0, 2.0).tolist() == [1.0, 2.0]
    assert on(1, 1.0).numpy(force=True).tolist() == [1.0]
    with pytest.raises(RuntimeError, match="a Tensor with 2 elements cannot be converted to Scalar"):
        on(1, 1.0, 2.0).item()
    with pytest.raises(TypeError, match=r"can't convert vgpu:1 device type tensor to numpy. Use Tensor.cpu\(\)"):
        on(1, 1.0).numpy()


@pytest.mark.parametrize(
    "make",
    [
        lambda d: torch.zeros(2, 3, device=d),
        lambda d: torch.ones(2, 3, device=d, dtype=torch.float64),
        lambda d: torch.randn(3, 2, device=d),
        lambda d: torch.rand(3, device=d),
        lambda d: torch.randint(0, 9, (4,), device=d),
        lambda d: torch.randperm(7, device=d),
        lambda d: torch.arange(1, 9, 2, device=d),
        lambda d: torch.eye(3, device=d),
        lambda d: torch.linspace(0, 1, 5, device=d),
        lambda d: torch.full((2,), 7.0, device=d),
        lambda d: torch.tensor([[1, 2], [3, 4]], device=d),
        lambda d: torch.tensor(True, device=d),
        lambda d: torch.tensor(1.5, device=d, requires_grad=True),
        lambda d: torch.as_tensor([1.0, 2.0], device=d),
        lambda d: torch.normal(0.0, 1.0, (3,), device=d),
        lambda d: torch.tril_indices(3, 3, device=d),
        lambda d: torch.empty_strided((2, 2), (1, 2), device=d).fill_(1),
        lambda d: torch.zeros(1, 2, 3, 3, device=d).to(memory_format=torch.channels_last),
        lambda d: torch.zeros_like(torch.ones(3, device=d)),
        lambda d: torch.ones_like(torch.ones(3), device=d),
        lambda d: torch.rand_like(torch.ones(3, device=d)),
        lambda d: torch.randn_like(torch.ones(2, 2, device=d).t()),
        lambda d: torch.full_like(torch.ones(3, device=d), 4),
        lambda d: torch.ones(2, device=d).new_zeros(3),
        lambda d: torch.ones(2, device=d).new_tensor([1, 2]),
        lambda d: F.one_hot(torch.tensor([0, 2], device=d)),
    ],
)
def test_factories_make_what_the_cpus_make(make: Callable[[str], Tensor]):
    torch.manual_seed(3)
    expected = make("cpu")
    torch.manual_seed(3)
    actual = make("vgpu:2")
    assert actual.device == torch.device("vgpu:2")
    assert same(actual, expected)


def test_like_may_name_another_device():
    x = on(1, 1.0, 2.0)
    assert torch.zeros_like(x, device="vgpu:3").device == torch.device("vgpu:3")
    assert type(torch.zeros_like(x, device="cpu")) is Tensor
    with torch.device("vgpu:2"):
        assert torch.ones(2).device == torch.device("vgpu:2")


# -- memory in common ---------------------------------------------------------------------------------------------


def test_views_share_memory():
    x = torch.zeros(2, 3, device="vgpu:1")
    x.view(6)[0] = 9
    x.t()[2] += 1
    x[:, 1].copy_(on(0, 4.0, 5.0))
    y = torch.zeros(2, 3)
    y.view(6)[0] = 9
    y.t()[2] += 1
    y[:, 1] = torch.tensor([4.0, 5.0])
    assert same(x, y)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.transpose_(0, 1),
        lambda x: x.t_(),
        lambda x: x.unsqueeze_(1),
        lambda x: x.unsqueeze_(0).squeeze_(),
        lambda x: x.swapaxes_(0, 1),
        lambda x: x.as_strided_((2, 2), (1, 1)),
        lambda x: x.resize_(2, 2),
        lambda x: x.mul_(2).add_(1).clamp_(max=5),
        lambda x: x.relu_().zero_(),
        lambda x: x.__setitem__((slice(None), 0), 7.0),
    ],
)
def test_in_place(change: Callable[[Tensor], Any]):
    x, y = torch.arange(6.0).reshape(2, 3), torch.arange(6.0).reshape(2, 3).to("vgpu:1")
    identity = id(y)
    change(x)
    result = change(y)
    assert same(y, x)
    assert y.shape == x.shape
    assert result is None or id(result) == identity
    assert same(y * 3 + 1, x * 3 + 1)


def test_out():
    x = on(1, 1.0, 2.0)
    into = torch.empty(2, device="vgpu:1")
    assert torch.add(x, 1, out=into) is into
    assert into.tolist() == [2.0, 3.0]
    larger = torch.empty(0, device="vgpu:1")
    torch.mul(x, 3, out=larger)
    assert (larger.tolist(), larger.shape) == ([3.0, 6.0], (2,))
    values, indices = torch.empty(1, device="vgpu:1"), torch.empty(1, device="vgpu:1", dtype=torch.long)
    torch.max(x.reshape(1, 2), dim=1, out=(values, indices))
    assert (values.item(), indices.item()) == (2.0, 1)


def test_data_of_a_tensor_can_be_replaced():
    weight = nn.Parameter(on(1, 1.0, 2.0))
    weight.data = on(2, 5.0, 6.0, 7.0)
    assert (weight.device, weight.tolist(), (weight * 2).tolist()) == (torch.device("vgpu:2"), [5, 6, 7], [10, 12, 14])
    weight.data.mul_(2)
    assert weight.tolist() == [10, 12, 14]


# -- modules ------------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(F.relu(self.first(x)))
        return out


def test_tied_parameters_stay_tied_and_train_alike():
    torch.manual_seed(0)
    plain = Tied()
    net = copy.deepcopy(plain).to("vgpu:1")
    assert net.first.weight is net.second.weight
    assert isinstance(net.first.weight, nn.Parameter)
    for module, device in ((plain, "cpu"), (net, "vgpu:1")):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            module(torch.ones(2, 3, device=device)).square().sum().backward()
            optimizer.step()
    assert same(net.first.weight, plain.first.weight)
    net.to("vgpu:2")
    assert net.first.weight is net.second.weight
    assert net.first.weight.grad is not None
    assert net.first.weight.grad.device == torch.device("vgpu:2")


def test_an_optimizer_made_before_the_move_trains_the_moved_net():
    net = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.to("vgpu:0")
    before = net.weight.detach().cpu().clone()
    net(torch.ones(1, 2, device="vgpu:0")).sum().backward()
    optimizer.step()
    assert torch.equal(net.weight.detach().cpu(), before - 0.1)


def test_state_dicts_and_copies():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).to("vgpu:1")
    state = net.state_dict()
    assert {value.device for value in state.values()} == {torch.device("vgpu:1")}
    plain = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    plain.load_state_dict(state)
    assert all(torch.equal(plain.state_dict()[name], state[name].cpu()) for name in state)

    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight.zero_()
    assert other[0].weight.device == torch.device("vgpu:1")
    assert isinstance(other[0].weight, nn.Parameter)
    assert torch.equal(net[0].weight.cpu(), plain[0].weight)
    net.load_state_dict({name: value * 2 for name, value in plain.state_dict().items()})
    assert torch.equal(net[0].weight.cpu(), plain[0].weight * 2)


def test_peek_is_the_cpu_tensor_behind():
    x = on(1, 1.0, 2.0, requires_grad=True)
    waited = vgpu.current().clock.host_ns
    assert torch.equal(vgpu.peek(x), torch.tensor([1.0, 2.0]))
    assert vgpu.current().clock.host_ns == waited
    plain = torch.ones(2)
    assert torch.equal(vgpu.peek(plain), plain)


# -- autograd -----------------------------------------------------------------------------------------------------


def test_gradients_cross_devices():
    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    there = x.to("vgpu:0")
    ((there * 2).to("vgpu:3").square().to("vgpu:1").sum().cpu() * 3).backward()
    assert torch.equal(x.grad, 24 * x.detach())  # d/dx 3 (2x)²


def test_second_derivatives():
    x = on(2, 2.0, requires_grad=True)
    (first,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert (first.tolist(), second.tolist()) == ([12.0], [12.0])


def test_another_thread_may_use_them():
    weight = on(1, 1.0, requires_grad=True)
    built_here = (weight * 2).to("vgpu:3").sum() * 5
    seen: list[Any] = []

    def work() -> None:
        own = on(2, 1.0, requires_grad=True)
        ((own * 3).to("vgpu:1") * 4).sum().backward()
        built_here.backward()
        seen.extend([own.grad.tolist(), weight.grad.tolist()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[12.0], [10.0]]


# -- the CPU's results, to the bit --------------------------------------------------------------------------------

IMAGE = (2, 3, 8, 8)
OPERATIONS: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "matmul": (torch.matmul, [(4, 5), (5, 3)]),
    "bmm": (torch.bmm, [(2, 4, 5), (2, 5, 3)]),
    "linear": (F.linear, [(4, 5), (3, 5), (3,)]),
    "conv2d": (F.conv2d, [IMAGE, (4, 3, 3, 3), (4,)]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), [IMAGE]),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, 2), [IMAGE]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (5,), w, b), [(4, 5), (5,), (5,)]),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [IMAGE, (3,), (3,)]),
    "softmax": (lambda x: F.softmax(x, -1), [(4, 5)]),
    "log_softmax": (lambda x: F.log_softmax(x, 0), [(4, 5)]),
    "gelu": (F.gelu, [(4, 5)]),
    "relu": (F.relu, [(4, 5)]),
    "dropout": (lambda x: F.dropout(x, 0.5), [(4, 5)]),
    "attention": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), [(1, 2, 6, 4)] * 3),
    "embedding": (lambda w: F.embedding(torch.tensor([[1, 0], [3, 1]], device=w.device), w), [(4, 3)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.tensor([0, 2], device=x.device)), [(2, 3)]),
    "index": (lambda x: x[[2, 0, 2]], [(4, 5)]),
    "mask": (lambda x: x[x > 0], [(4, 5)]),
    "cat": (lambda x, y: torch.cat([x, y.t()]), [(4, 5), (5, 2)]),
    "stack": (lambda x, y: torch.stack([x, y], 1), [(4, 5), (4, 5)]),
    "einsum": (lambda x, y: torch.einsum("ij,kj->ik", x, y), [(4, 5), (3, 5)]),
    "norm": (torch.linalg.vector_norm, [(4, 5)]),
    "var": (torch.var, [(4, 5)]),
    "sort": (lambda x: torch.sort(x, -1).values, [(4, 5)]),
    "topk": (lambda x: torch.topk(x, 2).values, [(4, 5)]),
    "cumsum": (lambda x: x.cumsum(0), [(4, 5)]),
    "view chain": (lambda x: x.reshape(2, 10).unfold(1, 4, 2).permute(2, 0, 1).contiguous(), [(4, 5)]),
    "expand": (lambda x: x.expand(3, 4, 5).sum(0), [(4, 5)]),
    "pad": (lambda x: F.pad(x, (1, 2)), [(4, 5)]),
    "tril": (torch.tril, [(5, 5)]),
    "where": (lambda x, y: torch.where(x > y, x, y), [(4, 5), (4, 5)]),
    "bfloat16": (lambda x, y: (x.bfloat16() @ y.bfloat16()).float(), [(4, 5), (5, 3)]),
    "in place on a copy": (lambda x: x.clone().mul_(2).add_(x), [(4, 5)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_forward_and_backward(name: str):
    function, shapes = OPERATIONS[name]

    def run(device: str) -> list[Tensor]:
        torch.manual_seed(1)
        inputs = [torch.randn(shape).to(device).requires_grad_() for shape in shapes]
        output = function(*inputs)
        output.backward(torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(device))
        return [output.detach(), *(x.grad for x in inputs)]

    for actual, expected in zip(run("vgpu:1"), run("cpu"), strict=True):
        assert actual.device == torch.device("vgpu:1")
        assert same(actual, expected)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.001),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.001),
}
SMALL = {"resnet18": data.DataSpec("images", (3, 28, 28), 10, 0, 0)}


def batch_for(spec: data.DataSpec, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    if spec.kind == "tokens":
        shape = (size, *spec.shape)
        return torch.randint(spec.classes, shape, generator=generator), torch.randint(
            spec.classes, shape, generator=generator
        )
    return torch.randn(size, *spec.shape, generator=generator), torch.randint(
        spec.classes, (size,), generator=generator
    )


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [(name, optimizer) for name in ("net", "mlp", "gpt") for optimizer in OPTIMIZERS] + [("resnet18", "adamw")],
)
def test_training_steps(name: str, optimizer: str):
    spec = SMALL.get(name, data.REGISTRY[nets.REGISTRY[name].default_data].spec)
    x, y = batch_for(spec, 2 if name == "resnet18" else 4)

    def train(device: str) -> tuple[list[float], dict[str, Tensor]]:
        torch.manual_seed(7)
        net = nets.build(name, spec).to(device)
        update = OPTIMIZERS[optimizer](net.parameters())
        losses = []
        for _ in range(2 if name == "resnet18" else 3):
            update.zero_grad()
            loss = loss_function(net(x.to(device)), y.to(device))
            loss.backward()
            update.step()
            losses.append(loss.item())
        return losses, {key: value.cpu() for key, value in net.state_dict().items()}

    losses, state = train("vgpu:2")
    expected_losses, expected = train("cpu")
    assert losses == expected_losses
    assert losses[0] != losses[1]
    assert all(torch.equal(state[key], expected[key]) for key in expected)
