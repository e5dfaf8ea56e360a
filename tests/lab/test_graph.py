"""The placement graph of one traced step, against counts by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import data, nets
from lab.errors import LabError
from lab.events import GraphEdge, GraphNode, PlacementGraph
from lab.graph import Trace, trace
from lab.layers import layer_paths
from tests.lab import odd_nets

B = 8
SPLIT = {"conv1": "vgpu:0", "conv2": "vgpu:1", "fc1": "vgpu:1", "fc2": "vgpu:1"}


def traced(net: nn.Module, x: Tensor, classes: int = 10) -> Trace:
    return trace(net, layer_paths(net), x, torch.zeros(len(x), dtype=torch.int64))


def on_one(made: Trace, device: str = "cpu") -> PlacementGraph:
    return made.placed(dict.fromkeys(made.layers, device))


def nodes(graph: PlacementGraph) -> dict[str, GraphNode]:
    return {node.name: node for node in graph.nodes}


def edges(graph: PlacementGraph) -> dict[tuple[str, str], GraphEdge]:
    return {(edge.source, edge.target): edge for edge in graph.edges}


@pytest.fixture(scope="module")
def net_graph() -> PlacementGraph:
    return traced(nets.build("net", data.REGISTRY["mnist"].spec), torch.zeros(B, 1, 28, 28)).placed(SPLIT)


def test_nets_parameters_and_shapes(net_graph: PlacementGraph):
    found = nodes(net_graph)
    assert list(found) == ["input", "conv1", "conv2", "fc1", "fc2", "loss"]
    layers = {name: node for name, node in found.items() if node.kind == "layer"}
    assert {name: node.parameters for name, node in layers.items()} == {
        "conv1": 260, "conv2": 5_020, "fc1": 16_050, "fc2": 510,
    }  # fmt: skip
    assert all(node.parameter_bytes == 4 * node.parameters for node in layers.values())
    assert {name: node.output_shape for name, node in layers.items()} == {
        "conv1": (B, 10, 24, 24), "conv2": (B, 20, 8, 8), "fc1": (B, 50), "fc2": (B, 10),
    }  # fmt: skip
    assert layers["conv1"].output_bytes == 4 * B * 10 * 24 * 24
    assert [node.module for node in layers.values()] == ["Conv2d", "Conv2d", "Linear", "Linear"]
    assert {node.calls for node in found.values()} == {1}
    assert net_graph.batch_size == B


def test_nets_one_crossing_edge(net_graph: PlacementGraph):
    assert {name: node.device for name, node in nodes(net_graph).items()} == {
        "input": "vgpu:0", **SPLIT, "loss": "vgpu:1",
    }  # fmt: skip
    (crossing,) = [edge for edge in net_graph.edges if edge.crosses]
    size = B * 10 * 12 * 12 * 4
    assert crossing == GraphEdge("conv1", "conv2", (B, 10, 12, 12), size, size, True)
    assert net_graph.crossing_bytes == 2 * size
    found = edges(net_graph)
    assert set(found) == {
        ("input", "conv1"), ("conv1", "conv2"), ("conv2", "fc1"), ("fc1", "fc2"), ("fc2", "loss"),
    }  # fmt: skip
    assert found["input", "conv1"].forward_bytes == 4 * B * 28 * 28
    assert found["input", "conv1"].backward_bytes == 0  # nobody asks for the images' gradient
    assert found["conv2", "fc1"].shape == (B, 320)
    assert found["fc2", "loss"].forward_bytes == 4 * B * 10


def test_nets_flops_by_hand(net_graph: PlacementGraph):
    # Multiplications and additions; backward needs as many for the weights, and again for the input's gradient.
    forward = {
        "conv1": 2 * B * 10 * 24 * 24 * (1 * 5 * 5),
        "conv2": 2 * B * 20 * 8 * 8 * (10 * 5 * 5),
        "fc1": 2 * B * 320 * 50,
        "fc2": 2 * B * 50 * 10,
    }
    found = nodes(net_graph)
    assert {name: found[name].forward_flops for name in forward} == forward
    backward = {name: count * (1 if name == "conv1" else 2) for name, count in forward.items()}
    assert {name: found[name].backward_flops for name in forward} == backward
    assert found["input"].forward_flops == found["loss"].forward_flops == 0


def test_activations_are_what_forward_makes_and_no_weights():
    made = traced(nets.build("net", data.REGISTRY["mnist"].spec), torch.zeros(B, 1, 28, 28))
    pooled = B * 10 * 12 * 12
    # The convolution, the pooling with its indices (int64), the ReLU.
    assert made.activation_bytes("conv1") == 4 * B * 10 * 24 * 24 + (4 + 8) * pooled + 4 * pooled
    assert made.activation_bytes("fc1") == 2 * 4 * B * 50  # the layer, the ReLU


class Residual(nn.Module):
    """y = first(x); z = second(relu(y)) + y; the sum joins two layers' outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        out: Tensor = self.head(self.second(F.relu(y)) + y)
        return out


