"""Checks on this machine: devices that are here, placements that fit the net, everything reported together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from lab import Experiment, ExperimentError, devices, nets, readiness
from lab.readiness import check, machine_problems
from tests.lab import odd_nets

SPLIT = {"strategy": "model_parallel"}


class TwoParts(nn.Module):
    """A module of the user's, with a container, so that the paths are `body.0`, `body.2` and `head`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(784, 8))
        self.head = nn.Linear(8, 10)


def refused(fields: dict[str, Any], net: Any = None) -> list[str]:
    with pytest.raises(ExperimentError) as caught:
        check(fields, net)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


class TestDevices:
    def test_the_cpu_is_here_with_its_name_and_memory(self) -> None:
        cpu = devices.available()[0]
        assert (cpu.name, cpu.simulated) == ("cpu", False)
        assert cpu.memory_bytes == psutil.virtual_memory().total
        assert cpu.title

    def test_names_agree(self) -> None:
        assert devices.names() == tuple(device.name for device in devices.available())
        assert len(devices.names()) == 1 + torch.cuda.device_count()

    def test_a_gpu_that_is_not_here(self, one_gpu: None) -> None:
        found = refused({**SPLIT, "devices": "cuda:0,cuda:1,vgpu:0"})
        assert found == ["devices: 'cuda:1' is not on this machine, which has cpu, cuda:0 and vgpu:0 to vgpu:63"]

    def test_gpus_that_are_here(self, one_gpu: None) -> None:
        assert check({"devices": "cuda:0"}).devices == ("cuda:0",)


