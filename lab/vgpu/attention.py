"""`F.scaled_dot_product_attention` on virtual GPUs: which kernel it takes.

On plain tensors it is the one that the CPU would take, so that the result is the CPU's to the bit, whatever
`sdpa_kernel` asks for. PyTorch has no rule by which that one could be shared out over ranks; so DTensors take CUDA's
kernels, for which it has rules, and each rank computes its part of them by `lab.vgpu.attention_kernels`.

Private PyTorch names used here: `torch.utils._mode_utils.no_dispatch`, `torch._fused_sdp_choice`, the operators
`aten::_scaled_dot_product_flash_attention_for_cpu`, `aten::_scaled_dot_product_attention_math`,
`aten::_scaled_dot_product_flash_attention`, `aten::_scaled_dot_product_efficient_attention`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._mode_utils import no_dispatch

from lab.vgpu import tensor as vt

aten = torch.ops.aten
_FLASH = SDPBackend.FLASH_ATTENTION.value


def register(library: torch.library.Library) -> None:
    library.impl("scaled_dot_product_attention", _attention, "AutogradPrivateUse1")


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if _is_distributed(query) and query.dim() in (3, 4):
        return _distributed(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    options: dict[str, Any] = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale}
    choice = _choice((query, key, value, attn_mask), {**options, "enable_gqa": enable_gqa})
    attn_mask = _additive(attn_mask, query.dtype)
    if choice == _FLASH and query.dim() == 3:  # from torch 2.14 on, the CPU gives it a batch of one
        mask = attn_mask if attn_mask is None or attn_mask.dim() < 3 else attn_mask.unsqueeze(0)
        query, key, value = (tensor.unsqueeze(0) for tensor in (query, key, value))
        return _attention(query, key, value, mask, **options, enable_gqa=enable_gqa).squeeze(0)
    if choice == _FLASH:
        flash = aten._scaled_dot_product_flash_attention_for_cpu
        result: Tensor = flash(query, key, value, attn_mask=attn_mask, **options)[0]
    else:
        plainly = aten._scaled_dot_product_attention_math
        result = plainly(query, key, value, attn_mask=attn_mask, **options, enable_gqa=enable_gqa)[0]
    return result


def _choice(tensors: tuple[Any, ...], options: dict[str, Any]) -> int | None:
    """Which kernel the CPU would take; None on a real GPU."""
    plain = [_computed(tensor) for tensor in tensors]
    if plain[0].is_meta or plain[0].device.type == "vgpu":  # nothing is computed, or it is only traced
        with no_dispatch():
            return _choose([*map(_smallest, plain[:3]), _smallest(plain[3], is_mask=True)], options)
    return _choose(plain, options)


def _computed(tensor: Any) -> Any:
    """What the CPU computes with; a mask that learns is one there as well, for which a kernel is chosen."""
    if not isinstance(tensor, vt.VGPUTensor):
        return tensor
    return tensor._data.detach().requires_grad_() if tensor.requires_grad else tensor._data


def _smallest(tensor: Any, *, is_mask: bool = False) -> Any:
    """A tensor on the CPU for which the choice is the same."""
    if tensor is None:
        return None
    last = 1 if is_mask else int(tensor.shape[-1])
    made = torch.empty((1,) * (tensor.dim() - 1) + (last,), dtype=tensor.dtype)
    return made.requires_grad_(tensor.requires_grad)


def _choose(plain: list[Any], options: dict[str, Any]) -> int | None:
    if plain[0].device != vt.CPU:
        return None
    choose: Any = torch._fused_sdp_choice
    if _wants_a_kernel_of_cuda():
        # Where the CPU's own does not do either, what CUDA's computes is the formula.
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            return int(choose(*plain, **options))
    return int(choose(*plain, **options))


def _wants_a_kernel_of_cuda() -> bool:
    """Whether a fused kernel is to be taken and nothing else: CUDA's take dropout, of which the CPU has none."""
    ask = torch.backends.cuda
    return not ask.math_sdp_enabled() and (
        ask.flash_sdp_enabled() or ask.mem_efficient_sdp_enabled() or ask.cudnn_sdp_enabled()
    )


def _additive(mask: Any, dtype: torch.dtype) -> Any:
    """A mask of what may be seen as numbers to add to the scores, as the CPU does first."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, float("-inf"))


def _is_distributed(query: Any) -> bool:
    # Whoever has a DTensor has loaded the module, which takes a second.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(query, module.DTensor)


def _distributed(
    query: Any, key: Any, value: Any, mask: Any, dropout_p: float, is_causal: bool, scale: float | None, gqa: bool
) -> Tensor:
    """Attention on DTensors, (B, H, L, D) or (H, L, D)."""
    if query.dim() == 3:
        mask = mask if mask is None or mask.dim() < 3 else mask.unsqueeze(0)
        batched = _distributed(
            query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), mask, dropout_p, is_causal, scale, gqa
        )
        return batched.squeeze(0)
    if gqa:
        key, value = (_repeated(tensor, query.size(1)) for tensor in (key, value))
    if mask is None:
        flash = aten._scaled_dot_product_flash_attention
        result: Tensor = flash(query, key, value, dropout_p, is_causal, scale=scale)[0]
    else:
        # The rule shares out batch and heads of the mask as well, so it has to have them.
        bias = _additive(mask, query.dtype).expand(query.size(0), query.size(1), query.size(2), key.size(2))
        efficient = aten._scaled_dot_product_efficient_attention
        result = efficient(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]
    return result


def _repeated(tensor: Any, heads: int) -> Any:
    """Keys or values with each head as often as query heads share it."""
    times = heads // tensor.size(1)
    if times == 1:
        return tensor
    return tensor.unsqueeze(2).expand(-1, -1, times, -1, -1).flatten(1, 2)
