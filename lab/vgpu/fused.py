"""Operators that PyTorch has for accelerators alone, and what the CPU computes in their place.

`nn.SyncBatchNorm` consists of five of them. Attention on DTensors needs six (`lab.vgpu.attention_kernels`), that on
sequences of different lengths two (`lab.vgpu.varlen_kernels`), and matrix products with `out_dtype=` are four more.
Statistics are kept in float32 at least, as CUDA does.

    normalised = (x - mean) * invstd * weight + bias        over all dimensions but the second

Private PyTorch names used here: the operators in KERNELS, `torch._C._dispatch_has_computed_kernel_for_dispatch_key`.
Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lab.vgpu import attention_kernels, varlen_kernels
from lab.vgpu.dispatch import compute
from lab.vgpu.tensor import CPU, Plan, machine

aten = torch.ops.aten

_ON_THE_CPU = ("CPU", "SparseCPU", "SparseCsrCPU", "NestedTensorCPU", "QuantizedCPU", "MkldnnCPU")


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _along(x: Tensor) -> list[int]:
    """The dimensions that are summed over."""
    return [dim for dim in range(x.dim()) if dim != 1]


def _shaped(per_channel: Tensor, x: Tensor) -> Tensor:
    return per_channel.view(1, -1, *(1,) * (x.dim() - 2))


def _stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(_wide(x), _along(x), correction=0)
    return mean, (var + eps).rsqrt()


def _elemt(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, invstd: Tensor, eps: float) -> Tensor:
    out = (_wide(x) - _shaped(mean, x)) * _shaped(invstd, x)
    out = out if weight is None else out * _shaped(weight, x)
    out = out if bias is None else out + _shaped(bias, x)
    return out.to(x.dtype)


def _gather_stats(
    x: Tensor,
    means: Tensor,
    invstds: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    counts: Tensor | int,
) -> tuple[Tensor, Tensor]:
    """From each rank's mean and deviation, (ranks, C), those of all; the running ones follow."""
    if not isinstance(counts, Tensor):
        counts = torch.full((means.size(0),), counts)
    n = counts.double().unsqueeze(1)
    total = n.sum()
    mean = (means * n).sum(0) / total
    spread = ((invstds.double() ** -2 - eps + (means - mean) ** 2) * n).sum(0)
    for running, now in ((running_mean, mean), (running_var, spread / (total - 1))):
        if running is not None:
            running.mul_(1 - momentum).add_(momentum * now)
    return mean.to(means.dtype), (spread / total + eps).rsqrt().to(means.dtype)


def _backward_reduce(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    input_g: bool,
    weight_g: bool,
    bias_g: bool,
) -> tuple[Tensor | None, ...]:
    g = _wide(gradient)
    sum_dy = g.sum(_along(x))
    sum_dy_xmu = (g * (_wide(x) - _shaped(mean, x))).sum(_along(x))
    kind = mean.dtype if weight is None else weight.dtype
    return (
        sum_dy if input_g else None,
        sum_dy_xmu if input_g else None,
        (sum_dy_xmu * invstd).to(kind) if weight_g else None,
        sum_dy.to(kind) if bias_g else None,
    )


def _backward_elemt(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    sum_dy: Tensor,
    sum_dy_xmu: Tensor,
    count: Tensor,
) -> Tensor:
    total = count.sum()
    drift = (_wide(x) - _shaped(mean, x)) * _shaped(invstd**2 * sum_dy_xmu / total, x)
    factor = invstd if weight is None else invstd * weight
    return ((_wide(gradient) - _shaped(sum_dy / total, x) - drift) * _shaped(factor, x)).to(x.dtype)


def _mm(a: Tensor, b: Tensor, out_dtype: torch.dtype) -> Tensor:
    return torch.matmul(a.to(out_dtype), b.to(out_dtype))


def _addmm(plus: Tensor, a: Tensor, b: Tensor, out_dtype: torch.dtype, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _mm(a, b, out_dtype) * alpha + plus.to(out_dtype) * beta


def _fused_dropout(x: Tensor, p: float, generator: Any = None) -> tuple[Tensor, Tensor]:
    """With `p` the share that is kept."""
    kept = torch.empty_like(x).bernoulli_(p, generator=generator)
    return x * kept / p, kept.to(torch.uint8)


def _masked_scale(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    return x * mask.to(x.dtype) * scale


KERNELS: dict[Any, Callable[..., Any]] = {
    **attention_kernels.KERNELS,
    **varlen_kernels.KERNELS,
    aten.batch_norm_stats.default: _stats,
    aten.batch_norm_elemt.default: _elemt,
    aten.batch_norm_gather_stats.default: _gather_stats,
    aten.batch_norm_gather_stats_with_counts.default: _gather_stats,
    aten.batch_norm_backward_reduce.default: _backward_reduce,
    aten.batch_norm_backward_elemt.default: _backward_elemt,
    aten._fused_dropout.default: _fused_dropout,
    aten._masked_scale.default: _masked_scale,
}
for _name, _kernel in (("mm", _mm), ("bmm", _mm), ("addmm", _addmm), ("baddbmm", _addmm)):
    _overload = getattr(getattr(aten, _name), "dtype", None)
    if _overload is not None:
        KERNELS[_overload] = _kernel


def plan_for(func: Any) -> Plan | None:
    """How an operator is run that has no kernel for the CPU; None for one that has."""
    kernel = KERNELS.get(func) or varlen_kernels.BY_NAME.get(func.name())
    if kernel is not None:
        return functools.partial(_run, kernel)
    has_kernel = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    if func.namespace == "aten" and not any(has_kernel(func.name(), key) for key in _ON_THE_CPU):
        return functools.partial(_run, functools.partial(_refuse, func.name().removeprefix("aten::")))
    return None


def _run(kernel: Callable[..., Any], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """On another backing than the CPU, the real device has the operator, or its shapes."""
    return compute(func, args, kwargs, kernel=kernel if machine().backing == CPU else None)


def _refuse(name: str, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError(
        f"{name} is an operator that PyTorch has for real accelerators only, and virtual GPUs compute on the CPU: "
        "leave out the option that asks for it, or compose the same of other operators"
    )