def test_a_residual_connection_is_a_join():
    graph = traced(Residual(), torch.zeros(4, 6)).placed({"first": "a", "second": "b", "head": "b"})
    found = nodes(graph)
    (join,) = [node for node in graph.nodes if node.kind == "join"]
    assert join.module == "add"
    assert join.output_shape == (4, 6)
    assert join.device == found["second"].device == "b"  # where its first operand is
    size = 4 * 6 * 4
    assert {key: (edge.forward_bytes, edge.backward_bytes, edge.crosses) for key, edge in edges(graph).items()} == {
        ("input", "first"): (size, 0, False),
        ("first", "second"): (size, size, True),
        ("second", join.name): (size, size, False),
        ("first", join.name): (size, size, True),
        (join.name, "head"): (size, size, False),
        ("head", "loss"): (4 * 10 * 4, 4 * 10 * 4, False),
    }
    assert graph.crossing_bytes == 4 * size


def test_resnets_blocks_hide_their_joins_and_gpts_embeddings_join():
    resnet = on_one(traced(nets.build("resnet18", data.REGISTRY["mnist"].spec), torch.zeros(2, 1, 28, 28)))
    assert [node.kind for node in resnet.nodes].count("join") == 0
    spec = data.REGISTRY["sums"].spec
    x = torch.zeros(2, *spec.shape, dtype=torch.int64)
    net = nets.build("gpt", spec)
    gpt = on_one(trace(net, layer_paths(net), x, x))
    (join,) = [node for node in gpt.nodes if node.kind == "join"]
    assert join.output_shape == (2, *spec.shape, 64)
    assert {source for source, target in edges(gpt) if target == join.name} == {"tok_emb", "pos_emb"}


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = torch.tanh(self.inner(x)).sigmoid()
        out: Tensor = self.head(x.view(-1, 2, 3).flatten(1))
        return out


def test_a_shared_layer_is_one_node_that_is_called_twice():
    graph = on_one(traced(Shared(), torch.zeros(4, 6)))
    found = nodes(graph)
    assert list(found) == ["input", "inner", "head", "loss"]
    assert (found["inner"].calls, found["head"].calls) == (2, 1)
    assert found["inner"].parameters == 6 * 6 + 6
    assert found["inner"].forward_flops == 2 * (2 * 4 * 6 * 6)
    # The first call's input has no gradient: one product for it, two for the second call.
    assert found["inner"].backward_flops == 3 * (2 * 4 * 6 * 6)
    assert set(edges(graph)) == {("input", "inner"), ("inner", "head"), ("head", "loss")}


class LooksAtNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x * 2 if x.sum().item() > 3 else x)
        return out


def test_a_net_that_looks_at_numbers_is_traced_with_numbers():
    graph = on_one(traced(LooksAtNumbers(), torch.ones(4, 6)))
    assert nodes(graph)["fc"].output_shape == (4, 10)
    assert edges(graph)["input", "fc"].forward_bytes == 4 * 6 * 4


@pytest.mark.parametrize("looks", [False, True])
def test_tracing_leaves_no_trace(looks: bool):
    class Normed(LooksAtNumbers):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = nn.BatchNorm1d(6), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            if looks and x.sum().item() > 1e9:
                x = -x
            out: Tensor = self.fc(self.drop(self.norm(x)))
            return out

    torch.manual_seed(1)
    net = Normed()
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules()]
    traced(net, torch.randn(4, 6, generator=torch.Generator().manual_seed(2)))
    assert torch.equal(torch.get_rng_state(), random)
    after: dict[str, Any] = net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.grad is None and parameter.device.type == "cpu" for parameter in net.parameters())
    assert [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules()] == hooks
    assert net.training


def test_sizes_follow_the_dtype():
    graph = on_one(traced(Residual().to(torch.bfloat16), torch.zeros(4, 6, dtype=torch.bfloat16)))
    assert nodes(graph)["first"].parameter_bytes == 2 * (6 * 6 + 6)
    assert edges(graph)["first", "second"].forward_bytes == 4 * 6 * 2


