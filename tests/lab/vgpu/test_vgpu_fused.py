"""Operators that only accelerators have: batch statistics in parts, products in a wider type, and refusals in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lab import vgpu

DEVICE = "vgpu:1"


@pytest.fixture(autouse=True)
def machine() -> Any:
    return vgpu.enable(devices=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["mm", "bmm", "addmm", "baddbmm"])
def test_a_product_keeps_the_wider_type_that_is_asked_for(name: str, dtype: torch.dtype):
    shapes = {"mm": [(2, 3), (3, 4)], "bmm": [(5, 2, 3), (5, 3, 4)], "addmm": [(2, 4), (2, 3), (3, 4)]}
    shapes["baddbmm"] = [(5, 2, 4), (5, 2, 3), (5, 3, 4)]
    made = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=made).to(dtype) for shape in shapes[name]]
    if "add" in name:
        tensors[0] = tensors[0].float()
    found = getattr(torch, name)(*(tensor.to(DEVICE) for tensor in tensors), out_dtype=torch.float32)
    assert found.dtype == torch.float32
    *plus, a, b = (tensor.double() for tensor in tensors)
    expected = a @ b + (plus[0] if plus else 0)
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-5)


def test_statistics_of_parts_are_those_of_the_whole():
    """Three parts of 2, 3 and 5 rows; PyTorch's variance is 1/invstd^2 - eps, and the running one divides by n - 1."""
    eps, momentum = 1e-3, 0.25
    x = torch.randn(10, 3, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    parts = [part.to(DEVICE) for part in x.split([2, 3, 5])]
    each = [torch.batch_norm_stats(part, eps) for part in parts]
    means, invstds = (torch.stack([stats[number] for stats in each]) for number in (0, 1))
    counts = torch.tensor([8.0, 12.0, 20.0]).to(DEVICE)
    running = torch.zeros(3).to(DEVICE), torch.ones(3).to(DEVICE)
    mean, invstd = torch.batch_norm_gather_stats_with_counts(parts[0], means, invstds, *running, momentum, eps, counts)
    whole = x.transpose(0, 1).reshape(3, -1).double()
    torch.testing.assert_close(mean.cpu().double(), whole.mean(1), rtol=1e-5, atol=1e-5)
    expected = (whole.var(1, correction=0) + eps).rsqrt()
    torch.testing.assert_close(invstd.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(running[0].cpu().double(), whole.mean(1) * 0.25, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(running[1].cpu().double(), 0.75 + whole.var(1) * 0.25, rtol=1e-5, atol=1e-5)


def test_fused_dropout_keeps_its_share_and_scales_what_is_left():
    torch.manual_seed(0)
    out, mask = torch.ops.aten._fused_dropout(torch.ones(1000, device=DEVICE), 0.8)
    assert out.unique().tolist() == pytest.approx([0, 1.25])
    assert out.sum().item() == pytest.approx(1.25 * mask.sum().item())
    assert 750 < mask.sum().item() < 850


def test_what_only_real_accelerators_have_is_refused_in_words():
    x = torch.ones(32, 32, device=DEVICE, dtype=torch.uint8)
    with pytest.raises(
        NotImplementedError, match="_convert_weight_to_int4pack is an operator that PyTorch has for real"
    ):
        torch.ops.aten._convert_weight_to_int4pack(x, 2)
