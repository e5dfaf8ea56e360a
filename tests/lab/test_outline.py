"""What a net costs, known before anything runs."""

from __future__ import annotations

import pytest
from torch import nn

from lab import placement
from lab.errors import PlacementError
from lab.experiment import Experiment
from lab.outline import outline
from tests.lab import odd_nets

TWO = ["vgpu:0", "vgpu:1"]
MODELLED = Experiment(strategy="model_parallel", hardware="a100")


def test_the_first_crossing_of_net_has_the_bytes_of_its_shape() -> None:
    drawn = outline(Experiment(batch_size=64))
    assert drawn.layers == ("conv1", "conv2", "fc1", "fc2")
    edges = {(edge.source, edge.target): (edge.forward_bytes, edge.backward_bytes) for edge in drawn.graph.edges}
    pooled = 64 * 10 * 12 * 12 * 4  # conv1 gives 24×24, the pooling halves it, float32
    assert edges["conv1", "conv2"] == (pooled, pooled)
    assert edges["input", "conv1"] == (64 * 28 * 28 * 4, 0)


def test_memory_counts_parameters_gradients_and_optimizer_state() -> None:
    def of_fc2(**fields: object) -> int:
        return next(cost.memory_bytes for cost in outline(Experiment(**fields)).costs if cost.path == "fc2")

    parameters = (50 * 10 + 10) * 4
    plain = of_fc2(momentum=0)
    assert of_fc2() - plain == parameters  # the momentum
    assert of_fc2(optimizer="adam") - plain == 2 * parameters
    assert of_fc2(momentum=0, batch_size=128) > plain


def test_even_is_what_a_run_would_do() -> None:
    counts = {"conv1": 260, "conv2": 5_020, "fc1": 16_050, "fc2": 510}
    assert outline(Experiment()).even(TWO) == placement.even(counts, TWO)


def test_auto_is_known_only_where_times_are_modelled() -> None:
    assert outline(Experiment(strategy="model_parallel")).auto({"vgpu:0": 10**9, "vgpu:1": 10**9}) is None
    drawn = outline(MODELLED)
    assert all(cost.time_ns > 0 for cost in drawn.costs)
    placed = drawn.auto({"vgpu:0": 10**9, "vgpu:1": 10**9})
    assert placed is not None
    times = {cost.path: cost.time_ns for cost in drawn.costs}

    def slowest(cut: int) -> int:
        paths = list(times)
        return max(sum(map(times.__getitem__, paths[:cut])), sum(map(times.__getitem__, paths[cut:])))

    own = max(sum(times[path] for path in times if placed[path] == device) for device in TWO)
    assert own == min(slowest(cut) for cut in range(len(times) + 1))
    with pytest.raises(PlacementError, match="no contiguous placement fits"):
        drawn.auto({"vgpu:0": 1000, "vgpu:1": 1000})


def test_ranks_see_their_share_of_the_batch() -> None:
    assert outline(Experiment(strategy="ddp", world_size=2, batch_size=64)).graph.batch_size == 32


def test_a_net_of_ones_own_is_left_as_it_is() -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.unused, self.last = nn.Linear(784, 8), nn.Linear(3, 3), nn.Linear(8, 10)

        def forward(self, x):  # type: ignore[no-untyped-def]
            return self.last(self.first(x.flatten(1)))

    net = Mine()
    drawn = outline(Experiment(net="own:Mine", dtype="float64"), net)
    assert drawn.layers == ("first", "last", "unused")
    assert next(net.parameters()).dtype.itemsize == 4
    assert drawn.even(TWO)["unused"] == "vgpu:1"


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
@pytest.mark.parametrize("hardware", ["classroom", "t4"])
@pytest.mark.parametrize("kind", [*odd_nets.PLACED, odd_nets.Scripted])
def test_any_net_has_an_outline_and_can_be_cut(kind: type[nn.Module], hardware: str) -> None:
    experiment = Experiment(net="own:odd", strategy="model_parallel", hardware=hardware, batch_size=8)
    drawn = outline(experiment, kind)
    assert set(drawn.even(TWO).values()) == set(TWO)
    placed = drawn.auto({"vgpu:0": 10**9, "vgpu:1": 10**9})
    assert (placed is None) == (hardware == "classroom")
    for group in drawn.tied:
        assert len({drawn.even(TWO)[layer] for layer in group}) == 1
    assert sum(edge.forward_bytes for edge in drawn.graph.edges) > 0


class Broken(odd_nets.Two):
    def forward(self, x):  # type: ignore[no-untyped-def]
        raise ValueError("not with these numbers")


def test_of_a_net_that_cannot_be_run_its_layers_are_known() -> None:
    drawn = outline(MODELLED.replace(net="own:Broken"), Broken)
    assert drawn.layers == ("first", "last")
    assert [cost.memory_bytes > 0 for cost in drawn.costs] == [True, True]
    assert drawn.even(TWO) == {"first": "vgpu:0", "last": "vgpu:1"}
    assert drawn.auto(dict.fromkeys(TWO, 10**9)) is None
    assert drawn.graph.edges == ()


def test_layers_that_no_step_uses_take_memory() -> None:
    class Idle(odd_nets.Two):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(1000, 1000)

    drawn = outline(MODELLED.replace(net="own:Idle"), Idle)
    assert drawn.idle == ("unused",)
    with pytest.raises(PlacementError):
        drawn.auto({"vgpu:0": 10**6, "vgpu:1": 10**6})
    placed = drawn.auto({"vgpu:0": 2 * 10**6, "vgpu:1": 5 * 10**6})
    assert placed is not None
    assert placed["unused"] == "vgpu:1"