class Asserts(nn.Module):
    """Looks at numbers in ways that the meta device answers with all kinds of exceptions."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.fc(x)
        if h.detach().numpy().shape[0] == 0:
            raise ValueError("an empty batch")
        return h


def test_whatever_a_net_does_not_find_on_meta_is_traced_on_the_cpu() -> None:
    traced = trace(Asserts(), ["fc"], torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
    assert traced.parameters("fc") == 4 * 3 + 3


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.fc(x)
        return h, h


def test_a_net_that_returns_several_tensors_is_told_so() -> None:
    with pytest.raises(LabError, match="returned a tuple"):
        trace(Pair(), ["fc"], torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))


def test_tracing_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Talks(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            print("from the net")
            return super().forward(x)

    trace(nn.Sequential(Talks(4, 3)), ["0"], torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
    assert not capsys.readouterr().out


def test_a_weight_that_is_used_without_a_call_is_sent_by_its_layer() -> None:
    torch.manual_seed(0)
    x = torch.randn(B, 1, 28, 28)
    made = traced(odd_nets.UsesWeights(), x)
    assert made.layers == ["conv", "embed", "maps", "named"]
    assert [made.parameters(layer) for layer in made.layers] == [4 * 9 + 4, 784 * 4 * 16, 2 * 16 * 16, 10 * 16]
    graph = made.placed({"conv": "a", "embed": "a", "maps": "b", "named": "c"})
    found = {key: (edge.forward_bytes, edge.backward_bytes) for key, edge in edges(graph).items() if edge.crosses}
    # A product is where its first operand is: the activations stay on a, and the weights come to them.
    senders: dict[str, int] = {}
    for (source, _), (forward, backward) in found.items():
        assert forward == backward
        senders[source] = senders.get(source, 0) + forward
    assert senders == {"maps": 4 * 2 * 16 * 16, "named": 4 * 10 * 16}


def test_a_layer_that_uses_the_weight_of_another_is_sent_it() -> None:
    class Borrows(nn.Module):
        def __init__(self, lender: nn.Linear) -> None:
            super().__init__()
            self.lender, self.scale = [lender], nn.Parameter(torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x * self.scale, self.lender[0].weight)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lends = nn.Linear(6, 10)
            self.borrows = Borrows(self.lends)

        def forward(self, x: Tensor) -> Tensor:
            return self.borrows(x)

    graph = traced(Net(), torch.zeros(4, 6)).placed({"lends": "a", "borrows": "b"})
    edge = edges(graph)["lends", "borrows"]
    assert (edge.forward_bytes, edge.backward_bytes) == (4 * 60, 4 * 60)


def test_a_residual_around_a_layer_that_takes_a_view_of_its_input() -> None:
    class Views(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.view(-1, 6)).view(x.shape)

    net = Residual()
    net.second = Views(6, 6)
    graph = traced(net, torch.zeros(4, 6)).placed({"first": "a", "second": "b", "head": "b"})
    assert graph.crossing_bytes == 4 * (4 * 6 * 4)  # to the layer and around it, and both back


@pytest.mark.parametrize(
    # The sum's input is not needed for its gradient, and that kind of checkpoint stops before it.
    ("kind", "again"),
    [(odd_nets.Checkpointed, 1), (odd_nets.ReentrantCheckpoint, 2)],
)
def test_what_a_checkpoint_computes_again_is_sent_again(kind: type[nn.Module], again: int) -> None:
    # From a to b, from start to the sum, and from there to out: forth, and the gradients back.
    found = traced(kind(), torch.zeros(B, 1, 28, 28)).placed({"start": "x", "a": "x", "b": "y", "out": "x"})
    assert found.crossing_bytes == (3 + 3 + again) * 4 * B * 32
    assert [node.kind for node in found.nodes].count("join") == 1


@pytest.mark.parametrize(
    ("kind", "total"),
    [
        (odd_nets.Names, 784 * 16 + 16 + 11 * (16 * 16 + 16) + 160 + 10),
        (odd_nets.Tied, 784 * 64 + 4 * (64 * 64 + 64) + 64 * 784 + 784 + 640 + 10),
        (odd_nets.NoLayers, 7840 + 10),
        (odd_nets.SharedModule, 784 * 32 + 32 + 32 * 32 + 32 + 320 + 10),
    ],
)
def test_every_parameter_is_counted_once(kind: type[nn.Module], total: int) -> None:
    made = traced(kind(), torch.zeros(B, 1, 28, 28))
    graph = on_one(made)
    assert sum(node.parameters for node in graph.nodes) == total
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    assert [node.kind for node in graph.nodes].count("input") == [node.kind for node in graph.nodes].count("loss") == 1


def test_a_layer_called_input_is_where_it_was_placed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.input, self.loss = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.loss(self.input(self.first(x)))

    graph = traced(Net(), torch.zeros(2, 6), classes=3).placed({"first": "a", "input": "b", "loss": "c"})
    found = nodes(graph)
    assert {name: found[name].device for name in found} == {
        "(input)": "a", "first": "a", "input": "b", "loss": "c", "(loss)": "c",
    }  # fmt: skip
    assert graph.crossing_bytes == 2 * 4 * (2 * 5 + 2 * 4)
