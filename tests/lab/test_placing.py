"""From an Experiment to a device for every layer."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import data, nets, placement, placing
from lab.errors import ExperimentError, PlacementError
from lab.events import Placed
from lab.experiment import Experiment
from lab.graph import trace
from lab.layers import layer_paths
from lab.placing import model
from lab.vgpu import profiles
from lab.vgpu.roofline import Roofline

ROOM = 10**12


def place(net: nn.Module, capacity: int = ROOM, **fields: Any) -> Placed:
    fields = {"strategy": "model_parallel", "devices": ["vgpu:0", "vgpu:1"], **fields}
    experiment = Experiment(net="own:net", data="mnist", batch_size=8, **fields)
    inputs, targets = torch.zeros(8, 1, 28, 28), torch.zeros(8, dtype=torch.int64)
    paths = layer_paths(net)
    traced = trace(net, paths, inputs, targets)
    capacities = dict.fromkeys(experiment.devices, capacity)
    return placing.place(experiment, experiment.devices, net, paths, traced, inputs, targets, capacities)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nets.build("net", data.REGISTRY["mnist"].spec)


class Slow(nn.Module):
    """A layer that takes `seconds`, in forward only."""

    def __init__(self, seconds: float, width: int = 784) -> None:
        super().__init__()
        self.seconds, self.fc = seconds, nn.Linear(width, 784)

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        out: Tensor = self.fc(x.flatten(1))
        return out


class Backwards(nn.Module):
    """Defines its layers in another order than it runs them in, and one of them it never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.unused, self.first = nn.Linear(20, 10), nn.Linear(3, 3), nn.Linear(784, 20)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(F.relu(self.first(x.flatten(1))))
        return out


def test_one_device_takes_the_whole_net():
    placed = place(net(), strategy="single", devices=["cpu"])
    assert set(placed.layers.values()) == {"cpu"}
    assert (list(placed.layers), placed.method) == (["conv1", "conv2", "fc1", "fc2"], "given")


def test_data_parallel_has_a_copy_on_every_other_device():
    loose = net()
    loose.scale = nn.Parameter(torch.ones(1))  # which no placement can move, but a copy takes along
    placed = place(loose, strategy="data_parallel", devices=["vgpu:1", "cpu", "vgpu:0"])
    assert set(placed.layers.values()) == {"vgpu:1"}
    assert placed.copies == ("cpu", "vgpu:0")
    assert placed.reason == "The whole net is on vgpu:1, and a copy of it on cpu and vgpu:0."
    assert place(net(), strategy="data_parallel", devices=["cpu"]).reason == "The whole net is on cpu."


def test_patterns_as_given_in_the_order_of_the_run():
    placed = place(Backwards(), placement={"first": "vgpu:1", "*": "vgpu:0"})
    assert placed.layers == {"first": "vgpu:1", "last": "vgpu:0", "unused": "vgpu:0"}
    assert list(placed.layers) == ["first", "last", "unused"]
    assert placed.method == "given"


def test_bad_patterns_are_all_reported():
    with pytest.raises(ExperimentError) as caught:
        place(net(), placement={"conv3": "vgpu:0", "conv1": "vgpu:1"})
    assert len(caught.value.problems) == 2
    assert "'conv3' matches no layer" in str(caught.value)
    assert "conv2, fc1 and fc2" in str(caught.value)


def test_even_by_parameters_and_what_it_says():
    placed = place(net(), placement="even")
    # 260 + 5,020 of 21,840 parameters on the first, the rest on the second.
    assert list(placed.layers.values()) == ["vgpu:0", "vgpu:0", "vgpu:1", "vgpu:1"]
    assert placed.method == "even"
    assert "24% on vgpu:0 and 76% on vgpu:1" in placed.reason


def test_parameters_of_the_net_itself_cannot_be_placed():
    loose = net()
    loose.scale = nn.Parameter(torch.ones(1))
    with pytest.raises(PlacementError, match="scale belongs to no layer"):
        place(loose, placement="even")


def test_automatic_placement_balances_what_it_measures():
    slow = nn.Sequential(*(Slow(seconds) for seconds in (0.03, 0.001, 0.001, 0.03)), nn.Linear(784, 10))
    placed = place(slow, placement="auto")
    assert placed.method == "auto"
    assert placed.layers["0"] == "vgpu:0"
    assert placed.layers["3"] == placed.layers["4"] == "vgpu:1"
    assert list(placed.expected_ns) == ["vgpu:0", "vgpu:1"]
    assert all(30e6 < expected < 300e6 for expected in placed.expected_ns.values())
    assert "times as fast as one device" in placed.reason


def test_automatic_placement_keeps_to_the_capacity():
    slow = nn.Sequential(Slow(0.0), Slow(0.0), Slow(0.03), nn.Linear(784, 10))
    weights = 4 * (784 * 784 + 784)  # of each slow layer; with its gradient and momentum three times as much
    assert set(list(place(slow, placement="auto").layers.values())[:2]) == {"vgpu:0"}
    with pytest.raises(PlacementError, match="no contiguous placement fits"):
        place(slow, capacity=3 * weights, placement="auto")
    placed = place(slow, capacity=7 * weights, placement="auto")  # two slow layers, not three
    assert list(placed.layers.values()).count("vgpu:0") in (1, 2)
    assert placed.layers["2"] == placed.layers["3"] == "vgpu:1"


def test_measuring_tells_layers_apart_and_leaves_the_net_alone():
    slow = nn.Sequential(Slow(0.02), nn.BatchNorm1d(784), nn.Dropout(), nn.Linear(784, 10))
    before = {name: value.clone() for name, value in slow.state_dict().items()}
    inputs, random = torch.randn(8, 784), torch.get_rng_state()
    spent = placing.measure(slow, layer_paths(slow), inputs, torch.zeros(8, dtype=torch.int64))
    assert torch.equal(torch.get_rng_state(), random)
    assert set(spent) == {"0", "1", "2", "3"}
    assert 20e6 <= spent["0"] < 200e6
    assert spent["0"] > max(spent["1"], spent["2"], spent["3"])
    assert all(torch.equal(value, before[name]) for name, value in slow.state_dict().items())
    assert all(parameter.grad is None for parameter in slow.parameters())


def test_modelled_hardware_is_balanced_by_its_own_times() -> None:
    """Two layers whose matrix products are 1 : 8 in FLOPs, far above launch costs."""
    net = nn.Sequential(nn.Linear(2048, 2048, bias=False), nn.Linear(2048, 16384, bias=False))
    times = model(
        net, ["0", "1"], torch.zeros(4096, 2048), torch.zeros(4096, dtype=torch.int64), Roofline(profiles.get("a100"))
    )
    # The first layer's input needs no gradient: 2 products of 4096 x 2048 x 2048; the second has 3, 8 times as large.
    one = 2 * 4096 * 2048 * 2048 / 19.5e12 * 1e9
    assert times["0"] == pytest.approx(2 * one, rel=0.02)
    assert times["1"] == pytest.approx(3 * 8 * one, rel=0.05)


def test_even_leaves_the_last_devices_empty_and_not_the_first() -> None:
    placed = placement.even({"a": 1, "b": 1, "c": 1}, ["d0", "d1", "d2", "d3", "d4"])
    assert placed == {"a": "d0", "b": "d1", "c": "d2"}
