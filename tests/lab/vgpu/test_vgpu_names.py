"""Names of `torch.cuda` on `torch.vgpu`: each is there and right, or refused in words, or listed as without sense."""

from __future__ import annotations

import importlib
import pickle
import re
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lab import vgpu
from lab.errors import DeviceError
from lab.vgpu import refusals

SUBMODULES = (
    "amp", "comm", "gds", "graphs", "green_contexts", "jiterator", "memory", "nccl", "nvtx", "profiler", "random",
    "sparse", "streams", "tunable",
)  # fmt: skip


@pytest.fixture(autouse=True)
def machine() -> Any:
    return vgpu.enable(devices=2, memory=10_000)


def public(module: Any) -> list[str]:
    return sorted(name for name in dir(module) if not name.startswith("_"))


def is_refused(thing: Any) -> bool:
    return isinstance(thing, type) and thing.__module__ == "torch.vgpu" and thing.__doc__ in reasons()


def reasons() -> set[str]:
    return {*refusals.REFUSED.values(), *refusals.SUBMODULES.values()}


# -- the whole list --------------------------------------------------------------------------------------------------


def test_every_name_of_torch_cuda_is_known():
    """A name that a newer PyTorch adds fails here until somebody decides what it shall be."""
    unknown = [name for name in public(torch.cuda) if not hasattr(torch.vgpu, name) and name not in refusals.ABSENT]
    assert not unknown, f"torch.vgpu has no {', '.join(unknown)}, and no reason for it"


def test_what_is_refused_says_why():
    for name, reason in refusals.REFUSED.items():
        with pytest.raises(DeviceError, match=re.escape(f"torch.vgpu.{name} cannot be had: {reason}")):
            getattr(torch.vgpu, name)()


def test_what_makes_no_sense_is_absent_and_says_why():
    for name, reason in refusals.ABSENT.items():
        if name in vars(torch.vgpu):  # what our module imports for itself, as theirs does
            assert getattr(torch.vgpu, name) is getattr(torch.cuda, name)
            continue
        assert not hasattr(torch.vgpu, name)
        with pytest.raises(AttributeError, match=re.escape(reason)):
            getattr(torch.vgpu, name)


@pytest.mark.parametrize("submodule", SUBMODULES)
def test_every_name_of_a_submodule_is_known(submodule: str):
    counterpart = pytest.importorskip(f"torch.cuda.{submodule}")
    found = importlib.import_module(f"torch.vgpu.{submodule}")
    assert getattr(torch.vgpu, submodule) is found
    for name in getattr(counterpart, "__all__", public(counterpart)):
        if isinstance(getattr(counterpart, name), types.ModuleType | bool) or name == "amp_definitely_not_available":
            continue
        if submodule in refusals.SUBMODULES:
            with pytest.raises(DeviceError, match=re.escape(refusals.SUBMODULES[submodule])):
                getattr(found, name)()
        else:
            assert hasattr(found, name) or name in refusals.ABSENT, f"torch.vgpu.{submodule} has no {name}"


def test_what_is_there_is_not_refused():
    assert {name for name in torch.vgpu.__all__ if is_refused(getattr(torch.vgpu, name))} == set()
    assert not set(torch.vgpu.__all__) & {*refusals.REFUSED, *refusals.ABSENT}


def test_a_name_with_a_slip_gets_a_hint():
    with pytest.raises(AttributeError, match="memory_allocated"):
        _ = torch.vgpu.memory_alocated
    assert not hasattr(torch.vgpu, "no_such_thing")


def test_what_is_refused_can_be_asked_for_in_isinstance():
    assert not isinstance(torch.ones(1), torch.vgpu.CUDAGraph)
    assert torch.vgpu.graphs.CUDAGraph is torch.vgpu.CUDAGraph
    with pytest.raises(DeviceError, match="issue_us"):
        torch.vgpu.make_graphed_callables(nn.Linear(1, 1), (torch.ones(1),))


