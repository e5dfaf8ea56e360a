"""`torch.autocast("vgpu")`: mixed precision by the rules of CUDA.

The lists are those of PyTorch's CUDA autocast (aten/src/ATen/autocast_mode.h, and "CUDA Ops that can autocast" in its
documentation). Every other operator runs in the types of its inputs.

Private PyTorch names used here: `torch._C._ExcludeDispatchKeyGuard`, `torch._C.DispatchKeySet`,
`torch._C.DispatchKey`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

aten = torch.ops.aten

LOWER = (
    "_convolution", "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "chain_matmul", "conv1d", "conv2d", "conv3d",
    "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution", "einsum", "gru_cell",
    "linalg_multi_dot", "linalg_vecdot", "linear", "lstm_cell", "matmul", "mm", "mv", "prelu", "rnn_relu_cell",
    "rnn_tanh_cell", "scaled_dot_product_attention",
)  # fmt: skip
"""They run in the lower precision."""

FLOAT32 = (
    "acos", "asin", "binary_cross_entropy_with_logits", "cdist", "cosh", "cosine_embedding_loss", "cosine_similarity",
    "dist", "erfinv", "exp", "expm1", "frobenius_norm", "group_norm", "hinge_embedding_loss", "huber_loss", "kl_div",
    "l1_loss", "layer_norm", "log", "log10", "log1p", "log2", "logsumexp", "margin_ranking_loss", "mse_loss",
    "multi_margin_loss", "multilabel_margin_loss", "native_layer_norm", "nll_loss", "nll_loss2d", "nuclear_norm",
    "pdist", "poisson_nll_loss", "pow", "reciprocal", "renorm", "rsqrt", "sinh", "smooth_l1_loss", "soft_margin_loss",
    "softplus", "tan", "triplet_margin_loss",
)  # fmt: skip
"""They run in float32."""

FLOAT32_RESULT = ("cumprod", "cumsum", "linalg_matrix_norm", "linalg_vector_norm", "log_softmax", "prod", "softmax",
                  "sum")  # fmt: skip
"""They sum up in float32 where the caller names no type."""

WIDEST = ("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put", "scatter_add",
          "tensordot", "vdot")  # fmt: skip
"""They run in the widest type among their inputs."""

BANNED = (
    "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\n"
    "Many models use a sigmoid layer right before the binary cross entropy layer.\n"
    "In this case, combine the two layers using torch.nn.functional.binary_cross_entropy_with_logits\n"
    "or torch.nn.BCEWithLogitsLoss.  binary_cross_entropy_with_logits and BCEWithLogits are\n"
    "safe to autocast."
)

Rule: TypeAlias = Callable[..., Any]
_KEY = "AutocastPrivateUse1"


class _Casts(threading.local):
    """Parameters in the lower precision, for as long as the outermost autocast lasts; as CUDA keeps them."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}


_casts = _Casts()


def register(library: torch.library.Library, everything: torch.library.Library) -> None:
    everything.fallback(torch.library.fallthrough_kernel, _KEY)
    rules = ((LOWER, _in_lower), (FLOAT32, _in_float32), (FLOAT32_RESULT, _to_float32), (WIDEST, _in_widest))
    for names, rule in rules:
        for name in names:
            for op in _overloads(name):
                library.impl(op.name(), functools.partial(rule, op), _KEY)
    library.impl("binary_cross_entropy", _banned, _KEY)
    torch.clear_autocast_cache = _clearing(torch.clear_autocast_cache)


def _overloads(name: str) -> list[Any]:
    packet = getattr(aten, name)
    found = [getattr(packet, overload) for overload in packet.overloads()]
    return [op for op in found if not any(argument.is_out for argument in op._schema.arguments)]


def _clearing(clear: Callable[[], None]) -> Callable[[], None]:
    @functools.wraps(clear)
    def clear_autocast_cache() -> None:
        _casts.kept.clear()
        clear()

    return clear_autocast_cache


def _run(op: Any, args: Any, kwargs: Any) -> Any:
    keys: Any = torch._C.DispatchKey
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(keys.AutocastPrivateUse1)):
        return op(*args, **kwargs)


def _eligible(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.device.type == "vgpu"
        and value.is_floating_point()
        and value.dtype != torch.float64
    )


def _cast(dtype: torch.dtype, value: Any) -> Any:
    if not _eligible(value) or value.dtype == dtype:
        return value
    keep = (
        dtype != torch.float32
        and value.dtype == torch.float32
        and value.requires_grad
        and value.is_leaf
        and torch.is_autocast_cache_enabled()
    )
    if not keep:
        return value.to(dtype)
    known = _casts.kept.get(id(value))
    if known is not None and known[0]() is value:
        return known[1]
    cast = value.to(dtype)
    _casts.kept[id(value)] = weakref.ref(value), cast
    return cast


def _recast(dtype: torch.dtype, op: Any, args: Any, kwargs: Any) -> Any:
    args, kwargs = pytree.tree_map(functools.partial(_cast, dtype), (args, kwargs))
    return _run(op, args, kwargs)


def _in_lower(op: Any, *args: Any, **kwargs: Any) -> Any:
    return _recast(torch.get_autocast_dtype("vgpu"), op, args, kwargs)


def _in_float32(op: Any, *args: Any, **kwargs: Any) -> Any:
    return _recast(torch.float32, op, args, kwargs)


def _to_float32(op: Any, *args: Any, **kwargs: Any) -> Any:
    asked = {argument.name: number for number, argument in enumerate(op._schema.arguments)}
    place = asked["dtype"]
    named = kwargs.get("dtype") is not None or (len(args) > place and args[place] is not None)
    if not named and args and _eligible(args[0]):
        args, kwargs = args[:place], {**kwargs, "dtype": torch.float32}
    return _run(op, args, kwargs)


def _in_widest(op: Any, *args: Any, **kwargs: Any) -> Any:
    types = [leaf.dtype for leaf in pytree.tree_leaves((args, kwargs)) if _eligible(leaf)]
    widest = functools.reduce(torch.promote_types, types, torch.get_autocast_dtype("vgpu"))
    return _recast(widest, op, args, kwargs)


def _banned(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError(BANNED)
