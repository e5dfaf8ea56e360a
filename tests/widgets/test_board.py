"""What the placement board is told, and its adapter for notebooks, without a browser."""

from __future__ import annotations

import json
import re

import pytest
import traitlets

from lab.events import Bucket, BucketsBuilt
from lab.experiment import Experiment
from tests.widgets import events_factory as factory
from widgets import board
from widgets.board.words.en import WORDS
from widgets.notebook import PlacementBoard

PLACED = {"conv1": "vgpu:0", "conv2": "vgpu:1", "fc1": "vgpu:1", "fc2": "vgpu:1"}
FIRST = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"})


def test_the_state_has_a_lane_for_each_device_and_a_chip_for_each_layer() -> None:
    state = board.state(FIRST.replace(devices=["vgpu:0", "vgpu:1", "cpu"], memory_mb=500))
    assert [lane["name"] for lane in state["devices"]] == ["vgpu:0", "vgpu:1", "cpu"]
    assert [lane["simulated"] for lane in state["devices"]] == [True, True, False]
    assert state["devices"][0]["capacity_bytes"] == 500_000_000
    assert {layer["path"]: layer["parameters"] for layer in state["layers"]} == {
        "conv1": 260,
        "conv2": 5_020,
        "fc1": 16_050,
        "fc2": 510,
    }
    # 2 operations for each of 5·5 weights, of 10 filters, at 24·24 places, in 64 images
    assert state["layers"][0]["flops"] == 2 * 25 * 10 * 24 * 24 * 64
    assert state["chosen"] == PLACED
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize("net", ["net", "mlp", "resnet18", "gpt"])
def test_every_node_that_is_no_layer_follows_one_that_leads_to_a_layer(net: str) -> None:
    state = board.state(Experiment(net=net, strategy="model_parallel"))
    follows = {other["name"]: other["follows"] for other in state["others"]}
    layers = {layer["path"] for layer in state["layers"]}
    known = set(layers)
    for other in state["others"]:  # in this order, so that the browser needs one pass
        assert follows[other["name"]] in known, other
        known.add(other["name"])
    assert {edge[end] for edge in state["edges"] for end in ("source", "target")} <= known


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [
        ("even", "even"),
        ("auto", "auto"),
        (PLACED, PLACED),
        (PLACED | {"fc2": "vgpu:7"}, PLACED | {"fc2": "vgpu:0"}),
        ({"conv9": "vgpu:0"}, "even"),
        ({}, "even"),
        ("best", "even"),
    ],
)
def test_a_choice_that_does_not_fit_becomes_one_that_does(chosen: object, kept: object) -> None:
    assert board.state(FIRST, chosen)["chosen"] == kept


def test_auto_is_suggested_where_times_are_modelled() -> None:
    assert board.state(FIRST)["suggested"]["auto"] is None
    modelled = FIRST.replace(timing="modelled", placement="auto")
    assert set(board.state(modelled)["suggested"]["auto"]) == set(PLACED)
    small = board.state(modelled.replace(memory_mb=0.1))
    assert small["suggested"]["auto"] is None
    assert small["refused"].startswith("Auto finds nothing: no contiguous placement fits")


def test_copies_say_their_share_of_the_batch() -> None:
    copies = board.state(Experiment(strategy="data_parallel", devices=["vgpu:0", "vgpu:1", "vgpu:2"]))["copies"]
    assert [copy["samples"] for copy in copies] == [22, 22, 20]  # as torch's chunk splits 64 in three
    assert copies[0]["note"] == "Keeps the parameters and updates them; 22 of the batch's 64 samples."
    few = board.state(Experiment(strategy="data_parallel", devices=["vgpu:0", "vgpu:1", "vgpu:2"], batch_size=2))
    assert few["copies"][2]["note"] == "No samples: a batch of 2 makes only 2 parts."
    ranks = board.state(Experiment(strategy="ddp", world_size=2, devices=["cpu"]))["copies"]
    assert [(rank["name"], rank["device"], rank["samples"]) for rank in ranks] == [
        ("Rank 0 · cpu", "rank 0 · cpu", 32),
        ("Rank 1 · cpu", "rank 1 · cpu", 32),
    ]


