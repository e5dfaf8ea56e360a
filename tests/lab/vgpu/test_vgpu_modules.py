"""Parameters on their way to a virtual GPU and back: what hangs on them stays, as when they go to CUDA."""

from __future__ import annotations

import copy
import io
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from lab import vgpu

ROUTES = (("cpu", "cpu", "cpu"), ("vgpu:0", "vgpu:1", "vgpu:0"), ("vgpu:1", "cpu", "vgpu:0"))
"""Where a net goes; the first is what plain PyTorch does."""


@pytest.fixture(autouse=True)
def _machine() -> None:
    vgpu.enable(devices=2, hardware="classroom", timing="modelled")


class Marked(nn.Parameter):
    """A parameter of somebody's own class."""

    def doubled(self) -> torch.Tensor:
        return self * 2


def make() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4, bias=False), nn.Linear(4, 4))
    net[3].weight = net[2].weight
    net[0].weight = Marked(net[0].weight.detach())
    net[0].bias.requires_grad_(False)
    return net


@pytest.mark.parametrize("route", ROUTES)
def test_everything_that_hangs_on_a_parameter_goes_along(route: tuple[str, ...]):
    def follow(route: tuple[str, ...]) -> list[Any]:
        net, told = make(), []
        before = list(net.parameters())
        optimizer = torch.optim.SGD(before, lr=0.001)
        references = [weakref.ref(parameter) for parameter in before]
        net[2].weight.register_hook(lambda gradient: gradient * 3)
        handle = net[2].weight.register_hook(lambda gradient: gradient + 0.5)
        net[0].weight.register_post_accumulate_grad_hook(lambda p: told.append(round(p.grad.sum().item(), 5)))
        net[0].weight.no_decay = True
        for number, place in enumerate(route):
            versions = [parameter._version for parameter in net.parameters()]
            gradients = [parameter.grad for parameter in net.parameters()]
            assert net.to(place) is net
            after = list(net.parameters())
            assert all(a is b for a, b in zip(before, after, strict=True))
            assert all(reference() is p for reference, p in zip(references, after, strict=True))
            assert all(a is p.grad for a, p in zip(gradients, after, strict=True))
            assert [parameter._version for parameter in after] == versions
            assert {p.device for p in after} == {torch.device(place)}
            assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in after)
            assert isinstance(net[0].weight, Marked)
            assert net[0].weight.no_decay
            assert net[3].weight is net[2].weight
            if number == 1:
                handle.remove()
            for _ in range(2):
                net(torch.ones(2, 3, device=place)).square().sum().backward()
                optimizer.step()
            told.append([p.detach().cpu().clone() for p in after])
            told.append([p.grad.cpu().clone() for p in after if p.grad is not None])
            told.append([p.requires_grad for p in after])
            told.append(net[0].weight.doubled().detach().cpu())
        return told

    expected, got = follow(ROUTES[0]), follow(route)
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        if isinstance(theirs, float | bool):
            assert mine == theirs
        elif isinstance(theirs, torch.Tensor):
            assert torch.equal(mine, theirs)
        else:
            pairs = list(zip(mine, theirs, strict=True))
            assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("number", [torch.complex64, torch.bfloat16, torch.float64])
def test_numbers_of_every_type_go_along(number: torch.dtype):
    layer = nn.Linear(2, 2, dtype=torch.complex64 if number.is_complex else torch.float32)
    expected = copy.deepcopy(layer).to(number)
    weight = layer.weight
    layer.to("vgpu:0").to(number)
    assert layer.weight is weight
    assert torch.equal(layer.weight.cpu(), expected.weight)
    layer.cpu()
    assert layer.weight is weight
    assert torch.equal(layer.weight, expected.weight)


def test_copies_and_files_keep_marks_and_classes():
    net = make().to("vgpu:0")
    net[0].weight.mark = [1]
    copied = copy.deepcopy(net)
    assert isinstance(copied[0].weight, Marked)
    assert copied[0].weight.mark == [1]
    assert copied[0].weight.mark is not net[0].weight.mark
    assert copied[3].weight is copied[2].weight
    file = io.BytesIO()
    torch.save(net[0].weight, file)
    file.seek(0)
    loaded = torch.load(file)
    assert (loaded.mark, loaded.device) == ([1], torch.device("vgpu:0"))
    other = make()
    other.load_state_dict(net.state_dict(), assign=True)
    assert other[0].weight.device == torch.device("vgpu:0")
    assert torch.equal(other[0].weight, net[0].weight)


def test_a_parameter_of_an_own_class_is_made_on_a_device():
    made = Marked(torch.ones(2, device="vgpu:0"))
    assert isinstance(made, Marked)
    assert isinstance(made, nn.Parameter)
    made.doubled().sum().backward()
    assert made.grad.tolist() == [2, 2]


def test_new_data_moves_any_leaf():
    w = torch.ones(2, requires_grad=True)
    w.mark = 1  # type: ignore[attr-defined]
    w.data = torch.tensor([1.0, 2.0, 3.0], device="vgpu:0")
    (w * w).sum().backward()
    assert w.grad is not None
    assert (w.grad.tolist(), w.grad.device, w.mark) == ([2, 4, 6], w.device, 1)  # type: ignore[attr-defined]
    w.data = torch.zeros(3)
    assert (w.device, w.is_leaf, w.requires_grad, type(w)) == (torch.device("cpu"), True, True, torch.Tensor)
    assert w.grad.device.type == "cpu"
    y = w * 2
    with pytest.raises(RuntimeError, match="computed from others"):
        y.data = torch.zeros(3, device="vgpu:0")
    plain = torch.zeros(2)
    plain.data = torch.ones(3)
    assert plain.tolist() == [1, 1, 1]


def test_where_parameters_are_to_be_overwritten_they_are():
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    weight = layer.weight
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        layer.to("vgpu:0")
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    assert layer.weight is not weight
    assert weight.device.type == "cpu"
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[1, 1]]


def test_a_move_that_does_not_fit_leaves_the_net_whole():
    vgpu.enable(devices=1, memory=100)
    net = nn.Linear(5, 6)
    with pytest.raises(torch.OutOfMemoryError):
        net.to("vgpu:0")
    assert [name for name, _ in net.named_parameters()] == ["weight", "bias"]
    assert net(torch.ones(5)).shape == (6,)


@pytest.mark.parametrize("made_inside", [False, True])
def test_a_module_moves_in_inference_mode_as_it_does_from_type_to_type(made_inside: bool) -> None:
    made = nn.Linear(2, 2)
    with torch.inference_mode():
        layer = nn.Linear(2, 2) if made_inside else made
        weight, expected = layer.weight, layer(torch.ones(1, 2))
        for there in ("vgpu:1", "vgpu:0", "cpu", "vgpu:0"):
            layer.to(there)
            assert layer.weight is weight
            assert str(weight.device) == there
            assert torch.equal(layer(torch.ones(1, 2, device=there)).cpu(), expected)
    assert weight.is_inference()  # so it is on the CPU after `layer.double()`
    assert torch.equal(layer(torch.ones(1, 2, device="vgpu:0")).cpu(), expected)
