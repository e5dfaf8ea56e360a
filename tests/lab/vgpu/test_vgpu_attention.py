"""Attention on a virtual GPU: whichever kernel is asked for, the values are those of the formula on the CPU."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lab import vgpu

aten = torch.ops.aten
DEVICE = "vgpu:1"


@pytest.fixture(autouse=True)
def machine() -> Any:
    return vgpu.enable(devices=2)


def inputs(heads: int = 4, keys: int = 6, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries (2, 4, 6, 8), keys and values (2, heads, keys, 8)."""
    made = torch.Generator().manual_seed(1)
    shapes = [(2, 4, 6, 8), (2, heads, keys, 8), (2, heads, keys, 8)]
    return [torch.randn(shape, generator=made, dtype=torch.float64).to(dtype) for shape in shapes]


def there(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.to(DEVICE).requires_grad_() for tensor in tensors]


def by_formula(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    scores = query @ key.mT / math.sqrt(query.size(-1))
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)
    return (scores if bias is None else scores + bias).softmax(-1) @ value


CHOICES: dict[str, Any] = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "list": [SDPBackend.MATH, SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION],
}


@pytest.mark.parametrize(("choice", "ordered"), [*((choice, False) for choice in CHOICES), ("list", True)])
def test_every_choice_of_a_kernel_gives_the_same_forward_and_backward(choice: str, ordered: bool):
    plain, moved = [tensor.requires_grad_() for tensor in inputs()], there(inputs())
    expected = by_formula(*plain, bias=None, causal=True)
    expected.square().sum().backward()
    with sdpa_kernel(CHOICES[choice], set_priority=ordered):
        found = F.scaled_dot_product_attention(*moved, is_causal=True)
        found.square().sum().backward()
    torch.testing.assert_close(found.cpu(), expected)
    for one, other in zip(moved, plain, strict=True):
        torch.testing.assert_close(one.grad.cpu(), other.grad)


@pytest.mark.parametrize("mask", [None, (6, 6), (4, 6, 6)])
def test_attention_without_a_batch_gives_the_cpus_bits(mask: tuple[int, ...] | None):
    query, key, value = (tensor[0].float() for tensor in inputs())
    bias = None if mask is None else torch.randn(mask, generator=torch.Generator().manual_seed(5))
    found = F.scaled_dot_product_attention(*there([query, key, value]), None if bias is None else bias.to(DEVICE))
    assert torch.equal(found.cpu(), F.scaled_dot_product_attention(query, key, value, bias))


def test_layers_that_attend_give_the_cpus_bits():
    def run(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        layer = nn.MultiheadAttention(8, 2, batch_first=True).to(device)
        x = torch.randn(2, 5, 8).to(device)
        mask = nn.Transformer.generate_square_subsequent_mask(5).to(device)
        out, weights = layer(x, x, x)
        fast, _ = layer(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)
        (out.sum() + fast.square().sum()).backward()
        return [tensor.cpu() for tensor in (out, weights, fast, layer.in_proj_weight.grad)]

    for found, expected in zip(run(DEVICE), run("cpu"), strict=True):
        assert torch.equal(found, expected)


# -- CUDA's kernels, called by name ----------------------------------------------------------------------------------

DROPPED = 0.5


def gradients(kernel: str, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float, causal: bool) -> Any:
    """The output of the kernel, and the gradients that autograd finds by the kernel's own backward."""
    if kernel == "flash":
        out = aten._scaled_dot_product_flash_attention(q, k, v, dropout, causal)[0]
    elif kernel == "efficient":
        out = aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, dropout, causal)[0]
    else:
        out = aten._scaled_dot_product_cudnn_attention(q, k, v, bias, True, dropout, causal)[0]
    out.square().sum().backward()
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [6, 9])
@pytest.mark.parametrize("kernel", ["flash", "efficient", "cudnn"])
def test_kernels_of_cuda_compute_the_formula(kernel: str, keys: int, causal: bool):
    plain, moved = [tensor.requires_grad_() for tensor in inputs(keys=keys)], there(inputs(keys=keys))
    expected = by_formula(*plain, bias=None, causal=causal)
    expected.square().sum().backward()
    found = gradients(kernel, *moved, None, 0.0, causal)
    assert found.device == torch.device(DEVICE)
    torch.testing.assert_close(found.cpu(), expected)
    for one, other in zip(moved, plain, strict=True):
        torch.testing.assert_close(one.grad.cpu(), other.grad)


@pytest.mark.parametrize("learned", [False, True])
def test_a_bias_takes_part_and_gets_a_gradient(learned: bool):
    bias = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    plain, moved = [tensor.requires_grad_() for tensor in inputs()], there(inputs())
    plain_bias, moved_bias = bias.clone().requires_grad_(learned), bias.to(DEVICE).requires_grad_(learned)
    expected = by_formula(*plain, bias=plain_bias, causal=False)
    expected.square().sum().backward()
    found = gradients("efficient", *moved, moved_bias, 0.0, False)
    torch.testing.assert_close(found.cpu(), expected)
    for one, other in zip((*moved, moved_bias)[: 3 + learned], (*plain, plain_bias), strict=False):
        torch.testing.assert_close(one.grad.cpu(), other.grad)


