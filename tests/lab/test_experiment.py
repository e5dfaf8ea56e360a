"""Experiment: round trips over every valid value, and one clear sentence for each thing that is wrong."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from pydantic import ValidationError

from lab import Experiment, ExperimentError, LabError, Link
from lab.experiment import FORMAT_VERSION
from tests.lab.experiments import valid_fields

SPLIT = {"conv1": "vgpu:0", "*": "vgpu:1"}


def problems(**fields: Any) -> dict[str, list[str]]:
    """Field -> messages of an Experiment that must be refused."""
    with pytest.raises(ExperimentError) as caught:
        Experiment(**fields)
    found: dict[str, list[str]] = {}
    for problem in caught.value.problems:
        found.setdefault(problem.field, []).append(problem.message)
    return found


class TestRoundTrips:
    @given(valid_fields())
    def test_json(self, fields: dict[str, Any]) -> None:
        experiment = Experiment(**fields)
        again = Experiment.from_json(experiment.to_json())
        assert again == experiment
        assert hash(again) == hash(experiment)

    @given(valid_fields())
    def test_toml(self, fields: dict[str, Any]) -> None:
        experiment = Experiment(**fields)
        assert Experiment.from_toml(experiment.to_toml()) == experiment

    @given(valid_fields())
    def test_url_query(self, fields: dict[str, Any]) -> None:
        experiment = Experiment(**fields)
        assert Experiment.from_query(experiment.to_query()) == experiment
        assert Experiment.from_query("?" + experiment.to_query()) == experiment

    @given(valid_fields())
    def test_fewest_fields_and_pickle(self, fields: dict[str, Any]) -> None:
        experiment = Experiment(**fields)
        assert Experiment(**experiment.explicit()) == experiment
        assert pickle.loads(pickle.dumps(experiment)) == experiment
        assert copy.deepcopy(experiment) == experiment
        assert experiment.replace() == experiment

    def test_order_of_patterns_is_part_of_the_value(self) -> None:
        one = Experiment(strategy="model_parallel", placement={"a": "vgpu:0", "*": "vgpu:1"})
        other = Experiment(strategy="model_parallel", placement={"*": "vgpu:1", "a": "vgpu:0"})
        assert one != other
        for again in (Experiment.from_toml(one.to_toml()), Experiment.from_query(one.to_query())):
            assert again.placement is not None
            assert list(again.placement) == ["a", "*"]

    def test_query_is_short_and_readable(self) -> None:
        experiment = Experiment(strategy="model_parallel", placement=SPLIT, epochs=1)
        assert experiment.to_query() == (
            f"version={FORMAT_VERSION}&strategy=model_parallel&placement.conv1=vgpu:0&placement.*=vgpu:1&epochs=1"
        )
        assert Experiment().to_query() == f"version={FORMAT_VERSION}"

    def test_code_makes_the_same_value(self) -> None:
        experiment = Experiment(
            strategy="model_parallel", placement=SPLIT, lr=0.1, link=Link(bandwidth_gb_per_s=2, latency_us=3)
        )
        names: dict[str, Any] = {"__name__": "not_main"}
        exec(experiment.to_code(), names)
        assert names["experiment"] == experiment

    def test_file(self, tmp_path: Path) -> None:
        experiment = Experiment(lr=0.5)
        (tmp_path / "e.toml").write_text(experiment.to_toml(), encoding="utf-8")
        (tmp_path / "e.json").write_text(experiment.to_json(), encoding="utf-8")
        assert Experiment.from_file(tmp_path / "e.toml") == experiment
        assert Experiment.from_file(tmp_path / "e.json") == experiment

    def test_another_version_is_refused(self) -> None:
        with pytest.raises(ExperimentError, match="version: 99 is not a format this release reads; it reads version 1"):
            Experiment.from_dict({"version": 99, "net": "net"})

    @pytest.mark.parametrize(
        ("text", "said"),
        [("{", "JSON: cannot be read as JSON"), ("[1]", r"JSON: must be an object of fields, not \[1\]")],
    )
    def test_text_that_is_not_json_of_fields(self, text: str, said: str) -> None:
        with pytest.raises(ExperimentError, match=said):
            Experiment.from_json(text)

    def test_text_that_is_not_toml(self) -> None:
        with pytest.raises(ExperimentError, match="TOML: cannot be read as TOML"):
            Experiment.from_toml("lr = = 1")


class TestDefaults:
    def test_the_courses_first_run(self) -> None:
        first = Experiment()
        assert (first.net, first.data, first.strategy, first.devices) == ("net", "mnist", "single", ("cpu",))
        assert (first.batch_size, first.lr, first.momentum, first.epochs) == (64, 0.01, 0.9, 10)

    def test_fields_left_out_follow_the_others(self) -> None:
        experiment = Experiment(net="gpt", strategy="model_parallel")
        assert (experiment.data, experiment.devices, experiment.placement) == ("sums", ("vgpu:0", "vgpu:1"), "even")

    def test_followers_follow_again_after_replace(self) -> None:
        experiment = Experiment(strategy="model_parallel").replace(net="gpt", strategy="single")
        assert (experiment.data, experiment.devices, experiment.placement) == ("sums", ("cpu",), None)

    def test_texts_that_read_as_numbers_will_do(self) -> None:
        experiment = Experiment(batch_size="32", lr="1e-3", seed=np.int64(7), momentum=0)
        assert (experiment.batch_size, experiment.lr, experiment.seed) == (32, 0.001, 7)

    def test_devices_as_one_text(self) -> None:
        fields: dict[str, Any] = {"strategy": "model_parallel"}
        for devices in ("vgpu:2, cpu", ["vgpu:2", "cpu"], ("vgpu:2", "cpu")):
            assert Experiment(**fields, devices=devices).devices == ("vgpu:2", "cpu")


class TestImmutability:
    def test_fields_and_placement_cannot_be_changed(self) -> None:
        experiment = Experiment(strategy="model_parallel", placement=SPLIT)
        assert isinstance(experiment.placement, dict)
        with pytest.raises(ValidationError):
            experiment.lr = 1.0  # type: ignore[misc]
        for change in (
            lambda p: p.update(fc1="vgpu:0"),
            lambda p: p.__setitem__("fc1", "vgpu:0"),
            lambda p: p.clear(),
            lambda p: p.pop("*"),
        ):
            with pytest.raises(TypeError, match="immutable"):
                change(experiment.placement)
        assert experiment.placement == SPLIT

    def test_the_readers_mapping_is_copied(self) -> None:
        patterns = dict(SPLIT)
        experiment = Experiment(strategy="model_parallel", placement=patterns)
        patterns["fc1"] = "vgpu:0"
        assert experiment.placement == SPLIT

    def test_values_serve_as_keys(self) -> None:
        assert len({Experiment(), Experiment(), Experiment(lr=0.5)}) == 2


class TestProblems:
    def test_all_at_once(self) -> None:
        found = problems(
            net="nett", strategy="model_parallel", devices="vgpu:0,vgpu:99", lr=math.nan, batch_size=0, optimizer="sdg"
        )
        assert found == {
            "net": ["'nett' is not one of net, mlp, resnet18, gpt (did you mean 'net'?)"],
            "devices": ["'vgpu:99' is out of range: the lab has vgpu:0 to vgpu:63"],
            "lr": ["nan is not allowed; give a number above 0 and at most 1000"],
            "batch_size": ["0 is not allowed; give a whole number from 1 to 65536"],
            "optimizer": ["'sdg' is not one of sgd, adam, adamw (did you mean 'sgd'?)"],
        }

    def test_the_text_lists_every_problem_in_one_line_each(self) -> None:
        with pytest.raises(LabError) as caught:
            Experiment(lr=0, epochs=0)
        assert str(caught.value).splitlines() == [
            "2 problems:",
            "  - epochs: 0 is not allowed; give a whole number from 1 to 10000",
            "  - lr: 0 is not allowed; give a number above 0 and at most 1000",
        ]

    def test_it_pickles(self) -> None:
        with pytest.raises(ExperimentError) as caught:
            Experiment(lr=0)
        assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems

    @pytest.mark.parametrize("lr", [math.nan, math.inf, "nan", "fast", 0, -1, 1e9, True, None, [1]])
    def test_learning_rate(self, lr: Any) -> None:
        (message,) = problems(lr=lr)["lr"]
        assert message.endswith("is not allowed; give a number above 0 and at most 1000")

    @pytest.mark.parametrize("value", [0, -5, 64.5, "", "many", True, math.nan, 10**30])
    def test_batch_size(self, value: Any) -> None:
        assert list(problems(batch_size=value)) == ["batch_size"]

    def test_batch_larger_than_the_data(self) -> None:
        assert problems(batch_size=60_001) == {
            "batch_size": ["60001 is more than the 60000 training samples of 'mnist'"]
        }
        assert Experiment(batch_size=60_000).batch_size == 60_000

    def test_microbatches_that_do_not_divide(self) -> None:
        assert problems(strategy="model_parallel", microbatches=24) == {
            "microbatches": ["24 does not divide batch_size 64; the nearest that does is 16"]
        }

    def test_microbatches_need_several_devices(self) -> None:
        assert "no use with 'single'" in problems(microbatches=2)["microbatches"][0]

    @pytest.mark.parametrize(
        ("fields", "field", "said"),
        [
            (
                {"strategy": "single", "compression": "fp16"},
                "compression",
                "'fp16' has no use with 'single', which has no",
            ),
            (
                {"strategy": "data_parallel", "static_graph": True},
                "static_graph",
                "True has no use with 'data_parallel'",
            ),
            (
                {"strategy": "ddp", "static_graph": True, "find_unused_parameters": True},
                "find_unused_parameters",
                "finds unused parameters in the first step",
            ),
            ({"strategy": "ddp", "static_graph": True, "microbatches": 4}, "static_graph", "4 microbatches"),
            ({"strategy": "ddp", "compression": "fp16", "dtype": "bfloat16"}, "compression", "saves nothing"),
        ],
    )
    def test_options_of_ddp_that_do_not_go_together(self, fields: dict[str, Any], field: str, said: str) -> None:
        with pytest.raises(ExperimentError) as caught:
            Experiment(**fields)
        [problem] = caught.value.problems
        assert problem.field == field
        assert said in problem.message

    def test_a_static_graph_may_have_stages(self) -> None:
        devices = ["vgpu:0", "vgpu:1", "vgpu:2", "vgpu:3"]
        experiment = Experiment(
            strategy="ddp", devices=devices, world_size=2, placement="even", static_graph=True, microbatches=4
        )
        assert experiment.microbatches == 4

    def test_data_parallel_has_nothing_to_place_and_no_stages(self) -> None:
        assert problems(strategy="data_parallel", placement={"*": "vgpu:0"}, microbatches=2) == {
            "placement": [
                "'data_parallel' puts the whole net on every device; leave placement out, "
                "or choose strategy 'model_parallel' or 'ddp'"
            ],
            "microbatches": ["2 have no use with 'data_parallel': it has no stages to overlap; use 1"],
        }
        experiment = Experiment(strategy="data_parallel")
        assert (experiment.devices, experiment.placement) == (("vgpu:0", "vgpu:1"), None)

    def test_an_unknown_field_names_the_nearest(self) -> None:
        assert problems(batchsize=3) == {"batchsize": ["is not a field of an Experiment (did you mean 'batch_size'?)"]}
        assert problems(link={"bandwidth": 1, "latency_us": 2})["link.bandwidth"] == [
            "is not a field of a link (did you mean 'bandwidth_gb_per_s'?)"
        ]

    def test_names_that_python_gives_a_meaning(self) -> None:
        assert problems(**{"self": 1, "placement.conv1": 2}).keys() == {"self", "placement.conv1"}

    def test_an_unknown_key_in_toml(self) -> None:
        with pytest.raises(ExperimentError, match=r"momentun: is not a field .*did you mean 'momentum'"):
            Experiment.from_toml("momentun = 0.9")

    def test_part_of_a_link_is_missing(self) -> None:
        assert problems(link={"bandwidth_gb_per_s": 1}) == {
            "link.latency_us": ["is missing; give a number from 0 to 10000000"]
        }

    def test_a_link_is_a_name_or_figures(self) -> None:
        (message,) = problems(link="nvlnk3")["link"]
        assert message.startswith("'nvlnk3' is not one of pcie3, pcie4")
        assert message.endswith("(did you mean 'nvlink3'?)")
        for value in (5, [1], True):
            (message,) = problems(link=value)["link"]
            assert message.startswith(f"{value!r} is not allowed; give one of pcie3, ")
            assert message.endswith(", or bandwidth_gb_per_s and latency_us")

    def test_a_topology_by_name(self) -> None:
        assert problems(topology="port") == {
            "topology": ["'port' is not one of pairs, ports, bus, nodes:N and nodes:N:LINK (did you mean 'ports'?)"]
        }
        assert "write nodes:4" in problems(topology="nodes:x")["topology"][0]
        assert "give pairs, ports, bus" in problems(topology=4)["topology"][0]

    def test_hardware_by_name_or_path(self) -> None:
        (message,) = problems(hardware="a10")["hardware"]
        assert "or the path of a .toml file (did you mean 'a100'?)" in message
        assert Experiment(hardware="is-not-read-here.toml").hardware == "is-not-read-here.toml"

    @pytest.mark.parametrize("placement", [5, ["conv1"], {"conv1": 0}, {0: "vgpu:0"}, {"a": 1, "b": 2}])
    def test_one_problem_for_a_placement_of_the_wrong_kind(self, placement: Any) -> None:
        (message,) = problems(strategy="model_parallel", placement=placement)["placement"]
        assert "give 'even', 'auto', or a mapping from layer pattern to device" in message

    def test_a_placement_word_names_the_nearest(self) -> None:
        assert "(did you mean 'even'?)" in problems(strategy="model_parallel", placement="evn")["placement"][0]

    def test_a_placement_on_other_devices(self) -> None:
        assert problems(strategy="model_parallel", placement={"conv1": "vgpu:5", "*": "vgpu:0"}) == {
            "placement": [
                "'conv1' goes to 'vgpu:5', which is not among devices: vgpu:0 and vgpu:1 (did you mean 'vgpu:1'?)"
            ]
        }

    def test_an_empty_placement(self) -> None:
        assert "is empty" in problems(strategy="model_parallel", placement={})["placement"][0]
        assert "empty layer pattern" in problems(strategy="model_parallel", placement={"": "vgpu:0"})["placement"][0]

    def test_a_placement_for_one_device(self) -> None:
        assert "choose strategy 'model_parallel'" in problems(placement={"*": "cpu"})["placement"][0]

    def test_a_device_named_twice_and_one_that_is_none(self) -> None:
        assert problems(strategy="model_parallel", devices="vgpu:0,vgpu:0,gpu:1,gpu:1") == {
            "devices": [
                "'vgpu:0' is named 2 times; name each device once",
                "'gpu:1' is not a device name; write cpu, cuda:0 or vgpu:0",
            ]
        }

    def test_several_devices_for_one(self) -> None:
        assert "runs on one device, but 2 are named" in problems(devices="vgpu:0,vgpu:1")["devices"][0]

    def test_what_follows_from_something_unknown_is_no_problem_of_its_own(self) -> None:
        assert problems(strategy="modell_parallel", net="nett", batch_size=65_000, clock="virtual", lr=0).keys() == {
            "strategy",
            "net",
            "lr",
        }
        assert problems(strategy=5, clock="virtual").keys() == {"strategy"}

    def test_a_net_and_data_that_do_not_suit(self) -> None:
        assert problems(net="gpt", data="mnist") == {
            "data": ["net 'gpt' reads tokens, but 'mnist' holds images; try 'sums'"]
        }
        assert "images of 1×28×28" in problems(net="net", data="shapes")["data"][0]

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"clock": "virtual"}, "needs a virtual GPU"),
            ({"clock": "cuda"}, "needs CUDA devices only"),
            ({"clock": "virtual", "strategy": "model_parallel", "devices": "vgpu:0,cuda:0"}, "cannot time a real GPU"),
        ],
    )
    def test_a_clock_that_cannot_time_the_devices(self, fields: dict[str, Any], said: str) -> None:
        (message,) = problems(**fields)["clock"]
        assert said in message

    def test_a_long_value_is_cut(self) -> None:
        assert len(problems(net="x" * 10_000)["net"][0]) < 200

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [("none.toml", None, "cannot read"), ("bad.json", "[]", "must be an object"), ("bad.toml", "=", "as TOML")],
    )
    def test_files(self, tmp_path: Path, name: str, text: str | None, said: str) -> None:
        if text is not None:
            (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(ExperimentError, match=said) as caught:
            Experiment.from_file(tmp_path / name)
        assert name in str(caught.value)

    def test_a_file_that_is_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "e.toml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ExperimentError, match="not UTF-8 text"):
            Experiment.from_file(tmp_path / "e.toml")


def test_the_dict_is_plain_json() -> None:
    experiment = Experiment(strategy="model_parallel", placement=SPLIT)
    assert json.loads(experiment.to_json()) == experiment.to_dict()
