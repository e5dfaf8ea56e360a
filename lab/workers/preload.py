"""What the forkserver loads once, so that a worker starts in milliseconds. It imports, and runs no operation: threads
that an operation starts do not survive a fork."""

from __future__ import annotations

import contextlib
import gc
import importlib

from lab import data, nets, strategies
from lab.workers import interrupts

MODULES = (
    "importlib.readers",
    "importlib.resources.readers",
    "platformdirs.unix",
    "torch._dynamo",  # the first operation on the meta device would import it, which takes longer than all the rest
    "torch._meta_registrations",
    "torch.distributed",
    "torch.distributed.algorithms.ddp_comm_hooks.default_hooks",
    "torch.nn.parallel",
    "torch.profiler",
    "torch.profiler._cupti_monitor",
    "torch.utils.flop_counter",
    "torch.utils.serialization.config",
    "lab.training",
    "lab.vgpu.backend",
    "lab.vgpu.distributed",
    "lab.workers.entry",
    *(entry.module for entry in nets.REGISTRY.values()),
    *(entry.module for entry in data.REGISTRY.values()),
    *(entry.module for entry in strategies.REGISTRY.values()),
)

interrupts.ignore()

for name in MODULES:
    with contextlib.suppress(ImportError):  # whoever needs it will say what is missing
        importlib.import_module(name)

with contextlib.suppress(ImportError):
    importlib.import_module("lab._torch_compat").import_torchvision()

# A worker that collects garbage would look at all that was loaded here, and by that copy it.
gc.freeze()
