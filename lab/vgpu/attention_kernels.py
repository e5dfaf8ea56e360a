"""The kernels of attention that PyTorch has for accelerators alone, computed on the CPU.

    out = dropout(softmax(q k^T * scale + bias)) v        and log-sum-exp of the scores, for the backward

Tensors are (B, H, L, D), keys and values (B, H', S, D). Without dropout it is the CPU's own kernel that computes;
otherwise the formula, in float32 at least. Dropped weights are drawn again in backward, from a seed that forward gives
where CUDA's kernels give the state of theirs.

Private PyTorch names used here: the operators `aten::_scaled_dot_product_flash_attention_for_cpu` and its backward, and
those in KERNELS. Tried on torch 2.13.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

aten = torch.ops.aten

Kernel: TypeAlias = Callable[..., Any]
_LSE_ROWS = 32
"""CUDA's memory-efficient kernel pads its log-sum-exp to a multiple of this."""


# -- the computation -----------------------------------------------------------------------------------------------


def _by_library(query: Tensor, key: Tensor, value: Tensor, dropout_p: float) -> bool:
    """Whether the CPU has a kernel for it."""
    return (
        dropout_p == 0
        and query.dim() == key.dim() == value.dim() == 4
        and query.size(1) == key.size(1) == value.size(1)
        and query.size(3) == key.size(3) == value.size(3)
        and min(query.numel(), key.numel()) > 0
        and query.is_floating_point()
    )


def _seed(dropout_p: float) -> int:
    return int(torch.randint(2**62, ()).item()) if dropout_p else 0


def _kept(shape: torch.Size, dropout_p: float, seed: int, dtype: torch.dtype) -> Tensor:
    """What the weights are multiplied with: 0 where they are dropped."""
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(shape, dtype=dtype).bernoulli_(1 - dropout_p, generator=generator).div_(1 - dropout_p)


def _causal(queries: int, keys: int) -> Tensor:
    """0 where a query may see a key and -inf where it may not, (L, S)."""
    seen = torch.ones(queries, keys, dtype=torch.bool).tril()
    return torch.zeros(queries, keys).masked_fill_(~seen, -math.inf)


def _grouped(query: Tensor, tensor: Tensor) -> Tensor:
    """Keys or values, each head as often as query heads share it."""
    times = query.size(-3) // tensor.size(-3)
    return tensor.repeat_interleave(times, -3) if times > 1 else tensor


def _weights(query: Tensor, key: Tensor, bias: Tensor | None, scale: float | None) -> tuple[Tensor, Tensor]:
    """Softmax of the scores, and their log-sum-exp; 0 and -inf for a query that may see nothing."""
    factor = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    scores = query @ key.transpose(-2, -1) * factor
    if bias is not None:
        scores = scores + bias
    lse = scores.logsumexp(-1)
    return scores.softmax(-1).nan_to_num(0.0), lse


