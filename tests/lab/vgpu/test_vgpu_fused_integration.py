"""What two ranks compute together with operators that only accelerators have: attention on DTensors, SyncBatchNorm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.lab.ranks import run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")


# -- attention -----------------------------------------------------------------------------------------------------


def made(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def qkv(heads: int = 4, keys: int = 6, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    shapes = [(2, 4, 6, 8), (2, heads, keys, 8), (2, heads, keys, 8)]
    return [made(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes)]


_ANY = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
SEEN = torch.ones(6, 6, dtype=torch.bool).tril(2)
ATTENTION: dict[str, Callable[[], tuple[list[Tensor], dict[str, Any]]]] = {
    "plain": lambda: (qkv(), {}),
    "causal": lambda: (qkv(), {"is_causal": True}),
    "scaled": lambda: (qkv(), {"is_causal": True, "scale": 0.3}),
    "longer keys": lambda: (qkv(keys=10), {}),
    "longer keys, causal": lambda: (qkv(keys=10), {"is_causal": True}),
    "bfloat16": lambda: (qkv(dtype=torch.bfloat16), {"is_causal": True}),
    "grouped": lambda: (qkv(heads=2), {"is_causal": True, "enable_gqa": True}),
    "bool mask": lambda: (qkv(), {"attn_mask": SEEN}),
    # Of other sizes: DTensor remembers by its arguments' shapes whether a mask gets a gradient.
    "float mask": lambda: (qkv(keys=7), {"attn_mask": made(6, 7, seed=5)}),
    "mask of each head": lambda: (qkv(keys=8), {"attn_mask": made(2, 4, 6, 8, seed=5)}),
    "grouped with a mask": lambda: (qkv(heads=2), {"attn_mask": SEEN, "enable_gqa": True}),
    "without a batch": lambda: ([tensor[0] for tensor in qkv()], {"is_causal": True}),
}


def attend(rank: int) -> list[str]:
    """On DTensors with heads, batch or nothing shared out, beside one tensor on the CPU: what differs."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    torch.vgpu.set_device(rank)
    mesh = init_device_mesh("vgpu", (2,))
    wrong = []

    def close(what: str, found: Any, expected: Tensor) -> None:
        found = found.full_tensor().cpu().float()
        tolerance = 2e-2 if expected.dtype == torch.bfloat16 else 1e-5
        if not torch.allclose(found, expected.float(), rtol=tolerance, atol=tolerance):
            wrong.append(f"{what}: {(found - expected.float()).abs().max():.2g}")

    def compare(title: str, placement: Any, tensors: list[Tensor], options: dict[str, Any], kernel: Any = _ANY) -> None:
        plain = [tensor.clone().requires_grad_() for tensor in tensors]
        shared = [distribute_tensor(tensor, mesh, [placement]).requires_grad_() for tensor in tensors]
        mask = options.get("attn_mask")
        learned = mask is not None and mask.is_floating_point()
        mine, theirs = dict(options), dict(options)
        if mask is not None:
            mine["attn_mask"] = distribute_tensor(mask, mesh, [Replicate()]).requires_grad_(learned)
            theirs["attn_mask"] = mask.clone().requires_grad_(learned)
        expected = F.scaled_dot_product_attention(*plain, **theirs)
        expected.square().sum().backward()
        with sdpa_kernel(kernel):
            found = F.scaled_dot_product_attention(*shared, **mine)
        found.square().sum().backward()
        close(f"{title}, output", found, expected)
        for name, one, other in zip("qkv", shared, plain, strict=True):
            close(f"{title}, gradient of {name}", one.grad, other.grad)
        if learned:
            close(f"{title}, gradient of the mask", mine["attn_mask"].grad, theirs["attn_mask"].grad)

    for title, make in ATTENTION.items():
        tensors, options = make()
        heads = tensors[0].dim() - 3
        for placement in {Shard(heads), Shard(0), Replicate()}:
            compare(f"{title} {placement}", placement, tensors, options)
    for backend in (SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        compare(f"{backend}", Shard(1), *ATTENTION["causal"](), backend)
    dropped = F.scaled_dot_product_attention(
        *(distribute_tensor(tensor, mesh, [Shard(1)]) for tensor in qkv()), dropout_p=0.5
    )
    if not dropped.full_tensor().isfinite().all():
        wrong.append("dropout")
    return wrong


def test_attention_on_tensors_that_are_shared_out_is_that_on_whole_ones(tmp_path):
    for found in run_ranks(2, attend, tmp_path):
        assert not found, found


# -- SyncBatchNorm ---------------------------------------------------------------------------------------------------

SHAPES = {1: (3, 5), 2: (3, 4, 6), 3: (3, 2, 3, 4)}
NORMS: dict[str, dict[str, Any]] = {
    "1d": {"dims": 1},
    "1d without space": {"dims": 0},
    "2d": {"dims": 2},
    "3d": {"dims": 3},
    "channels last": {"dims": 2, "memory_format": torch.channels_last},
    "channels last 3d": {"dims": 3, "memory_format": torch.channels_last_3d},
    "not affine": {"dims": 1, "affine": False},
    "mean of all batches": {"dims": 1, "momentum": None},
    "without running statistics": {"dims": 1, "track_running_stats": False},
    "uneven": {"dims": 1, "split": [5, 3]},
    "empty on one rank": {"dims": 1, "split": [8, 0]},
    "float64": {"dims": 1, "dtype": torch.float64},
}


def normalise(rank: int) -> list[str]:
    """Two steps and an evaluation by SyncBatchNorm, beside BatchNorm over the whole batch on the CPU: what differs."""
    torch.vgpu.set_device(rank)
    wrong = []
    for title, options in NORMS.items():
        options = dict(options)
        dims, split = options.pop("dims"), options.pop("split", [4, 4])
        layout, dtype = options.pop("memory_format", torch.contiguous_format), options.pop("dtype", torch.float32)
        kind = {1: nn.BatchNorm1d, 0: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
        whole = kind(3, **options).to(dtype)
        if whole.weight is not None:
            nn.init.uniform_(whole.weight.data, 0.5, 2.0, generator=torch.Generator().manual_seed(3))
        sync = nn.SyncBatchNorm.convert_sync_batchnorm(kind(3, **options).to(dtype))
        sync.load_state_dict(whole.state_dict())
        sync.to(f"vgpu:{rank}")

        def close(what: str, found: Tensor, expected: Tensor, title: str = title) -> None:
            if found.shape != expected.shape or not torch.allclose(found.cpu(), expected, rtol=1e-4, atol=1e-4):
                wrong.append(f"{title}, {what}: {found} and not {expected}")

        for step in range(2):
            x = (made(8, *SHAPES.get(dims, (3,)), seed=step, dtype=dtype) * 2 + 1).contiguous(memory_format=layout)
            mine = x.split(split)[rank].to(f"vgpu:{rank}").contiguous(memory_format=layout).requires_grad_()
            x.requires_grad_()
            found, expected = sync(mine), whole(x)
            (found**3).sum().backward()
            (expected**3).sum().backward()
            close("output", found, expected.split(split)[rank])
            if mine.numel():
                close("gradient of the input", mine.grad, x.grad.split(split)[rank])
        for name in ("running_mean", "running_var"):
            if getattr(whole, name) is not None:
                close(name, getattr(sync, name), getattr(whole, name))
        if whole.weight is not None:
            for name in ("weight", "bias"):
                parameter = getattr(sync, name)
                both = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
                torch.distributed.all_reduce(both)
                close(f"gradient of the {name}", both, getattr(whole, name).grad)
        if whole.running_mean is not None:
            close("evaluation", sync.eval()(x.to(f"vgpu:{rank}")), whole.eval()(x))
    return wrong


def test_sync_batch_norm_is_batch_norm_over_the_whole_batch(tmp_path):
    for found in run_ranks(2, normalise, tmp_path):
        assert not found, found
