"""What the forkserver loads once, so that a worker starts in milliseconds. It imports, and runs no operation: threads
that an operation starts do not survive a fork."""

from __future__ import annotations

import contextlib
import importlib

import torch
import torch._dynamo  # the first operation on the meta device would import it, which takes longer than all the rest
import torch._meta_registrations
import torch.distributed
import torch.utils.flop_counter

import lab.training
import lab.vgpu.backend
import lab.workers.entry  # noqa: F401
from lab import data, nets, strategies
from lab._torch_compat import import_torchvision

with contextlib.suppress(ImportError):  # a net that needs torchvision will say what is missing
    import_torchvision()

for entry in (*nets.REGISTRY.values(), *data.REGISTRY.values(), *strategies.REGISTRY.values()):
    with contextlib.suppress(ImportError):
        importlib.import_module(entry.module)
