"""What the forkserver loads once, so that a worker starts in milliseconds. It imports, and runs no operation: threads
that an operation starts do not survive a fork."""

from __future__ import annotations

import contextlib
import importlib

from lab import data, nets, strategies

MODULES = (
    "torch._dynamo",  # the first operation on the meta device would import it, which takes longer than all the rest
    "torch._meta_registrations",
    "torch.distributed",
    "torch.utils.flop_counter",
    "lab.training",
    "lab.vgpu.backend",
    "lab.workers.entry",
    *(entry.module for entry in nets.REGISTRY.values()),
    *(entry.module for entry in data.REGISTRY.values()),
    *(entry.module for entry in strategies.REGISTRY.values()),
)

for name in MODULES:
    with contextlib.suppress(ImportError):  # whoever needs it will say what is missing
        importlib.import_module(name)

with contextlib.suppress(ImportError):
    importlib.import_module("lab._torch_compat").import_torchvision()
