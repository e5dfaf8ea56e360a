"""Which parts of a net are layers, and whose turn it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import data, nets
from lab.layers import LayerHooks, layer_paths, own_name, own_parameters, run_layers, tied
from tests.lab import odd_nets


def build(name: str) -> nn.Module:
    return nets.build(name, data.REGISTRY[nets.REGISTRY[name].default_data].spec)


class Listens:
    """Writes down every turn."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, str, int]] = []

    def forward_turn(self, layer: str, call: int) -> None:
        self.turns.append(("forward", layer, call))

    def backward_turn(self, layer: str, call: int) -> None:
        self.turns.append(("backward", layer, call))


def without_repeats(turns: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    return [turn for turn, before in zip(turns, [None, *turns], strict=False) if turn != before]


def test_layers_are_children_with_containers_opened():
    assert layer_paths(build("net")) == ["conv1", "conv2", "fc1", "fc2"]
    assert layer_paths(build("gpt")) == [
        "tok_emb", "pos_emb", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "ln_f", "head",
    ]  # fmt: skip
    resnet = layer_paths(build("resnet18"))
    assert resnet[:6] == ["conv1", "bn1", "relu", "maxpool", "layer1.0", "layer1.1"]
    assert resnet[-1] == "fc"
    nested = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.ModuleDict({"a": nn.ReLU()})), nn.Sequential())
    assert layer_paths(nested) == ["0.0", "0.1.a", "1"]
    assert layer_paths(nn.Linear(1, 1)) == []


def test_the_layers_of_one_net_inside_of_another_are_its_own():
    wrapper = odd_nets.Wrapper()
    assert layer_paths(wrapper) == ["flatten", "model.0.a", "model.0.b", "model.0.norm", "model.0.c"]
    wrapper.model[0].register_buffer("mask", torch.ones(1))  # which would belong to no layer
    assert layer_paths(wrapper) == ["flatten", "model.0"]
    assert layer_paths(nn.Sequential(nn.Sequential(odd_nets.Wrapped()))) == ["0.0.a", "0.0.b", "0.0.norm", "0.0.c"]
    assert layer_paths(odd_nets.NewWeightNorm()) == ["first", "last"]
    assert layer_paths(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))) == []


def test_a_container_with_parameters_is_one_layer_and_a_shared_module_has_one_path():
    assert layer_paths(odd_nets.SequentialOfContainers()) == ["0", "1", "2", "3"]
    assert layer_paths(odd_nets.SharedModule()) == ["start", "a.0", "b.0", "out"]


def test_a_net_without_children_is_one_layer():
    assert run_layers(nn.Linear(1, 1)) == ["net"]
    assert run_layers(odd_nets.Two()) == ["first", "last"]
    net, listener = odd_nets.NoLayers(), Listens()
    run(net, torch.ones(2, 784), listener, LayerHooks(net, run_layers(net), listener))
    assert listener.turns == [("forward", "net", 0), ("backward", "net", 0)]


def test_what_is_no_layer_has_a_name_of_its_own():
    assert own_name("input", ["a", "b"]) == "input"
    assert own_name("input", ["input", "(input)"]) == "((input))"


def test_layers_that_share_parameters():
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(6)))
    net[3].weight = net[1].weight
    net[5].bias = net[3].bias
    net[4].weight = net[0].weight
    assert tied(net, layer_paths(net)) == [["0", "4"], ["1", "3", "5"]]
    assert tied(build("net"), layer_paths(build("net"))) == []


def test_parameters_of_the_net_itself():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert own_parameters(net) == []
    net.scale = nn.Parameter(torch.ones(1))
    net.register_buffer("mask", torch.ones(1))
    assert own_parameters(net) == ["scale", "mask"]
    assert own_parameters(nn.Linear(1, 1)) == ["weight", "bias"]


def run(net: nn.Module, x: Tensor, listener: Listens, hooks: LayerHooks) -> None:
    hooks.start_forward()
    loss = net(x).sum()
    hooks.start_backward()
    loss.backward()


def test_turns_go_forward_and_come_back():
    net, listener = build("net"), Listens()
    hooks = LayerHooks(net, layer_paths(net), listener)
    layers = ["conv1", "conv2", "fc1", "fc2"]
    expected = [("forward", path, 0) for path in layers] + [("backward", path, 0) for path in reversed(layers)]
    for _ in range(2):
        listener.turns.clear()
        run(net, torch.zeros(2, 1, 28, 28), listener, hooks)
        assert without_repeats(listener.turns) == expected
    hooks.detach()
    listener.turns.clear()
    net(torch.zeros(2, 1, 28, 28)).sum().backward()
    assert listener.turns == []


class Shared(nn.Module):
    """Calls the same layer twice, and gives a tensor by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(3, 3), nn.Bilinear(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inner(F.relu(self.inner(x))))
        out: Tensor = self.head(input1=x, input2=x)
        return out


def test_calls_of_a_shared_layer_are_counted():
    net, listener = Shared(), Listens()
    run(net, torch.ones(2, 3), listener, LayerHooks(net, ["inner", "head"], listener))
    assert without_repeats(listener.turns) == [
        ("forward", "inner", 0),
        ("forward", "inner", 1),
        ("forward", "head", 0),
        ("backward", "head", 0),
        ("backward", "inner", 1),
        ("backward", "inner", 0),
    ]


def test_listening_changes_no_gradient():
    torch.manual_seed(0)
    x = torch.randn(4, 3)
    net = Shared()
    net(x).sum().backward()
    expected = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    listener = Listens()
    run(net, x, listener, LayerHooks(net, ["inner", "head"], listener))
    assert all(torch.equal(p.grad, e) for p, e in zip(net.parameters(), expected, strict=True))


def test_without_gradients_only_forward_turns():
    net, listener = build("net"), Listens()
    hooks = LayerHooks(net, layer_paths(net), listener)
    with torch.no_grad():
        hooks.start_forward()
        net(torch.zeros(1, 1, 28, 28))
    assert [turn[0] for turn in listener.turns] == ["forward"] * 4