@pytest.mark.parametrize("kernel", ["flash", "efficient", "cudnn"])
def test_backward_drops_what_forward_dropped(kernel: str):
    """With the identity for values the output is the weights themselves, so what was dropped can be read from it."""
    query, key, _ = inputs(keys=8)
    identity = torch.eye(8, dtype=torch.float64).expand(2, 4, 8, 8)
    moved = there([query, key, identity.clone()])
    torch.manual_seed(3)
    found = gradients(kernel, *moved, None, DROPPED, False)
    weights = by_formula(query, key, identity, None, causal=False)
    kept = (found.detach().cpu() / weights).round()
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    plain = [tensor.clone().requires_grad_() for tensor in (query, key, identity)]
    expected = ((plain[0] @ plain[1].mT / math.sqrt(8)).softmax(-1) * kept) @ plain[2]
    torch.testing.assert_close(found.detach().cpu(), expected.detach())
    expected.square().sum().backward()
    for one, other in zip(moved, plain, strict=True):
        torch.testing.assert_close(one.grad.cpu(), other.grad)


def test_a_modelled_kernel_takes_the_time_of_its_products():
    """Two products of 2 x 4 x 64 x 64 x 64 multiply-adds, 2 operations each, at 0.02 TFLOP/s; 10 us to launch."""
    machine = vgpu.enable(devices=1, timing="modelled")
    q, k, v = (torch.zeros(2, 4, 64, 64, device="vgpu:0") for _ in range(3))
    torch.vgpu.synchronize()
    before = machine.clock.host_ns
    aten._scaled_dot_product_flash_attention(q, k, v)
    torch.vgpu.synchronize()
    computing = 2 * 2 * 2 * 4 * 64**3 / 0.02e12 * 1e9
    assert machine.clock.host_ns - before == pytest.approx(computing + 10_000 + 5_000, rel=1e-3)


def test_a_fused_kernel_that_is_asked_for_takes_dropout():
    """As CUDA's do; the CPU has none that does."""
    query, key, value = inputs()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        found = F.scaled_dot_product_attention(*there([query, key, torch.ones_like(value)]), dropout_p=0.5)
    assert len(found.unique()) > 2


# -- attention of a program's own ------------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("window", [(-1, -1), (-1, 0), (2, 0), (1, 1)])
def test_sequences_of_different_lengths_attend_each_to_itself(window: tuple[int, int], grouped: bool):
    """Two of 4 and 6 rows with 5 and 6 keys, against each alone, with what the window leaves out masked by hand."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    made = torch.Generator().manual_seed(0)
    heads = 2 if grouped else 4
    q, k, v = (torch.randn(rows, h, 8, generator=made) for rows, h in ((10, 4), (11, heads), (11, heads)))
    cum_q, cum_k = (torch.tensor(ends, dtype=torch.int32) for ends in ([0, 4, 10], [0, 5, 11]))
    moved, plain = there([q, k, v]), [tensor.requires_grad_() for tensor in (q, k, v)]
    options: dict[str, Any] = {"window_size": window, "enable_gqa": grouped}
    if "enable_gqa" not in inspect.signature(varlen.varlen_attn).parameters:
        pytest.skip("this version of PyTorch has another varlen_attn")
    found = varlen.varlen_attn(*moved, cum_q.to(DEVICE), cum_k.to(DEVICE), 6, 6, **options)
    parts = []
    for (a, b), (c, d) in (((0, 4), (0, 5)), ((4, 10), (5, 11))):
        ahead = torch.arange(d - c) - (torch.arange(b - a) + (d - c) - (b - a)).unsqueeze(1)
        seen = ((ahead <= window[1]) | (window[1] < 0)) & ((ahead >= -window[0]) | (window[0] < 0))
        one = [tensor.transpose(0, 1).unsqueeze(0) for tensor in (plain[0][a:b], plain[1][c:d], plain[2][c:d])]
        out = F.scaled_dot_product_attention(*one, attn_mask=seen, enable_gqa=grouped)
        parts.append(out[0].transpose(0, 1))
    expected = torch.cat(parts)
    torch.testing.assert_close(found.cpu(), expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(moved, plain, strict=True):
        torch.testing.assert_close(one.grad.cpu(), other.grad)


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
def test_flex_attention_is_attention_with_what_it_is_given():
    """Causal by its mask, with the distance added to the scores; expected is attention with that as a mask."""
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    plain, moved = [tensor.float().requires_grad_() for tensor in inputs()], there(inputs(dtype=torch.float32))
    mask = flex.create_block_mask(lambda b, h, i, j: i >= j, None, None, 6, 6, device=DEVICE)
    found = flex.flex_attention(*moved, score_mod=lambda s, b, h, i, j: s + (i - j) * 0.5, block_mask=mask)
    distance = (torch.arange(6.0).unsqueeze(1) - torch.arange(6.0)) * 0.5
    expected = by_formula(*plain, bias=distance, causal=True)
    torch.testing.assert_close(found.cpu(), expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(moved, plain, strict=True):
        torch.testing.assert_close(one.grad.cpu(), other.grad)
    grouped = flex.flex_attention(moved[0], moved[1][:, :2], moved[2][:, :2], enable_gqa=True)
    whole = [plain[0], *(tensor[:, :2].repeat_interleave(2, 1) for tensor in plain[1:])]
    torch.testing.assert_close(grouped.cpu(), by_formula(*whole, bias=None, causal=False))
