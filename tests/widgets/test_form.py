"""What the controls say becomes an Experiment, or a list of problems."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from lab import faults, nets
from lab.errors import ExperimentError
from lab.experiment import Experiment
from tests.widgets import events_factory as factory
from tests.widgets.forms_factory import DEFAULT, form
from widgets.web import text
from widgets.web.form import CONTROLS
from widgets.web.form_values import each_of, values
from widgets.web.offers import TROUBLE_STEP


def test_the_form_of_the_default_is_the_default() -> None:
    assert form().experiment(DEFAULT) == DEFAULT


def test_fields_without_a_control_keep_the_default() -> None:
    default = DEFAULT.replace(optimizer="adam", timing="modelled")
    experiment = form(lr=0.001).experiment(default)
    assert (experiment.optimizer, experiment.timing, experiment.lr) == ("adam", "modelled", 0.001)


def test_the_page_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "t4"\n', encoding="utf-8")
    with pytest.raises(ExperimentError) as caught:
        form(lr=0, hardware=str(tmp_path / "mine.toml")).experiment(DEFAULT)
    assert {problem.field: problem.message for problem in caught.value.problems}.keys() == {"hardware", "lr"}
    assert "files are not read by the page" in str(caught.value)


def test_one_device_ignores_what_only_several_need() -> None:
    experiment = form(strategy="single", device="vgpu:3", microbatches=7, panel=None).experiment(DEFAULT)
    assert (experiment.strategy, experiment.devices, experiment.microbatches) == ("single", ("vgpu:3",), 1)


def test_data_parallel_takes_devices_but_no_placement() -> None:
    experiment = form(strategy="data_parallel", virtual=3, microbatches=7, panel=None).experiment(DEFAULT)
    assert (experiment.devices, experiment.placement, experiment.microbatches) == (
        ("vgpu:0", "vgpu:1", "vgpu:2"),
        None,
        1,
    )
    with pytest.raises(ExperimentError, match="at least one virtual GPU"):
        form(strategy="data_parallel", virtual=0).experiment(DEFAULT)


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(ExperimentError) as caught:
        form(batch_size=63, microbatches=4, lr=0, virtual=9, seed=None).experiment(DEFAULT)
    assert {problem.field for problem in caught.value.problems} >= {"microbatches", "lr", "devices", "seed"}


@pytest.mark.parametrize(
    "changes",
    [
        {"net": "nett"},
        {"net": ["net"]},
        {"strategy": "magic"},
        {"strategy": None},
        {"virtual": "two"},
        {"virtual": 1.5},
        {"virtual": math.nan},
        {"virtual": 0},
        {"real": ["cuda:99"]},
        {"real": "cpu"},
        {"panel": None},
        {"panel": {"chosen": {"conv1": 3}}},
        {"panel": {"chosen": {"conv9": "vgpu:0", "conv1": "vgpu:1"}}},
        {"panel": {"chosen": {"conv1": "vgpu:7"}}},
        {"panel": {"chosen": "best"}},
        {"batch_size": None},
        {"batch_size": -1},
        {"batch_size": 100_000},
        {"lr": math.nan},
        {"length": 0},
        {"length": None},
    ],
)
def test_no_value_from_a_client_gets_past_the_checks(changes: dict[str, Any]) -> None:
    if changes == {"real": "cpu"}:
        form(**changes).experiment(DEFAULT)  # left out: the default holds
        return
    with pytest.raises(ExperimentError) as caught:
        form(**changes).experiment(DEFAULT)
    assert all(problem.message for problem in caught.value.problems)


@pytest.mark.parametrize("net", nets.NAMES)
def test_the_board_has_the_layers_of_every_net(net: str) -> None:
    board = form(net=net).board(DEFAULT)
    assert board is not None
    assert [layer["path"] for layer in board["layers"]] == list(nets.layer_names(net, nets.REGISTRY[net].default_data))
    assert board["chosen"] == (factory.PLACEMENT if net == "net" else "even")


def test_layers_move_off_a_device_that_is_gone() -> None:
    board = form(virtual=1).board(DEFAULT)
    assert board is not None
    assert set(board["chosen"].values()) == {"vgpu:0"}


class TestRanks:
    def test_ranks_share_the_cpu(self) -> None:
        experiment = form(strategy="ddp", ranks=4, bucket_mb=0.02, microbatches=2, panel=None).experiment(DEFAULT)
        assert (experiment.world_size, experiment.devices, experiment.placement) == (4, ("cpu",), None)
        assert (experiment.bucket_cap_mb, experiment.microbatches, experiment.faults) == (0.02, 2, ())

    def test_ranks_have_virtual_gpus_of_their_own(self) -> None:
        experiment = form(strategy="ddp", ranks=8, each="vgpu").experiment(DEFAULT)
        assert experiment.devices == tuple(f"vgpu:{index}" for index in range(8))
        assert experiment.placement is None

    def test_layers_are_placed_on_the_devices_of_every_rank(self) -> None:
        chosen = {"conv1": "vgpu:2", "conv2": "vgpu:0", "fc1": "vgpu:0", "fc2": "vgpu:1"}
        split = form(strategy="ddp", ranks=2, each="split", per_rank=3, panel={"chosen": chosen})
        experiment = split.experiment(DEFAULT)
        assert experiment.devices == tuple(f"vgpu:{index}" for index in range(6))
        assert experiment.placement == {"conv1": "vgpu:2", "fc2": "vgpu:1", "*": "vgpu:0"}
        board = split.board(DEFAULT)
        assert board is not None
        assert (board["chosen"], board["fixed"], board["can_add"], board["removable"]) == (
            chosen,
            False,
            True,
            "vgpu:2",
        )
        assert [device["name"] for device in board["devices"]] == ["vgpu:0", "vgpu:1", "vgpu:2"]

    def test_every_trouble_of_the_lab_is_offered_for_every_rank(self) -> None:
        assert set(text.TROUBLES) == set(faults.KINDS)
        for kind in faults.KINDS:
            chosen = form(strategy="ddp", trouble=kind, trouble_rank=0, planned=True)
            assert [str(fault) for fault in chosen.experiment(DEFAULT).faults] == [f"{kind}:0:{TROUBLE_STEP}"]
            assert chosen.fault() == f"{kind}:0"
            assert form(strategy="ddp", trouble=kind).experiment(DEFAULT).faults == ()

    def test_trouble_that_was_opened_stays_as_it_was_while_it_is_not_changed(self) -> None:
        opened = Experiment(strategy="ddp", faults=["straggle:1:7:3", "delay:0:9"])
        assert form(strategy="ddp", planned=True).experiment(opened).faults == opened.faults
        other = form(strategy="ddp", planned=True, trouble_rank=0).experiment(opened)
        assert [str(fault) for fault in other.faults] == [f"straggle:0:{TROUBLE_STEP}"]

    def test_other_strategies_ignore_what_only_ranks_need(self) -> None:
        experiment = form(ranks=9, each="x", bucket_mb=None, trouble="x", planned=True).experiment(DEFAULT)
        assert experiment == DEFAULT

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"ranks": 9}, "world_size"),
            ({"ranks": 10_000}, "world_size"),
            ({"ranks": 0}, "world_size"),
            ({"ranks": "two"}, "world_size"),
            ({"ranks": None}, "world_size"),
            ({"ranks": 3}, "batch_size"),
            ({"ranks": 1, "planned": True}, "faults"),
            ({"each": ["cpu"]}, "devices"),
            ({"each": "../etc"}, "devices"),
            ({"trouble": "kill:0:0", "planned": True}, "faults"),
            ({"trouble": {}, "planned": True}, "faults"),
            ({"trouble_rank": -1, "planned": True}, "faults"),
            ({"trouble_rank": [], "planned": True}, "faults"),
            ({"trouble_rank": 2, "planned": True}, "faults"),
            ({"each": "split", "per_rank": 1}, "devices"),
            ({"each": "split", "per_rank": 5}, "devices"),
            ({"each": "split", "per_rank": None}, "devices"),
            ({"each": "split", "panel": {"chosen": {"conv1": "vgpu:2"}}}, "placement"),
            ({"bucket_mb": None}, "bucket_cap_mb"),
            ({"bucket_mb": -1}, "bucket_cap_mb"),
        ],
    )
    def test_what_a_client_sends_for_ranks_is_checked(self, changes: dict[str, Any], field: str) -> None:
        with pytest.raises(ExperimentError) as caught:
            form(**{"strategy": "ddp", **changes}).experiment(DEFAULT)
        assert field in {problem.field for problem in caught.value.problems}

    def test_the_page_opens_on_ranks(self) -> None:
        both = Experiment(strategy="ddp", world_size=2, devices="vgpu:0,vgpu:1,vgpu:2,vgpu:3")
        assert [each_of(each) for each in (DEFAULT, Experiment(strategy="ddp"), both)] == ["cpu", "cpu", "split"]


class TestHardware:
    def test_what_is_virtual_about_the_devices_is_chosen(self) -> None:
        chosen = form(hardware="t4", link="pcie5", topology="bus", memory_mb=300, dtype="bfloat16")
        experiment = chosen.experiment(DEFAULT)
        assert (experiment.hardware, experiment.link, experiment.topology) == ("t4", "pcie5", "bus")
        assert (experiment.memory_mb, experiment.dtype) == (300, "bfloat16")

    def test_what_has_no_name_stays_as_it_was_opened(self) -> None:
        link = {"bandwidth_gb_per_s": 0.5, "latency_us": 3}
        opened = DEFAULT.replace(link=link, topology="nodes:4:ethernet_1g", devices="vgpu:0,vgpu:1")
        kept = form(link="given", topology="given").experiment(opened)
        assert (kept.link, kept.topology) == (opened.link, opened.topology)
        assert form(link="own").experiment(opened).link is None

    @pytest.mark.parametrize("empty", [None, 0])
    def test_memory_that_is_not_given_is_the_hardwares_own(self, empty: int | None) -> None:
        assert form(hardware="t4", memory_mb=empty).experiment(DEFAULT.replace(memory_mb=99)).memory_mb is None

    def test_the_data_is_chosen_and_has_to_suit_the_net(self) -> None:
        assert form(net="mlp", data="shapes", panel={"chosen": "even"}).experiment(DEFAULT).data == "shapes"
        with pytest.raises(ExperimentError, match="try 'mnist'"):
            form(data="shapes").experiment(DEFAULT)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"hardware": "a1000"}, "hardware"),
            ({"hardware": "/etc/passwd.toml"}, "hardware"),
            ({"hardware": None}, "hardware"),
            ({"hardware": ["a100"]}, "hardware"),
            ({"link": "string"}, "link"),
            ({"link": {"bandwidth_gb_per_s": 1, "latency_us": 1}}, "link"),
            ({"topology": "star"}, "topology"),
            ({"topology": 3}, "topology"),
            ({"memory_mb": -1}, "memory_mb"),
            ({"memory_mb": "much"}, "memory_mb"),
            ({"dtype": "int8"}, "dtype"),
            ({"data": "imagenet"}, "data"),
            ({"data": {}}, "data"),
        ],
    )
    def test_what_a_client_sends_for_hardware_is_checked(self, changes: dict[str, Any], field: str) -> None:
        with pytest.raises(ExperimentError) as caught:
            form(**changes).experiment(DEFAULT)
        assert {problem.field for problem in caught.value.problems} == {field}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"net": "mlp", "data": "shapes", "dtype": "float64", "steps": 3},
        {"strategy": "model_parallel", "hardware": "h100", "link": "pcie3", "topology": "ports", "memory_mb": 99.0},
        {"strategy": "model_parallel", "link": {"bandwidth_gb_per_s": 2, "latency_us": 9}, "topology": "nodes:3"},
        {"strategy": "data_parallel", "devices": "vgpu:0,vgpu:1,cpu"},
        {"strategy": "ddp", "world_size": 2, "faults": "kill:1:9,nan:0:3", "bucket_cap_mb": 0.5},
        {"strategy": "ddp", "world_size": 2, "devices": [f"vgpu:{i}" for i in range(6)], "placement": "auto"},
    ],
)
def test_the_controls_of_an_experiment_give_it_back(fields: dict[str, Any]) -> None:
    experiment = Experiment(**fields)
    shown = dict(zip(CONTROLS, values(experiment), strict=True))
    assert form(**shown).experiment(experiment) == experiment
