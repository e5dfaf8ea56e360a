"""`torch.compile` on virtual GPUs: graphs of the program's operations, run where they belong."""

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
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from lab import vgpu

DEVICE = "vgpu:1"
BACKENDS = ("eager", "aot_eager")


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    vgpu.enable(devices=2, timing="modelled")
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch.vgpu.set_device(0)


def step(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """What it gives, and the gradients of its inputs, with seed 3."""
    leaves = [value.clone().requires_grad_(value.is_floating_point()) for value in inputs]
    torch.manual_seed(3)
    result = function(*leaves)
    result.float().square().sum().backward()
    return [result.detach(), *[leaf.grad for leaf in leaves if leaf.grad is not None]]


def close(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.allclose(a.cpu(), b, rtol=1e-5, atol=1e-6) for a, b in zip(found, expected, strict=True))


def makes_its_own(x: Tensor) -> Tensor:
    kept = torch.arange(6, device=x.device) > torch.tensor([0, 1, 2, 9, 0, 0], device=x.device)
    return torch.where(kept, x, torch.zeros_like(x)) + x.new_ones(6) + x.new_tensor([1, 2, 3, 4, 5, 6])


def draws(x: Tensor) -> Tensor:
    return F.dropout(x, 0.5) + torch.rand(6, device=x.device) + torch.randn_like(x) * torch.randperm(6, device=x.device)


def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    mask = torch.ones(5, 5, device=query.device, dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def sampled(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
    "arithmetic": (lambda x, y: torch.relu(x @ y).sum(0) * 2 + y.mean(), [sampled(6, 6), sampled(6, 6)]),
    "views": (lambda x: x.t().reshape(-1)[3:12].view(3, 3).unbind(0)[1] + x[torch.tensor([0])].sum(), [sampled(6, 6)]),
    "in place": (lambda x: x.clone().add_(1).mul_(x), [sampled(6, 6)]),
    "tensors made inside": (makes_its_own, [sampled(6, 6)]),
    "random numbers": (draws, [sampled(6, 6)]),
    "attention": (lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), [sampled(2, 2, 5, 8)]),
    "attention with dropout": (lambda q: F.scaled_dot_product_attention(q, q, q, dropout_p=0.5), [sampled(2, 2, 5, 8)]),
    "attention with a mask": (masked, [sampled(2, 2, 5, 8)] * 3),
    "attention by formula": (masked, [sampled(2, 2, 5, 8), sampled(2, 2, 5, 8), sampled(2, 2, 5, 6)]),
    "loss": (lambda x: F.cross_entropy(x, torch.arange(6, device=x.device)), [sampled(6, 6)]),
    "a transform": (lambda x: torch.func.vmap(lambda row: row.square().sum())(x), [sampled(6, 6)]),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_one_graph_and_gives_what_it_gives_on_the_cpu(name: str, backend: str):
    function, inputs = FUNCTIONS[name]
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(function, backend=counter, fullgraph=True)
    found = step(compiled, [value.to(DEVICE) for value in inputs])
    assert found[0].device == torch.device(DEVICE)
    assert close(found, step(function, inputs))
    assert counter.frame_count == 1


@pytest.mark.filterwarnings("ignore")  # dynamo's own, on every device
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", ["net", "in place", "loss", "optimizer"])
def test_training_compiled_gives_the_losses_of_the_cpu(way: str, backend: str):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 3))

    def losses(device: str, compile_: Callable[[Any], Any]) -> list[float]:
        net, loss_of = copy.deepcopy(plain).to(device), F.cross_entropy
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
        forward, step = net, optimizer.step
        if way == "net":
            forward = compile_(net)
        elif way == "in place":
            net.compile(backend=backend) if device != "cpu" else None
        elif way == "loss":
            loss_of = compile_(loss_of)
        else:
            step = compile_(step)
        x, y = sampled(6, 6).to(device), (torch.arange(6) % 3).to(device)
        torch.manual_seed(1)
        found = []
        for _ in range(3):
            loss = loss_of(forward(x), y)
            optimizer.zero_grad()
            loss.backward()
            step()
            found.append(loss.item())
        return found

    found = losses(DEVICE, lambda what: torch.compile(what, backend=backend))
    assert found == pytest.approx(losses("cpu", lambda what: what), rel=1e-5)


def test_a_backend_is_given_the_operations_of_the_program_and_tensors_of_the_device():
    seen: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        seen.append(([node.target for node in graph.graph.nodes if node.op == "call_function"], inputs[0].device))
        return graph.forward

    torch.compile(lambda x: torch.relu(x @ x) + 1, backend=backend)(torch.ones(3, 3, device=DEVICE))
    (operations, device), *others = seen
    assert not others
    assert [getattr(target, "__name__", "") for target in operations] == ["matmul", "relu", "add"]
    assert device == torch.device(DEVICE)