# -- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hardware", "capability", "multiprocessors", "threads"),
    [
        ("t4", (7, 5), 40, 1024),
        ("rtx4090", (8, 9), 128, 1536),
        ("a100", (8, 0), 108, 2048),
        ("h100", (9, 0), 132, 2048),
        ("h200", (9, 0), 132, 2048),
        ("b200", (10, 0), 148, 2048),
    ],
)
def test_hardware_says_its_generation(hardware: str, capability: tuple[int, int], multiprocessors: int, threads: int):
    """NVIDIA's datasheets, and its table of technical specifications per compute capability."""
    vgpu.enable(devices=1, hardware=hardware)
    about = torch.vgpu.get_device_properties("vgpu:0")
    assert torch.vgpu.get_device_capability() == (about.major, about.minor) == capability
    assert about.multi_processor_count == multiprocessors
    assert about.max_threads_per_multi_processor == threads
    assert torch.vgpu.get_arch_list() == [f"sm_{capability[0]}{capability[1]}"]
    assert torch.vgpu.is_tf32_supported() is torch.vgpu.is_bf16_supported(False) is (capability >= (8, 0))
    assert torch.vgpu.is_bf16_supported()
    assert about.total_memory == vgpu.current().profile.capacity_bytes


def test_a_profile_of_ones_own_says_its_generation(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "a100"\ncompute_capability = [12, 0]\nmultiprocessors = 7\n')
    vgpu.enable(devices=1, hardware=path)
    assert torch.vgpu.get_device_capability() == (12, 0)
    assert torch.vgpu.get_device_properties().multi_processor_count == 7
    for wrong in ("compute_capability = 8", "compute_capability = [8, 0.5]", "multiprocessors = 0"):
        path.write_text(f'base = "a100"\n{wrong}\n')
        with pytest.raises(DeviceError, match=wrong.partition(" ")[0]):
            vgpu.enable(devices=1, hardware=path)


# -- memory ----------------------------------------------------------------------------------------------------------


def test_a_share_of_the_memory_is_kept_to_the_byte():
    torch.vgpu.set_per_process_memory_fraction(0.5, 1)
    assert torch.vgpu.get_per_process_memory_fraction(1) == 0.5
    kept = torch.zeros(4999, dtype=torch.uint8, device="vgpu:1")
    one = torch.zeros(1, dtype=torch.uint8, device="vgpu:1")
    with pytest.raises(torch.vgpu.OutOfMemoryError, match=r"5\.0 kB are allowed to this process"):
        torch.zeros(1, dtype=torch.uint8, device="vgpu:1")
    assert torch.vgpu.memory_allocated(1) == kept.nbytes + one.nbytes
    assert torch.vgpu.mem_get_info(1) == (5000, 10_000)
    torch.zeros(9000, dtype=torch.uint8, device="vgpu:0")
    torch.vgpu.set_per_process_memory_fraction(1.0, 1)
    torch.zeros(5000, dtype=torch.uint8, device="vgpu:1")
    for wrong, kind in ((1, TypeError), (1.5, ValueError), (-0.1, ValueError)):
        with pytest.raises(kind, match="fraction"):
            torch.vgpu.set_per_process_memory_fraction(wrong)


def test_figures_of_memory_agree(tmp_path: Path):
    kept = torch.zeros(100, device="vgpu:1")
    assert torch.vgpu.memory_stats_as_nested_dict(1)["allocated_bytes"]["all"]["current"] == kept.nbytes == 400
    (segment,) = torch.vgpu.memory_snapshot()
    assert (segment["device"], segment["allocated_size"], segment["blocks"][0]["size"]) == (1, 400, 400)
    assert torch.vgpu.memory.memory_cached(1) == torch.vgpu.max_memory_cached(1) == 400
    assert torch.vgpu.device_memory_used(1) == 400
    torch.vgpu.memory._record_memory_history(max_entries=10)
    torch.vgpu.memory._dump_snapshot(str(tmp_path / "memory.pickle"))
    assert pickle.loads((tmp_path / "memory.pickle").read_bytes())["segments"] == [segment]


# -- the rest --------------------------------------------------------------------------------------------------------


def test_mixed_precision_by_its_older_names():
    """d(4 w^2)/dw with a scale of 4 is what a product of two halves gives; the step takes the scale away again."""
    weight = torch.ones(2, 2, device="vgpu:0", requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.vgpu.amp.GradScaler(init_scale=4.0)
    with torch.vgpu.amp.autocast():
        product = weight @ weight
    assert product.dtype == torch.float16
    with torch.vgpu.amp.autocast(dtype=torch.bfloat16):
        assert (weight @ weight).dtype == torch.bfloat16
    with torch.vgpu.amp.autocast(enabled=False):
        assert (weight @ weight).dtype == torch.float32
    scaler.scale(product.float().sum()).backward()
    assert weight.grad.tolist() == [[16.0, 16.0], [16.0, 16.0]]
    scaler.step(optimizer)
    scaler.update()
    assert weight.tolist() == [[-3.0, -3.0], [-3.0, -3.0]]


def test_old_programs_import_from_deep_inside():
    assert importlib.import_module("torch.vgpu.amp.grad_scaler").GradScaler is torch.vgpu.amp.GradScaler
    assert importlib.import_module("torch.vgpu.amp.autocast_mode").autocast is torch.vgpu.amp.autocast


def test_a_function_of_ones_own_says_its_dtype():
    class Doubled(torch.autograd.Function):
        @staticmethod
        @torch.vgpu.amp.custom_fwd(cast_inputs=torch.float32)
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        @torch.vgpu.amp.custom_bwd
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * 2

    x = torch.ones(2, device="vgpu:0", dtype=torch.float16, requires_grad=True)
    with torch.vgpu.amp.autocast():
        found = Doubled.apply(x)
    assert found.dtype == torch.float32
    found.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_ranges_nest():
    nvtx = torch.vgpu.nvtx
    assert [nvtx.range_push("a"), nvtx.range_push("b"), nvtx.range_pop(), nvtx.range_pop(), nvtx.range_pop()] == [
        0, 1, 1, 0, -1,
    ]  # fmt: skip
    with nvtx.range("{} of {}", 1, 2):
        assert nvtx.range_push("inside") == 1
        nvtx.range_pop()
    assert nvtx.range_start("x") != nvtx.range_start("y")
    assert nvtx.range_push("again") == 0
    nvtx.range_pop()


@pytest.mark.parametrize(("name", "dtype"), [("FloatTensor", torch.float32), ("LongTensor", torch.int64)])
def test_a_tensors_type_has_a_name(name: str, dtype: torch.dtype):
    kind = getattr(torch.vgpu, name)
    x = torch.ones(2, device="vgpu:1", dtype=dtype)
    assert x.type() == f"torch.vgpu.{name}"
    assert isinstance(x, kind)
    assert not isinstance(x.cpu(), kind)
    assert not isinstance(x, torch.vgpu.HalfTensor)
    for spelled in (kind, x.type()):
        moved = torch.ones(2, dtype=torch.float64).type(spelled)
        assert (moved.dtype, moved.device.type) == (dtype, "vgpu")
    assert kind([1, 2]).tolist() == [1, 2]
    assert kind(2, 3).shape == (2, 3)


def test_questions_before_a_program_starts():
    assert torch.vgpu.is_current_stream_capturing() is False
    assert torch.vgpu.get_sync_debug_mode() == 0
    torch.vgpu.set_sync_debug_mode("default")
    with pytest.raises(DeviceError, match="timeline"):
        torch.vgpu.set_sync_debug_mode("error")
    assert torch.vgpu.nccl.is_available([torch.ones(1)]) is False
    with pytest.raises(DeviceError, match="vgloo"):
        torch.vgpu.nccl.version()
    assert torch.vgpu.comm is torch.nn.parallel.comm
    with torch.vgpu.profiler.profile():
        torch.vgpu.profiler.start()
    with pytest.raises(DeviceError, match="read them into a tensor"):
        torch.vgpu.gds.GdsFile("x", 0)
