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
from widgets.web import form as forms
from widgets.web import text


def test_the_form_of_the_default_is_the_default() -> None:
    assert form().experiment(DEFAULT) == DEFAULT


def test_fields_without_a_control_keep_the_default() -> None:
    default = DEFAULT.replace(optimizer="adam", memory_mb=500.0)
    experiment = form(lr=0.001).experiment(default)
    assert (experiment.optimizer, experiment.memory_mb, experiment.lr) == ("adam", 500.0, 0.001)


def test_the_page_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "t4"\n', encoding="utf-8")
    default = DEFAULT.replace(hardware=str(tmp_path / "mine.toml"))
    with pytest.raises(ExperimentError) as caught:
        form(lr=0).experiment(default)
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

    @pytest.mark.parametrize(("each", "count", "placement"), [("vgpu", 3, None), ("split", 6, "even")])
    def test_ranks_have_virtual_gpus_of_their_own(self, each: str, count: int, placement: str | None) -> None:
        experiment = form(strategy="ddp", ranks=3, each=each, batch_size=63).experiment(DEFAULT)
        assert experiment.devices == tuple(f"vgpu:{index}" for index in range(count))
        assert experiment.placement == placement

    def test_every_trouble_of_the_lab_is_offered_and_goes_to_rank_1(self) -> None:
        assert set(text.TROUBLES) == {"none", *faults.KINDS}
        for kind in faults.KINDS:
            experiment = form(strategy="ddp", trouble=kind).experiment(DEFAULT)
            assert [str(fault) for fault in experiment.faults] == [f"{kind}:1:{forms.TROUBLE_STEP}"]

    def test_other_strategies_ignore_what_only_ranks_need(self) -> None:
        experiment = form(ranks=9, each="x", bucket_mb=None, trouble="x").experiment(DEFAULT)
        assert experiment == DEFAULT

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"ranks": 5}, "world_size"),
            ({"ranks": 10_000}, "world_size"),
            ({"ranks": 0}, "world_size"),
            ({"ranks": "two"}, "world_size"),
            ({"ranks": None}, "world_size"),
            ({"ranks": 3}, "batch_size"),
            ({"ranks": 1, "trouble": "kill"}, "faults"),
            ({"each": ["cpu"]}, "devices"),
            ({"each": "../etc"}, "devices"),
            ({"trouble": "kill:0:0"}, "faults"),
            ({"trouble": {}}, "faults"),
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
        assert [forms.each_of(each) for each in (DEFAULT, Experiment(strategy="ddp"), both)] == ["cpu", "cpu", "split"]