class TestRanks:
    """How many ranks this machine holds: by its memory, which is set here."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=4e9, available=1.25e9))
        monkeypatch.setattr(devices, "cores", lambda: 2)

    def test_more_than_the_memory_holds(self) -> None:
        capacity = (
            "its 1.2 GB of free memory hold 12 of about 0.1 GB, and it has 2 cores, on which more than 2 take turns"
        )
        assert refused({"strategy": "ddp", "world_size": 10_000, "batch_size": 10_000}) == [
            f"world_size: 10000 ranks, each a process, are too many for this machine: {capacity}"
        ]
        assert refused({"strategy": "ddp", "world_size": 13, "batch_size": 13})
        assert check({"strategy": "ddp", "world_size": 12, "batch_size": 12}).world_size == 12

    @pytest.mark.parametrize("world_size", [0, -1, "many", 2.5])
    def test_no_number_of_ranks_is_answered_with_how_many_there_could_be(self, world_size: Any) -> None:
        (found,) = refused({"strategy": "ddp", "world_size": world_size})
        assert found.startswith(f"world_size: {world_size!r} is not allowed; give a whole number from 1 to")
        assert "hold 12 of about 0.1 GB" in found

    def test_one_rank_may_always_try(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=4e9, available=1e6))
        assert check({}).world_size == 1

    def test_a_batch_that_cannot_be_shared_out(self) -> None:
        assert refused({"strategy": "ddp", "world_size": 3}) == [
            "batch_size: 64 is not a multiple of the 3 ranks that share it; the nearest is 63"
        ]

    def test_nccl_without_cuda(self) -> None:
        (found,) = refused({"strategy": "ddp", "backend": "nccl"})
        assert "'nccl' needs CUDA devices, but devices are cpu" in found

    def test_more_ranks_than_gpus_with_nccl(self, one_gpu: None) -> None:
        assert refused({"strategy": "ddp", "backend": "nccl", "devices": "cuda:0", "world_size": 2}) == [
            "backend: 'nccl' needs a GPU for each rank: 2 ranks, but devices are cuda:0; use 'gloo'"
        ]

    @pytest.mark.parametrize(
        ("fault", "says"),
        [
            ("kill:2:1", "'kill:2:1' names rank 2, but ranks are 0 to 1"),
            ("kil:1:1", "'kil' is no kind of fault (did you mean 'kill'?)"),
            ("kill:x", "'kill:x' cannot be read; write kind:rank:step"),
            ("kill:1:2:3:4", "'kill:1:2:3:4' cannot be read; write kind:rank:step"),
            ("kill:-1", "'kill:-1' cannot be read"),
            ("straggle:1:0:nan", "'straggle:1:0:nan' cannot be read"),
        ],
    )
    def test_faults_that_cannot_be(self, fault: str, says: str) -> None:
        (found,) = refused({"strategy": "ddp", "faults": fault})
        assert found.startswith(f"faults: {says}")

    def test_faults_need_ranks(self) -> None:
        assert refused({"faults": "kill:0:1"}) == [
            "faults: 'kill:0:1' needs ranks, and 'single' has none; choose 'ddp'"
        ]


class TestHardware:
    def test_the_path_of_a_profile_becomes_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mine.toml").write_text('base = "t4"\n', encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        assert check({"hardware": "mine.toml"}).hardware == str(tmp_path / "mine.toml")

    @pytest.mark.parametrize("name", ["none.toml", "a\0b.toml", "~nobody-here/x.toml"])
    def test_a_profile_that_cannot_be_read(self, name: str) -> None:
        (found,) = refused({"hardware": name})
        assert found.startswith("hardware: ")
        assert "cannot read the profile" in found

    def test_a_profile_that_is_wrong(self, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text('base = "t4"\nmemory_gb = -3\n', encoding="utf-8")
        assert refused({"hardware": str(tmp_path / "mine.toml"), "lr": 0}) == [
            "lr: 0 is not allowed; give a number above 0 and at most 1000",
            "hardware: mine.toml: memory_gb is -3, but must be above 0",
        ]


class TestPlacement:
    @pytest.mark.parametrize("net", nets.NAMES)
    def test_every_layer_of_every_net_can_be_placed(self, net: str) -> None:
        experiment = check({**SPLIT, "net": net, "placement": {"*": "vgpu:0"}})
        assert experiment.placement == {"*": "vgpu:0"}

    def test_an_unknown_layer_names_the_layers_and_the_nearest(self) -> None:
        assert refused({**SPLIT, "placement": {"conv3": "vgpu:0", "*": "vgpu:1"}}) == [
            "placement: 'conv3' matches no layer (did you mean 'conv2'?); the layers are conv1, conv2, fc1 and fc2"
        ]

    def test_layers_without_a_device_are_named(self) -> None:
        (found,) = refused({**SPLIT, "placement": {"conv*": "vgpu:0"}})
        assert "gives no device to fc1 and fc2" in found

    def test_a_prefix_names_what_is_in_it(self) -> None:
        assert check({**SPLIT, "net": "resnet18", "placement": {"layer1": "vgpu:1", "*": "vgpu:0"}})

    @pytest.mark.parametrize("placement", ["even", "auto", None])
    def test_automatic_placement_needs_no_layers(self, placement: str | None) -> None:
        assert machine_problems({"net": "net", "data": "mnist", "devices": ("vgpu:0",), "placement": placement}) == []


class TestOwnNets:
    @pytest.mark.parametrize("net", [TwoParts, TwoParts(), lambda: TwoParts()], ids=["class", "module", "function"])
    def test_a_module_a_class_or_a_function(self, net: Any) -> None:
        fields = {**SPLIT, "placement": {"body": "vgpu:0", "head": "vgpu:1"}}
        assert check(fields, net).net == readiness.own_name(net)
        (found,) = refused({**SPLIT, "placement": {"head": "vgpu:1"}}, net)
        assert "gives no device to" in found
        assert "body.2" in found

    def test_a_class_is_looked_at_without_memory_for_its_parameters(self) -> None:
        devices_seen = []

        def make() -> nn.Module:
            module = TwoParts()
            devices_seen.append(module.head.weight.device.type)
            return module

        check({**SPLIT, "placement": {"*": "vgpu:0"}}, make)
        assert devices_seen == ["meta"]

    def test_a_function_that_cannot_run_on_meta_is_called_plainly_and_leaves_the_random_state_alone(self) -> None:
        sums = []

        def make() -> nn.Module:
            module = TwoParts()
            sums.append(float(module.head.weight.sum()))  # meta tensors have no values
            return module

        before = torch.get_rng_state()
        assert check({**SPLIT, "placement": {"*": "vgpu:0"}}, make)
        assert len(sums) == 1
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_function_that_fails(self) -> None:
        def broken() -> nn.Module:
            raise OSError("no such file")

        assert refused({}, broken) == [
            "net: 'own:broken' cannot be made: OSError: no such file. "
            "Give a module, or a class or function without arguments"
        ]

    @pytest.mark.parametrize("net", [5, "net", lambda: 3])
    def test_something_that_is_no_module(self, net: Any) -> None:
        (found,) = refused({}, net)
        assert "nn.Module" in found

    def test_a_net_without_parts(self) -> None:
        assert refused({**SPLIT, "placement": {"*": "vgpu:0"}}, nn.ReLU()) == [
            "placement: finds no layers: the net has no submodules to place"
        ]

    def test_the_module_itself_is_missing(self) -> None:
        (found,) = refused({"net": "own:Mine"})
        assert "pass it along" in found


class TestCheck:
    def test_values_and_machine_together(self) -> None:
        found = refused(
            {**SPLIT, "devices": "vgpu:0,cuda:77", "placement": {"conv3": "vgpu:0", "*": "vgpu:9"}, "lr": "nan"}
        )
        assert [line.split(":")[0] for line in found] == ["lr", "placement", "devices", "placement"]
        assert "cuda:77" in found[2]
        assert "conv3" in found[3]

    def test_data_that_does_not_suit_is_reported_once_and_layers_still_are(self) -> None:
        found = refused({**SPLIT, "data": "sums", "placement": {"conv3": "vgpu:0", "*": "vgpu:0"}})
        assert [line.split(":")[0] for line in found] == ["data", "placement"]

    def test_a_good_one(self) -> None:
        fields = {"version": 1, "batch_size": "32", "lr": "0.1"}
        assert check(fields) == Experiment(batch_size=32, lr=0.1)
        assert fields["version"] == 1


def test_a_parameter_of_the_net_itself_is_refused_where_layers_are_placed() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(784, 10)
            self.scale = nn.Parameter(torch.ones(10))

    with pytest.raises(ExperimentError, match="scale belongs to no layer"):
        readiness.check({"strategy": "model_parallel", "placement": {"*": "vgpu:0"}}, Loose)
    assert readiness.check({"strategy": "single"}, Loose).net == "own:Loose"


class TestWhatBelongsToTheNetItself:
    @pytest.mark.parametrize(
        "fields",
        [
            {"devices": "vgpu:0"},
            {**SPLIT, "devices": "vgpu:0"},
            {"strategy": "ddp", "devices": "vgpu:0,vgpu:1"},
            {"strategy": "data_parallel"},
        ],
    )
    def test_it_is_on_the_one_device_of_a_copy(self, fields: dict[str, Any]) -> None:
        assert check(fields, odd_nets.ItsOwn)

    @pytest.mark.parametrize(
        "fields", [SPLIT, {"strategy": "ddp", "devices": "vgpu:0,vgpu:1,vgpu:2,vgpu:3", "world_size": 2}]
    )
    def test_it_cannot_be_placed_on_several(self, fields: dict[str, Any]) -> None:
        (found,) = refused({**fields, "placement": "even"}, odd_nets.ItsOwn)
        assert "token and positions belong to no layer" in found
