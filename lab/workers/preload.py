"""What the forkserver loads once, so that a worker starts in milliseconds. It imports, and runs no operation: threads
that an operation starts do not survive a fork."""

from __future__ import annotations

import torch
import torch.distributed
import torch.utils.flop_counter

import lab.graph
import lab.strategies.model_parallel
import lab.strategies.single
import lab.training
import lab.vgpu.backend
import lab.workers.entry  # noqa: F401

# Shapes are inferred on the meta device with Python functions that PyTorch loads at their first use.
import torch._meta_registrations  # noqa: F401  # isort: skip