def _wide(*tensors: Tensor) -> list[Tensor]:
    return [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    dropout_p: float,
    scale: float | None,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """The output, and the log-sum-exp (B, H, L), by the formula."""
    q, k, v = _wide(query, _grouped(query, key), _grouped(query, value))
    weights, lse = _weights(q, k, bias, scale)
    if dropout_p:
        weights = weights * _kept(weights.shape, dropout_p, seed, weights.dtype)
    return (weights @ v).to(query.dtype), lse


def backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    lse: Tensor,
    dropout_p: float,
    scale: float | None,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of query, key, value and bias (of the scores' shape), by the formula.

    `lse` is what the weights were divided by, which may be that of more keys than there are here.
    """
    factor = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    g, q, k, v = _wide(gradient, query, _grouped(query, key), _grouped(query, value))
    scores = q @ k.transpose(-2, -1) * factor
    scores = scores if bias is None else scores + bias
    weights = (scores - lse.unsqueeze(-1)).exp().nan_to_num(0.0)
    kept = _kept(weights.shape, dropout_p, seed, weights.dtype) if dropout_p else None
    dropped = weights if kept is None else weights * kept
    of_weights = g @ v.transpose(-2, -1)
    of_weights = of_weights if kept is None else of_weights * kept
    of_scores = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True))
    of_key, of_value = of_scores.transpose(-2, -1) @ q * factor, dropped.transpose(-2, -1) @ g
    return (
        (of_scores @ k * factor).to(query.dtype),
        _ungrouped(of_key, key),
        _ungrouped(of_value, value),
        of_scores,
    )


def _ungrouped(gradient: Tensor, tensor: Tensor) -> Tensor:
    heads = tensor.size(-3)
    if gradient.size(-3) != heads:
        gradient = gradient.unflatten(-3, (heads, gradient.size(-3) // heads)).sum(-3)
    return gradient.to(tensor.dtype)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> tuple[Tensor, Tensor, int]:
    """The output, the log-sum-exp, and the seed of dropout."""
    if _by_library(query, key, value, dropout_p):
        flash = aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = flash(query, key, value, 0.0, is_causal, attn_mask=bias, scale=scale)
        return out, lse, 0
    seed = _seed(dropout_p)
    return *forward(query, key, value, _with_causal(query, key, bias, is_causal), dropout_p, scale, seed), seed


def _attend_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    out: Tensor,
    lse: Tensor,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    seed: int,
    *,
    of_bias: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    lse = lse[..., : query.size(-2)]
    if _by_library(query, key, value, dropout_p) and not of_bias:
        flash = aten._scaled_dot_product_flash_attention_for_cpu_backward
        gradients = flash(
            gradient, query, key, value, out, lse.contiguous(), 0.0, is_causal, attn_mask=bias, scale=scale
        )
        return *gradients, None
    mask = _with_causal(query, key, bias, is_causal)
    *gradients, of_scores = backward(gradient, query, key, value, mask, lse, dropout_p, scale, seed)
    wanted = of_scores.sum_to_size(bias.shape).to(bias.dtype) if of_bias and bias is not None else None
    return *gradients, wanted


def _with_causal(query: Tensor, key: Tensor, bias: Tensor | None, is_causal: bool) -> Tensor | None:
    if not is_causal:
        return bias
    causal = _causal(query.size(-2), key.size(-2))
    return causal if bias is None else bias + causal


# -- with the arguments of PyTorch's operators -----------------------------------------------------------------------


def _state(seed: int) -> Tensor:
    return torch.tensor([seed, 0], dtype=torch.int64).view(torch.uint64)


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    out, lse, seed = _attend(query, key, value, None, dropout_p, is_causal, scale)
    nothing = query.new_empty(0)
    return out, lse, None, None, query.size(2), key.size(2), _state(seed), torch.empty((), dtype=torch.uint64), nothing


def _flash_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    cum_seq_q: Any,
    cum_seq_k: Any,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    state: Tensor,
    unused: Any,
    *,
    scale: float | None = None,
) -> tuple[Tensor, ...]:
    seed = int(state.view(torch.int64)[0]) if dropout_p else 0
    return _attend_backward(gradient, query, key, value, None, out, lse, dropout_p, is_causal, scale, seed)[:3]


def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    out, lse, seed = _attend(query, key, value, bias, dropout_p, is_causal, scale)
    rows = -lse.size(-1) % _LSE_ROWS
    lse = torch.nn.functional.pad(lse, (0, rows)) if compute_log_sumexp else lse.new_empty(*lse.shape[:2], 0)
    return out, lse, torch.tensor(seed), torch.tensor(0)


def _efficient_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    out: Tensor,
    lse: Tensor,
    seed: Tensor,
    offset: Tensor,
    dropout_p: float,
    wanted: list[bool],
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    return _attend_backward(
        gradient, query, key, value, bias, out, lse, dropout_p, is_causal, scale, int(seed), of_bias=wanted[3]
    )


def _cudnn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    out, lse, seed = _attend(query, key, value, bias, dropout_p, is_causal, scale)
    return (
        out, lse.unsqueeze(-1), None, None, query.size(2), key.size(2), torch.tensor(seed), torch.tensor(0), None,
    )  # fmt: skip


def _cudnn_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    seed: Tensor,
    offset: Tensor,
    bias: Tensor | None,
    cum_seq_q: Any,
    cum_seq_k: Any,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    *,
    scale: float | None = None,
) -> tuple[Tensor, ...]:
    lse = lse.squeeze(-1)
    return _attend_backward(gradient, query, key, value, bias, out, lse, dropout_p, is_causal, scale, int(seed))[:3]


KERNELS: dict[Any, Kernel] = {
    aten._scaled_dot_product_flash_attention.default: _flash,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention.default: _efficient,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
    aten._scaled_dot_product_cudnn_attention.default: _cudnn,
    aten._scaled_dot_product_cudnn_attention_backward.default: _cudnn_backward,
}
