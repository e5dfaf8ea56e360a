"""`torch.vgpu`, the device module, held against what `torch.cuda` does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from lab import vgpu
from lab.errors import DeviceError
from lab.vgpu.machine import Machine


@pytest.fixture(autouse=True)
def machine() -> Iterator[Machine]:
    made = vgpu.enable(devices=3, memory=10_000)
    yield made
    torch.vgpu.set_device(0)


# -- the current device -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [1, "vgpu:1", "given"])
def test_a_device_is_given_as_in_torch_cuda(place: int | str):
    chosen = torch.device("vgpu", 1) if place == "given" else place
    torch.vgpu.set_device(chosen)
    assert torch.vgpu.current_device() == 1
    with torch.vgpu.device(chosen):
        assert torch.vgpu.current_device() == 1
    assert torch.vgpu.memory_allocated(chosen) == torch.vgpu.memory_allocated(torch.vgpu.device(chosen)) == 0
    torch.vgpu.set_device(-1)
    torch.vgpu.set_device("vgpu")
    assert torch.vgpu.current_device() == 1


def test_contexts_nest_and_restore():
    x = torch.zeros(2, device="vgpu:2")
    with torch.vgpu.device(1):
        with torch.vgpu.device_of(x):
            assert torch.vgpu.current_device() == 2
        with torch.vgpu.device_of(torch.zeros(2)), torch.vgpu.device(None), torch.vgpu.device(-1):
            assert torch.vgpu.current_device() == 1
        with pytest.raises(ZeroDivisionError), torch.vgpu.device("vgpu:2"):
            _ = 1 / 0
        assert torch.vgpu.current_device() == 1
    assert torch.vgpu.current_device() == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(3, device="vgpu"),
        lambda: torch.empty(3, device=torch.device("vgpu")),
        lambda: torch.rand(3, device="vgpu"),
        lambda: torch.arange(3, device="vgpu"),
        lambda: torch.tensor([1.0], device="vgpu"),
        lambda: torch.as_tensor([1.0], device="vgpu"),
        lambda: torch.as_tensor(torch.ones(2), device="vgpu"),
        lambda: torch.asarray([1.0], device="vgpu"),
        lambda: torch.zeros(3).to("vgpu"),
        lambda: torch.zeros(3).to(torch.device("vgpu")),
        lambda: torch.zeros(3).to(device="vgpu", dtype=torch.float64),
        lambda: torch.zeros(3).vgpu(),
        lambda: torch.zeros(3, device="vgpu:2").to("vgpu"),
        lambda: torch.zeros(3, device="vgpu:2").new_tensor([1.0], device="vgpu"),
        lambda: torch.zeros(3, device="vgpu:0").new_zeros(3, device="vgpu"),
        lambda: torch.nn.Linear(2, 2).to("vgpu").weight,
        lambda: torch.nn.Linear(2, 2).vgpu().weight,
        lambda: torch.nn.Linear(2, 2, device="vgpu").weight,
    ],
)
def test_a_device_without_an_index_is_the_current_one(make):
    with torch.vgpu.device(1):
        assert make().device == torch.device("vgpu:1")
    assert make().device == torch.device("vgpu:0")


@pytest.mark.parametrize("name", ["vgpu:2", "vgpu"])
def test_the_default_device(name: str):
    with torch.vgpu.device(1):
        expected = torch.device(name if ":" in name else "vgpu:1")
        with torch.device(name):
            assert torch.zeros(2).device == torch.tensor([1.0]).device == torch.ones(2).device == expected
        torch.set_default_device(name)
        try:
            assert torch.zeros(2).device == torch.tensor([1.0]).device == expected
            assert torch.tensor([1.0], device="cpu").device.type == "cpu"
        finally:
            torch.set_default_device(None)
        assert torch.tensor([1.0]).device.type == "cpu"


def test_indexed_devices_are_left_alone():
    with torch.vgpu.device(1):
        assert torch.tensor([1.0], device="vgpu:0").device == torch.zeros(1).to("vgpu:0").device
        assert torch.tensor([1.0], device="vgpu:0").get_device() == 0
        assert torch.zeros(2).to("cpu").device.type == "cpu"
        assert torch.zeros(2).to(torch.float64).dtype == torch.float64
        assert torch.zeros(2).vgpu(2).get_device() == torch.nn.Linear(2, 2).vgpu(2).weight.get_device() == 2
        assert torch.zeros(2).vgpu().is_vgpu
        assert not torch.zeros(2).is_vgpu


def test_each_thread_has_its_own_current_device():
    torch.vgpu.set_device(2)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.vgpu.current_device()))
    thread.start()
    thread.join()
    assert seen == [0]
    assert torch.vgpu.current_device() == 2


def test_a_new_machine_begins_with_its_first_device():
    torch.vgpu.set_device(2)
    vgpu.enable(devices=1)
    assert torch.zeros(1, device="vgpu").get_device() == 0


@pytest.mark.parametrize(
    "use",
    [
        lambda: torch.vgpu.set_device(7),
        lambda: torch.vgpu.device(7),
        lambda: torch.vgpu.device("vgpu:7"),
        lambda: torch.vgpu.memory_allocated(7),
        lambda: torch.vgpu.memory_stats(-1),
        lambda: torch.vgpu.synchronize("vgpu:7"),
        lambda: torch.vgpu.get_device_properties(7),
        lambda: torch.vgpu.Stream(7),
        lambda: torch.vgpu.current_stream(7),
        lambda: torch.vgpu.get_rng_state(7),
    ],
)
def test_devices_that_are_not_there(use):
    with pytest.raises(DeviceError, match="invalid device ordinal"):
        use()


@pytest.mark.parametrize("use", [torch.device, lambda name: name])
def test_devices_of_another_type(use):
    with pytest.raises(ValueError, match="Expected a vgpu device, but got: cpu"):
        torch.vgpu.synchronize(use("cpu"))


# -- what there is to know ----------------------------------------------------------------------------------------


def test_properties(machine: Machine):
    about = torch.vgpu.get_device_properties("vgpu:1")
    assert about.total_memory == 10_000
    assert about.name == torch.vgpu.get_device_name() == machine.profile.title
    assert torch.vgpu.is_available()
    assert torch.vgpu.is_initialized()
    assert torch.vgpu.device_count() == 3
    assert torch.vgpu.can_device_access_peer(0, 1)
    assert not torch.vgpu.can_device_access_peer(1, 1)
    assert torch.vgpu.is_bf16_supported()
    torch.vgpu.init()
    torch.vgpu.empty_cache()
    torch.vgpu.ipc_collect()


def test_it_is_a_module_like_others():
    import importlib

    assert importlib.import_module("torch.vgpu") is torch.vgpu is torch.get_device_module("vgpu")
    assert all(hasattr(torch.vgpu, name) for name in torch.vgpu.__all__)
    # What unmodified programs use most of torch.cuda, apart from what only real hardware has.
    here = set(torch.vgpu.__all__)
    assert {"Event", "Stream", "device", "manual_seed_all", "max_memory_allocated", "mem_get_info"} <= here
    assert here <= {*dir(torch.cuda), "comm", "get_amp_supported_dtype"}


def test_figures_of_memory():
    x = torch.zeros(100, device="vgpu:1")  # 400 bytes
    y = torch.zeros(50, device="vgpu:1")
    del y
    with pytest.raises(torch.OutOfMemoryError):
        torch.zeros(10_000, device="vgpu:1")
    with pytest.raises(torch.OutOfMemoryError):
        x.repeat(100)
    stats = torch.vgpu.memory_stats(1)
    names = ("current", "peak", "allocated", "freed")
    for kind in ("allocated_bytes", "reserved_bytes", "active_bytes"):
        assert [stats[f"{kind}.all.{name}"] for name in names] == [400, 600, 600, 200]
    assert stats["num_ooms"] == 2
    assert torch.vgpu.mem_get_info(1) == (9_600, 10_000)
    with torch.vgpu.device(1):
        assert (torch.vgpu.memory_allocated(), torch.vgpu.max_memory_allocated()) == (400, 600)
        assert (torch.vgpu.memory_reserved(), torch.vgpu.max_memory_reserved()) == (400, 600)
        torch.vgpu.reset_peak_memory_stats()
        assert torch.vgpu.max_memory_allocated() == 400
        torch.vgpu.reset_accumulated_memory_stats()
        stats = torch.vgpu.memory_stats()
        assert [stats[f"allocated_bytes.all.{name}"] for name in names] == [400, 400, 0, 0]
        assert stats["num_ooms"] == 0
    del x
    assert torch.vgpu.memory_stats(1)["allocated_bytes.all.freed"] == 400
    assert torch.vgpu.memory_stats(0)["allocated_bytes.all.allocated"] == 0
    assert "Peak" in torch.vgpu.memory_summary(1)
    assert "vgpu:1" in torch.vgpu.memory_summary(1)


# -- random numbers -----------------------------------------------------------------------------------------------


def test_random_numbers_are_the_cpus():
    torch.manual_seed(3)
    plain = torch.rand(4)
    for seed in (torch.manual_seed, torch.vgpu.manual_seed, torch.vgpu.manual_seed_all):
        seed(3)
        assert torch.equal(torch.rand(4, device="vgpu:1").cpu(), plain)
    assert torch.vgpu.initial_seed() == 3
    torch.vgpu.seed()
    torch.vgpu.seed_all()
    assert torch.vgpu.initial_seed() != 3


def test_states_of_the_generator():
    one, every = torch.vgpu.get_rng_state("vgpu:2"), torch.vgpu.get_rng_state_all()
    assert len(every) == 3
    first = torch.rand(4, device="vgpu:2").cpu()
    torch.vgpu.set_rng_state(one, 2)
    assert torch.equal(torch.rand(4, device="vgpu:2").cpu(), first)
    torch.vgpu.set_rng_state_all(every)
    assert torch.equal(torch.rand(4, device="vgpu:2").cpu(), first)
    with torch.random.fork_rng([1], device_type="vgpu"):
        inside = torch.rand(4, device="vgpu:1").cpu()
    assert torch.equal(torch.rand(4, device="vgpu:1").cpu(), inside)


# -- torch.accelerator --------------------------------------------------------------------------------------------


def test_the_generic_api_is_that_of_virtual_gpus(machine: Machine):
    here = torch.accelerator
    assert (str(here.current_accelerator()), here.is_available(), here.device_count()) == ("vgpu", True, 3)
    here.set_device_index("vgpu:1")
    assert here.current_device_index() == torch.vgpu.current_device() == 1
    with here.device_index(2):
        x = torch.zeros(100, device=here.current_accelerator())
        assert (x.get_device(), here.memory_allocated()) == (2, 400)
        assert here.current_device_index() == 2
        with here.device_index(None):
            assert here.current_device_index() == 2
    assert here.current_device_index() == 1
    assert here.max_memory_allocated(2) == here.memory_stats("vgpu:2")["allocated_bytes.all.peak"] == 400
    assert here.memory_reserved() == here.max_memory_reserved() == 0
    here.reset_peak_memory_stats()
    here.reset_accumulated_memory_stats()
    here.empty_cache()
    if hasattr(here, "get_memory_info"):
        assert here.get_memory_info() == (10_000, 10_000)
    side = torch.vgpu.Stream(2)
    here.set_stream(side)
    assert here.current_stream() == here.current_stream("vgpu:2") == side
    assert here.current_device_index() == 2
    x.fill_(1)
    here.synchronize()
    assert machine.clock.host_ns == machine.clock.now_ns > 0