def test_ranks_that_place_their_layers_show_rank_0() -> None:
    four = [f"vgpu:{index}" for index in range(4)]
    state = board.state(Experiment(strategy="ddp", world_size=2, devices=four, placement="even"))
    assert [lane["name"] for lane in state["devices"]] == ["vgpu:0", "vgpu:1"]
    assert state["copies"] is None
    assert state["note"] == "Every rank places its layers so: rank 1 on vgpu:2 and vgpu:3."
    assert [lane["also"] for lane in state["devices"]] == [["rank 1 · vgpu:2"], ["rank 1 · vgpu:3"]]


def test_every_copy_has_its_part_of_the_batch() -> None:
    copies = [Experiment(strategy="data_parallel", devices="vgpu:0,vgpu:1,vgpu:2"), Experiment(strategy="ddp")]
    parts = [[lane["part"] for lane in board.state(each)["copies"]] for each in copies]
    assert parts == [[[0, 3], [1, 3], [2, 3]], [[0, 2], [1, 2]]]


def test_a_run_of_ranks_gives_its_buckets() -> None:
    built = BucketsBuilt(1, (Bucket(0, ("fc1.weight",), 64_000), Bucket(1, ("conv1.weight",), 1_000)))
    assert board.measured(factory.folded(factory.events(3), iter([built])))["buckets"] == [64_000, 1_000]


def test_a_run_gives_shares_of_the_time() -> None:
    found = board.measured(factory.folded(factory.events(3)))
    assert sum(layer["share"] for layer in found["layers"].values()) == pytest.approx(1)
    # vgpu:0 computes 200 + 240 + 90 of 1,270 microseconds, copies for 40 + 40, and waits for the rest
    assert found["devices"]["vgpu:0"]["busy"] == pytest.approx(530 / 1270)
    assert found["placed"]["layers"] == factory.PLACEMENT
    assert found["crossed"] == 2 * 368_640
    assert board.measured(factory.folded(factory.events(0)))["crossed"] is None


def test_the_script_stands_alone() -> None:
    script = board.script()
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert "http" not in script + board.css() + board.colors()
    used = set(re.findall(r"\bwords\.(\w+)", script)) | {"even", "auto", "undo", "redo", "add"}
    assert used <= WORDS.keys()
    spoken = {name for name in WORDS if not name.endswith("_hint")}
    assert spoken <= used | {"restarting"}


class TestNotebook:
    def test_the_experiment_follows_the_board(self) -> None:
        widget = PlacementBoard(FIRST)
        assert widget.experiment == FIRST
        widget.chosen = PLACED | {"conv2": "vgpu:0"}
        assert dict(widget.experiment.placement) == {"fc1": "vgpu:1", "fc2": "vgpu:1", "*": "vgpu:0"}
        widget.chosen = "auto"
        assert widget.experiment.placement == "auto"

    @pytest.mark.parametrize("wrong", [{"conv1": "vgpu:0"}, PLACED | {"fc2": "vgpu:9"}, "best", 3])
    def test_what_the_board_cannot_have_made_is_refused(self, wrong: object) -> None:
        widget = PlacementBoard(FIRST)
        with pytest.raises(traitlets.TraitError):
            widget.chosen = wrong
        assert widget.chosen == PLACED

    def test_another_experiment_brings_its_own_layers(self) -> None:
        widget = PlacementBoard(FIRST)
        widget.measured(factory.folded(factory.events(3)))
        assert widget.figures["layers"]
        widget.experiment = Experiment(net="mlp", strategy="model_parallel")
        assert [layer["path"] for layer in widget.state["layers"]] == ["fc1", "fc2", "fc3"]
        assert (widget.chosen, widget.figures) == ("even", {})

    def test_copies_are_not_placed(self) -> None:
        experiment = Experiment(strategy="data_parallel")
        assert PlacementBoard(experiment).experiment == experiment

    def test_everything_it_needs_comes_with_it(self) -> None:
        assert "export default" in PlacementBoard._esm
        assert PlacementBoard._esm.count("export") == 1
        assert "--lab-d7" in PlacementBoard._css
