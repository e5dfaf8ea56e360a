"""Names imported from PyTorch above `enable()`, in a program of its own: they do what they do when asked for later."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import types

import torch
from torch import Generator, as_tensor, asarray, clear_autocast_cache, get_rng_state, manual_seed, set_rng_state, tensor
from torch.accelerator import current_device_index, current_stream, device_index, memory_allocated, memory_stats
from torch.accelerator import max_memory_allocated, reset_peak_memory_stats, set_device_index, synchronize
from torch.accelerator.memory import memory_reserved
from torch.nn import Linear, Parameter
from torch.nn.functional import scaled_dot_product_attention
from torch.utils import swap_tensors
from torch.utils.data import DataLoader, TensorDataset

mine = sys.modules["mine"] = types.ModuleType("mine")
exec("from torch import Generator as Numbers, tensor", vars(mine))

from lab import vgpu

vgpu.enable(devices=2)

generator = Generator("vgpu:1").manual_seed(3)
print("generator", generator.device, torch.rand(1, generator=generator, device="vgpu:1").device)
print("isinstance", isinstance(generator, Generator), mine.Numbers("vgpu:1").device)

set_device_index(1)
x = torch.ones(10, device="vgpu")
synchronize()
print("accelerator", current_device_index(), x.device, memory_allocated(), max_memory_allocated(1), memory_reserved(1))
with device_index(0):
    print("inside", torch.vgpu.current_device(), current_stream().device)
print("outside", torch.vgpu.current_device(), memory_stats(1)["allocated_bytes.all.current"])
del x
reset_peak_memory_stats()
print("peak", max_memory_allocated())

print("tensors", *(make([1.0], device="vgpu").device for make in (tensor, as_tensor, asarray, mine.tensor)))

manual_seed(1)
state = get_rng_state()
drawn = torch.rand(2, device="vgpu:1")
set_rng_state(state)
print("states", torch.equal(drawn, torch.rand(2, device="vgpu:1")), clear_autocast_cache is torch.clear_autocast_cache)

weight = Parameter(torch.ones(2))
weight.data = weight.data.to("vgpu:1")
layer = Linear(2, 2)
before = layer.weight
query = torch.ones(1, 1, 2, 2, device="vgpu:1")
print("moved", weight.device, layer.to("vgpu:1").weight is before, swap_tensors is torch.utils.swap_tensors)
print("attention", scaled_dot_product_attention(query, query, query).device)
loader = DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)
print("loader", sum(rows.to("vgpu:0").sum().item() for rows, in loader))
"""

EXPECTED = """
generator vgpu:1 vgpu:1
isinstance True vgpu:1
accelerator 1 vgpu:1 40 40 40
inside 0 vgpu:0
outside 1 40
peak 0
tensors vgpu:1 vgpu:1 vgpu:1 vgpu:1
states True True
moved vgpu:1 True True
attention vgpu:1
loader 8.0
"""


def test_names_that_were_imported_early_work():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == EXPECTED.strip().splitlines()
