"""Errors in backward on virtual GPUs: the user's own arrive, whatever raises them, and the process lives on."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lab import vgpu


class MineError(Exception):
    """Raised by a hook."""


@pytest.fixture(autouse=True)
def machine() -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield vgpu.enable(devices=4)
    torch.set_num_threads(threads)


def fail(*args: Any) -> Any:
    raise MineError("on purpose")


class Fails(torch.autograd.Function):
    """Its backward raises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        fail()


def leaf() -> Tensor:
    return torch.ones(3, device="vgpu:1", requires_grad=True)


def tensor_hook() -> Tensor:
    y = leaf() * 2
    y.register_hook(fail)
    return y


def node_hook() -> Tensor:
    y = leaf() * 2
    y.grad_fn.register_hook(fail)
    return y


def node_pre_hook() -> Tensor:
    y = leaf() * 2
    y.grad_fn.register_prehook(fail)
    return y


def hook_after_accumulation() -> Tensor:
    x = leaf()
    x.register_post_accumulate_grad_hook(fail)
    return x.to("vgpu:2") * 2


def module_hook() -> Tensor:
    net = nn.Linear(3, 3).to("vgpu:1")
    net.register_full_backward_hook(fail)
    return net(leaf())


def hook_that_unpacks() -> Tensor:
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, fail):
        return leaf().square()


def function() -> Tensor:
    return Fails.apply(leaf())


def inside_a_checkpoint(reentrant: bool) -> Tensor:
    runs: list[int] = []

    def block(x: Tensor) -> Tensor:
        runs.append(1)
        return fail() if len(runs) > 1 else x.square()

    return checkpoint(block, leaf(), use_reentrant=reentrant)


PLACES: list[Callable[[], Tensor]] = [
    tensor_hook, node_hook, node_pre_hook, hook_after_accumulation, module_hook, hook_that_unpacks, function,
    lambda: inside_a_checkpoint(True), lambda: inside_a_checkpoint(False),
]  # fmt: skip


def test_none_of_them_ends_the_process():
    # First in a process of its own: where one fails, the tests below would take all others along.
    program = """
import warnings
import torch
from tests.lab.vgpu import test_vgpu_engine as tests
tests.vgpu.enable(devices=4)
for place in tests.PLACES:
    for anomaly in (False, True):
        warnings.simplefilter("ignore")
        try:
            with torch.autograd.set_detect_anomaly(anomaly):
                place().sum().backward()
        except tests.MineError:
            print("arrived")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.count("arrived")) == (0, 2 * len(PLACES)), done.stderr


@pytest.mark.parametrize("place", PLACES)
def test_the_users_own_error_arrives(place: Callable[[], Tensor]):
    with pytest.raises(MineError, match="on purpose") as caught:
        place().sum().backward()
    assert any(entry.name == "fail" for entry in caught.traceback)
    x = leaf()
    (x * 3).sum().backward()  # and the engine is as before
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 3.0, 3.0]


def test_running_out_of_memory_in_backward_is_the_errors_own_kind():
    vgpu.enable(1, memory=12_000)
    x = torch.ones(1000, device="vgpu:0", requires_grad=True)
    loss = (x * x).sum()
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 4.0 kB\. vgpu:0 has a total capacity"):
        loss.backward()


def test_anomaly_mode_names_the_forward():
    x = torch.tensor([-1.0], device="vgpu:1", requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            torch.autograd.detect_anomaly(),
            pytest.raises(RuntimeError, match="Function 'SqrtBackward0' returned nan values"),
        ):
            (x.sqrt() * 0).sum().backward()


def test_the_threads_setting_of_autograd_is_left_alone():
    for setting in (True, False):
        with torch.autograd.set_multithreading_enabled(setting):
            leaf().sum().backward()
            assert torch.autograd.is_multithreading_enabled() is setting


# -- modules that move while a graph of theirs is alive ----------------------------------------------------------


@pytest.mark.parametrize("route", [("vgpu:1", "vgpu:2"), ("cpu", "vgpu:1"), ("vgpu:1", "cpu")])
def test_a_module_moves_although_a_graph_holds_its_parameters(route: tuple[str, str]):
    before, after = route
    plain = nn.Linear(2, 1)
    net = copy.deepcopy(plain).to(before)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    old = net(torch.ones(1, 2, device=before)).sum()
    net.to(after)
    assert {parameter.device for parameter in net.parameters()} == {torch.device(after)}
    net(torch.ones(1, 2, device=after)).sum().backward()
    optimizer.step()
    assert torch.equal(net.weight.detach().cpu(), plain.weight.detach() - 0.1)
    with pytest.raises(RuntimeError, match=f"was moved from {before} to {after} after the forward: move the module"):
        old.backward()


def test_compiled_code_runs_uncompiled():
    program = """
import torch
from lab import vgpu
vgpu.enable(devices=2)
net = torch.compile(torch.nn.Linear(3, 2).to("vgpu:1"))
twice = torch.compile(lambda x: (x * 2).sin() + 1)
x = torch.ones(1, 3, device="vgpu:1", requires_grad=True)
net(x).sum().backward()
assert torch.equal(twice(x).cpu(), (x.cpu() * 2).sin() + 1)
print(x.grad.device, torch.equal(x.grad, net.weight.sum(0, keepdim=True)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "vgpu:1 True\n"), done.stderr
    assert "Exception ignored" not in done.stderr


def test_sparse_rows_are_refused_with_what_to_do():
    with pytest.raises(
        NotImplementedError, match=r"vgpu:1 has no sparse_csr tensors: keep it on the CPU, or use a COO"
    ):
        torch.eye(3, device="vgpu:1").to_sparse_csr()


def test_parameters_print_as_parameters():
    assert repr(nn.Parameter(torch.ones(1, device="vgpu:2"))) == (
        "Parameter containing:\ntensor([1.], device='vgpu:2', requires_grad=True)"
    )


def test_tensors_that_share_memory_have_one_address():
    x = torch.ones(4, device="vgpu:1")
    assert x.data_ptr() == x.view(2, 2).data_ptr() != x.clone().data_ptr()
    assert F.relu(x).data_ptr() != 0
