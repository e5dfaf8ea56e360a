"""`lab.vgpu.enable`: what it takes, and the sentence for what it does not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lab import vgpu
from lab.errors import DeviceError
from lab.vgpu import links, profiles, sizes
from lab.vgpu.links import HOST, LinkModel


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1), (4e9, 4 * 10**9), ("40GB", 40 * 10**9), ("512MB", 512 * 10**6), ("512 mb", 512 * 10**6),
        ("1.5 GiB", 3 * 2**29), (" .5kB ", 500), ("2e3 B", 2000), ("1KiB", 1024), ("7 TB", 7 * 10**12),
    ],
)  # fmt: skip
def test_amounts_of_memory(written: Any, size: int) -> None:
    assert sizes.parse(written) == size
    assert vgpu.enable(1, memory=written).pools[0].capacity == size


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"devices": 0}, "devices=0 is not possible: the lab has 1 to 64 virtual GPUs"),
        ({"devices": 65}, "devices=65 is not possible"),
        ({"devices": -1}, "devices=-1 is not possible"),
        ({"devices": True}, "devices=True is not a whole number: the lab has 1 to 64"),
        ({"devices": "2"}, "devices='2' is not a whole number"),
        ({"devices": 2.0}, "devices=2.0 is not a whole number"),
        ({"devices": None}, "devices=None is not a whole number"),
        ({"memory": 0}, "memory=0 is not possible; a virtual GPU has from 1 byte to 10 TB"),
        ({"memory": -5}, "memory=-5 is not possible"),
        ({"memory": "-1GB"}, "memory='-1GB' is not possible"),
        ({"memory": "11TB"}, "memory='11TB' is not possible"),
        ({"memory": 10**30}, "is not possible"),
        ({"memory": "0.1B"}, "is not possible"),
        ({"memory": math.nan}, "memory=nan is not possible"),
        ({"memory": 1.5}, "memory=1.5 is not a whole number of bytes"),
        ({"memory": True}, "memory=True is not an amount of memory; give bytes as a whole number, or text"),
        ({"memory": "lots"}, "memory='lots' is not an amount of memory"),
        ({"memory": "40"}, "memory='40' has no unit; the units are B, kB, MB, GB"),
        ({"memory": "40 Gbit"}, "has an unknown unit, 'Gbit'"),
        ({"memory": [1]}, "is not an amount of memory"),
        ({"hardware": "a1000"}, r"hardware 'a1000' is not one of classroom, .*\(did you mean 'a100'\?\)"),
        ({"hardware": None}, "hardware None is not one of"),
        ({"hardware": 4}, "hardware 4 is not one of"),
        ({"link": "nvlnk3"}, r"link 'nvlnk3' is not one of pcie3, .*\(did you mean 'nvlink3'\?\)"),
        ({"link": 5}, "link 5 is not a link; give the name of one"),
        ({"link": LinkModel(0.0, 1)}, "has no bandwidth: bytes_per_ns must be above 0"),
        ({"link": LinkModel(math.nan, 1)}, "has no bandwidth"),
        ({"link": LinkModel(1.0, -1)}, "latency_ns must be 0 or more"),
        ({"topology": "buss"}, "did you mean 'bus'"),
        ({"timing": "modeled"}, r"timing 'modeled' is not one of measured and modelled \(did you mean 'modelled'\?\)"),
        ({"timing": 3}, "timing 3 is not one of"),
    ],
)
def test_bad_settings_get_one_clear_sentence_and_change_nothing(arguments: dict[str, Any], said: str) -> None:
    before = vgpu.enable(3)
    with pytest.raises(DeviceError, match=said) as caught:
        vgpu.enable(**arguments)
    assert "\n" not in str(caught.value)
    assert vgpu.current() is before


def test_everything_by_name() -> None:
    machine = vgpu.enable(devices=4, hardware="t4", link="nvlink3", memory="40GB", topology="ports", timing="measured")
    assert (machine.device_count, machine.profile.name, machine.pools[3].capacity) == (4, "t4", 40 * 10**9)
    assert machine.model is None
    route = machine.clock.topology.route
    assert route(0, 1).link == links.get("nvlink3").model
    assert route(HOST, 1).link.bytes_per_ns == 15.75  # the host's stays the profile's
    assert set(route(0, 1).channels) & set(route(0, 2).channels)


def test_a_bus_is_the_hosts_link_unless_one_is_named() -> None:
    assert vgpu.enable(2, "a100", topology="bus").clock.topology.route(0, 1).link.bytes_per_ns == 31.5
    named = vgpu.enable(2, "a100", link="pcie5", topology="bus").clock.topology
    assert named.route(0, 1).link == named.route(HOST, 1).link == links.get("pcie5").model


def test_a_profile_itself_and_a_file() -> None:
    slow = dataclasses.replace(profiles.get("a100"), name="slow", memory_gb=1.0)
    assert vgpu.enable(1, slow).pools[0].capacity == 10**9


def test_enabling_again_with_other_settings(tmp_path: Path) -> None:
    first = vgpu.enable(2, memory="1GB")
    kept, lost = torch.ones(8, device="vgpu:0"), torch.ones(8, device="vgpu:1")
    (tmp_path / "mine.toml").write_text('base = "t4"\nmemory_gb = 3\n', encoding="utf-8")
    second = vgpu.enable(1, tmp_path / "mine.toml")
    assert (second.profile.name, second.pools[0].allocated, second.pools[0].capacity) == ("mine", 0, 3 * 10**9)
    # Earlier tensors work where their device still is, and weigh on the machine that they were made on.
    assert torch.equal((kept + 1).cpu(), torch.full((8,), 2.0))
    assert (first.pools[0].allocated, second.pools[0].allocated) == (32, 0)
    with pytest.raises(DeviceError, match="there is no vgpu:1, this lab has 1 virtual GPU, vgpu:0"):
        lost + 1


def test_real_gpus_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*args: object, **kwargs: object) -> None:
        raise AssertionError("CUDA was initialised")

    monkeypatch.setattr(torch.cuda, "_lazy_init", touched)
    vgpu.enable(2, "a100", topology="ports")
    x = torch.ones(4, device="vgpu:0", requires_grad=True)
    (x.to("vgpu:1") * 2).sum().backward()
    assert x.grad is not None
    assert not torch.cuda.is_initialized()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_gpu_works_beside() -> None:
    before = torch.ones(4, device="cuda:0")
    torch.cuda.manual_seed(1)
    expected = torch.rand(4, device="cuda:0")
    torch.cuda.manual_seed(1)
    vgpu.enable(2)
    assert torch.equal(torch.rand(4, device="cuda:0"), expected)
    assert torch.equal((before + 1).cpu(), torch.ones(4, device="vgpu:1").cpu() + 1)