def test_compiled_operations_take_their_time_on_the_device_and_are_not_compiled_again():
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x: torch.relu(x @ x) + 1, backend=counter)
    x = torch.ones(30, 30, device=DEVICE)
    compiled(x)
    with vgpu.profile() as profile:
        compiled(x)
        compiled(x + 1)
    assert [span.name for span in profile.spans] == ["mm", "relu", "add", "add", "mm", "relu", "add"]
    assert {span.device for span in profile.spans} == {DEVICE}
    assert counter.frame_count == 1
    compiled(torch.ones(30, 30, device="vgpu:0"))
    assert counter.frame_count == 2  # it is another device


@pytest.mark.parametrize("backend", [*BACKENDS, "inductor"])
def test_a_function_moves_tensors_to_devices_and_back(backend: str):
    torch.vgpu.set_device(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        moved = torch.compile(lambda x: (x.to(DEVICE) * 2).cpu() + 1, backend=backend)
        assert moved(torch.ones(2)).tolist() == [3, 3]
        made = torch.compile(lambda count: torch.ones(count, device=DEVICE) * 2, backend=backend)
        assert made(3).tolist() == [2, 2, 2]
        current = torch.compile(lambda x: x.to("vgpu") * 2, backend=backend)(torch.ones(2))
        assert current.device == torch.device(DEVICE)
        between = torch.compile(lambda x: (x.to("vgpu:0") + 1).to(DEVICE) * 2, backend=backend)
        assert between(torch.ones(2, device=DEVICE)).tolist() == [4, 4]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own, when it is loaded
def test_another_backend_says_once_what_to_take_and_runs_uncompiled():
    x = torch.ones(3, device=DEVICE)
    from lab.vgpu import compiling

    compiling._warned.clear()
    with pytest.warns(UserWarning, match=r"'inductor'\) makes no code for virtual GPUs.*'eager' or 'aot_eager'"):
        assert torch.compile(lambda x: x * 2)(x).tolist() == [2, 2, 2]
    assert torch.compile(lambda x: x * 3, mode="max-autotune")(x).tolist() == [3, 3, 3]  # a warning would be an error
    with pytest.warns(UserWarning, match=r"'cudagraphs'\) makes no code for virtual GPUs"):
        assert torch.compile(lambda x: x * 2, backend="cudagraphs")(x).tolist() == [2, 2, 2]


def test_graphs_break_where_they_do_on_every_device():
    @torch.compiler.disable
    def left_alone(x: Tensor) -> Tensor:
        return x * 3

    def broken(x: Tensor) -> Tensor:
        y = left_alone(x + 1) * 2
        return y + 1 if y.sum().item() > 0 else y - 1

    for backend in BACKENDS:
        counters = [CompileCounterWithBackend(backend) for _ in range(2)]
        results = []
        for device, counter in zip(("cpu", DEVICE), counters, strict=True):
            torch._dynamo.reset()
            results.append(torch.compile(broken, backend=counter)(torch.ones(2, device=device)).tolist())
        assert results == [[13, 13]] * 2
        assert counters[0].frame_count == counters[1].frame_count


def test_a_compiled_checkpoint_draws_the_same_again():
    def block(x: Tensor) -> Tensor:
        draw = lambda value: F.dropout(value, 0.5) * torch.rand(99, device=value.device)  # noqa: E731
        return checkpoint(draw, x, use_reentrant=False)

    torch.manual_seed(4)
    expected = [block(torch.ones(99)), torch.rand(3), torch.rand(3)]
    torch.manual_seed(4)
    x = torch.ones(99, device=DEVICE, requires_grad=True)
    y = torch.compile(block, backend="aot_eager", fullgraph=True)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert close([y.detach(), torch.rand(3), torch.rand(3, device=DEVICE)], expected)


@pytest.mark.parametrize("strict", [False, True])
def test_a_net_on_a_device_is_exported(strict: bool):
    net, x = nn.Sequential(nn.Linear(6, 3), nn.ReLU()).to(DEVICE), sampled(2, 6).to(DEVICE)
    exported = torch.export.export(net, (x,), strict=strict)
    assert torch.equal(exported.module()(x), net(x))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_a_function_is_traced_to_the_programs_operators(mode: str):
    x = torch.ones(3, 3, device=DEVICE)
    graph = make_fx(lambda x: torch.relu(x @ x) + torch.ones(3, device=x.device), tracing_mode=mode)(x)
    assert torch.equal(graph(x), torch.relu(x @ x) + 1)
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert names == ["aten.mm.default", "aten.relu.default", "aten.ones.default", "aten.add.Tensor"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_written_beside_and_what_was_imported_before_knows_the_devices(backend: str):
    program = f"""
from torch import compile, nn
import torch
from lab import vgpu
vgpu.enable(devices=2)
net = compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).to("{DEVICE}"), backend="{backend}")
for _ in range(2):
    net(torch.ones(2, 4, device="{DEVICE}")).sum().backward()
torch.set_default_device("{DEVICE}")
print(compile(lambda x: (x * torch.ones(3)).relu() + 1, backend="{backend}")(torch.ones(3)).tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2.0, 2.0, 2.0]\n", "")
