"""Attention on sequences of different lengths behind one another, and on (B, L, H, D): CUDA's flash kernels by name.

`torch.nn.attention.varlen` calls them. Tensors are (T, H, D), and sequence i has the rows from cum_seq[i] to
cum_seq[i + 1]. Its last query and its last key are of one time, by which a window and causality are counted.

Private PyTorch names used here: the operators in KERNELS. Tried on torch 2.13.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lab.vgpu import attention_kernels as formula

aten = torch.ops.aten


def _parts(query: Tensor, key: Tensor, cum_q: Tensor | None, cum_k: Tensor | None) -> Iterator[tuple[Any, Any, Any]]:
    """Where a sequence's queries are, its keys, and its row of the log-sum-exp."""
    if cum_q is None or cum_k is None:
        for number in range(query.size(0)):
            yield number, number, number
        return
    starts, others = cum_q.tolist(), cum_k.tolist()
    for number in range(len(starts) - 1):
        rows = slice(starts[number], starts[number + 1])
        yield rows, slice(others[number], others[number + 1]), (slice(None), rows)


def _bias(queries: int, keys: int, is_causal: bool, left: int | None, right: int | None) -> Tensor | None:
    """0 where a query may see a key and -inf where it may not, (L, S); a side below zero has no end."""
    before = math.inf if left is None or left < 0 else left
    after = 0 if is_causal else math.inf if right is None or right < 0 else right
    if before == after == math.inf:
        return None
    ahead = torch.arange(keys) - torch.arange(keys - queries, keys).unsqueeze(1)
    return torch.zeros(queries, keys).masked_fill_((ahead > after) | (ahead < -before), -math.inf)


def _heads_first(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1)


def _refuse_others(**others: Any) -> None:
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise NotImplementedError(f"attention on virtual GPUs knows no {', '.join(given)}: leave it out")


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_q: Tensor | None,
    cum_k: Tensor | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    num_splits: int | None = None,
    **others: Any,
) -> tuple[Tensor, ...]:
    _refuse_others(**others, dropout_p=dropout_p or None)
    out = torch.zeros_like(query)
    shape = (query.size(1), query.size(0)) if cum_q is not None else (query.size(0), query.size(2), query.size(1))
    lse = torch.zeros(shape)
    for rows, keys, place in _parts(query, key, cum_q, cum_k):
        q, k, v = map(_heads_first, (query[rows], key[keys], value[keys]))
        bias = _bias(q.size(1), k.size(1), is_causal, window_size_left, window_size_right)
        found, sums = formula.forward(q, k, v, bias, 0.0, scale, 0)
        out[rows], lse[place] = _heads_first(found), sums.to(lse.dtype)
    nothing = torch.zeros(2, dtype=torch.uint64)
    return out, lse, nothing, torch.empty((), dtype=torch.uint64), query.new_empty(0)


def _backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    cum_q: Tensor | None,
    cum_k: Tensor | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    rng_state: Any,
    unused: Any,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    found = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    for rows, keys, place in _parts(query, key, cum_q, cum_k):
        q, k, v = map(_heads_first, (query[rows], key[keys], value[keys]))
        bias = _bias(q.size(1), k.size(1), is_causal, window_size_left, window_size_right)
        gradients = formula.backward(_heads_first(gradient[rows]), q, k, v, bias, lse[place], 0.0, scale, 0)
        for whole, part, where in zip(found, gradients[:3], (rows, keys, keys), strict=True):
            whole[where] += _heads_first(part)
    return found


KERNELS: dict[Any, formula.Kernel] = {
    aten._flash_attention_forward.default: _forward,
    aten._flash_attention_backward.default: _backward,
}


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_q: Tensor,
    cum_k: Tensor | None,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
    scale: float | None = None,
    window: list[int] | None = None,
    enable_gqa: bool = False,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> tuple[Tensor, ...]:
    left, right = window or (-1, -1)
    return _forward(
        query, key, value, cum_q, cum_k, max_q, max_k, 0.0, is_causal, False, scale=scale,
        window_size_left=left, window_size_right=right, seqused_k=seqused_k, block_table=block_table,
    )[:3]  # fmt: skip


def _varlen_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    cum_q: Tensor,
    cum_k: Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool,
    rng_state: Any,
    scale: float | None = None,
    window: list[int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    left, right = window or (-1, -1)
    return _backward(
        gradient, query, key, value, out, lse, cum_q, cum_k, max_q, max_k, 0.0, is_causal, rng_state, None,
        scale=scale, window_size_left=left, window_size_right=right,
    )  # fmt: skip


BY_NAME: dict[str, formula.Kernel] = {
    "torch_attn::_varlen_attn": _varlen,
    "torch_attn::_varlen_attn_backward": _varlen_backward,
}
"""Operators that are there only once `torch.nn.attention.varlen` is loaded."""
