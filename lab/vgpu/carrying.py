"""How gloo carries the numbers of a collective, with the reductions that it does not have itself.

Those are averages of integers, which are cut off towards zero as NCCL's are, and PREMUL_SUM, which multiplies each
rank's numbers with that rank's factor before they are added up.

An operator of `torch.ops.c10d` is handed its reduction in a box that does not give the factor away. So it is noted
where a program puts it into the options of a collective, just before it calls one.

Private PyTorch names used here: the schemas of `torch.ops.c10d`, `Work.unbox`, `ReduceOp.__getstate__`, and of
ProcessGroup, `_reduce_scatter_base`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._distributed_c10d import (
    AllreduceCoalescedOptions,
    AllreduceOptions,
    BroadcastOptions,
    ReduceOp,
    ReduceOptions,
    ReduceScatterOptions,
    Work,
)

from lab.vgpu.collectives import AVG, PREMUL_SUM, Bound
from lab.vgpu.tensor import VGPUTensor

_OF_ANY_SHAPE = dict.fromkeys(("_allgather_base_", "_reduce_scatter_base_"), ("output_tensor", "input_tensor"))
"""Collectives for which only the number of elements counts -> their arguments of which it does."""
_KNOWN = frozenset(
    {torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.uint8}
    | {torch.bool}
)
"""What gloo can carry."""


class _Noted(threading.local):
    factor: Any = None
    """Of the PREMUL_SUM that this thread put into the options of a collective last."""


_noted = _Noted()


def register() -> None:
    """Has factors noted from now on."""
    for options in (AllreduceOptions, AllreduceCoalescedOptions, ReduceOptions, ReduceScatterOptions):
        plain: Any = options.reduceOp
        options.reduceOp = property(plain.fget, _noting(plain.fset))  # type: ignore[assignment]


def _noting(put: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def noting(options: Any, reduction: Any) -> None:
        if reduction == ReduceOp.PREMUL_SUM:
            _noted.factor = reduction.__getstate__()[1]
        put(options, reduction)

    return noting


def carry(func: Any, group: Any, bound: Bound, reduction: int) -> None:
    """Has gloo do it with the CPU tensors, and waits for it.

    Args:
        func: the operator of `torch.ops.c10d`.
        bound: its arguments by name, with CPU tensors.
        reduction: as numbered by PyTorch; below 0 where there is none.
    """
    name = func._schema.name.removeprefix("c10d::")
    if name in _OF_ANY_SHAPE:  # to NCCL; gloo wants to see the pieces in the first dimension
        flat = {key: bound[key].view(-1) for key in _OF_ANY_SHAPE[name] if bound[key].is_contiguous()}
        bound = {**bound, **flat}
    if reduction < 0:
        bound = {key: _as_bytes(value) for key, value in bound.items()}
    if name == "alltoall_":
        _exchange(group, bound)
        return
    if name == "allgather_" and len({place.numel() for place in _flat(bound["output_tensors"])}) > 1:
        _gather_uneven(group, bound)
        return
    if reduction not in (AVG, PREMUL_SUM):
        result = func(**bound)
        Work.unbox(result[-1] if isinstance(result, tuple) else result).wait()
        return
    given, written, add = _SUMS[name]
    keeps = "root_rank" not in bound or bound["root_rank"] == group.rank()
    summands = bound[given]
    if reduction == PREMUL_SUM:
        summands = _scaled(summands, _factor())
    add(group, {**bound, given: summands}).wait()
    for result, total in zip(_flat(bound[written]), _flat(summands), strict=False):
        if given == written and result is not total and keeps:
            result.copy_(total)
        if reduction == AVG and keeps:
            whole = not (result.is_floating_point() or result.is_complex())
            result.div_(group.size(), rounding_mode="trunc" if whole else None)


def _exchange(group: Any, bound: Bound) -> None:
    """All-to-all of lists of tensors, whose pieces may differ in size; gloo has that for one tensor."""
    given, places = bound["input_tensors"], bound["output_tensors"]
    received = places[0].new_empty(sum(place.numel() for place in places))
    sizes = [[tensor.numel() for tensor in tensors] for tensors in (places, given)]
    group.alltoall_base(received, torch.cat([tensor.reshape(-1) for tensor in given]), *sizes).wait()
    for place, piece in zip(places, received.split(sizes[0]), strict=True):
        place.copy_(piece.view_as(place))


def _gather_uneven(group: Any, bound: Bound) -> None:
    """All-gather of pieces that differ in size: a broadcast from each rank, as NCCL does it."""
    (places,), (given,) = bound["output_tensors"], bound["input_tensors"]
    places[group.rank()].copy_(given.view_as(places[group.rank()]))
    for rank, place in enumerate(places):
        options = BroadcastOptions()
        options.rootRank = rank
        if place.numel():
            group.broadcast([place], options).wait()


def _factor() -> Any:
    factor, _noted.factor = _noted.factor, None
    if factor is None:
        raise RuntimeError(
            "the factor of this PREMUL_SUM is not known: give the reduction to a function of torch.distributed, or to "
            "options that are made for this one call"
        )
    return factor._data if isinstance(factor, VGPUTensor) else factor


def _scaled(value: Any, factor: Any) -> Any:
    if isinstance(value, Tensor):
        return (value * factor).to(value.dtype)
    return [_scaled(item, factor) for item in value]


def _as_bytes(value: Any) -> Any:
    """Numbers of a type that gloo does not know, in the same memory: they only have to get there."""
    if isinstance(value, Tensor):
        return value if value.dtype in _KNOWN else value.unsqueeze(-1).view(torch.uint8)
    return [_as_bytes(item) for item in value] if isinstance(value, list) else value


def _flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [tensor for item in value for tensor in _flat(item)]


def _reduce(group: Any, bound: Bound) -> Any:
    options = ReduceOptions()
    options.rootRank, options.rootTensor = bound["root_rank"], bound["root_tensor"]
    return group.reduce(bound["tensors"], options)


_SUMS: dict[str, tuple[str, str, Callable[[Any, Bound], Any]]] = {
    "allreduce_": ("tensors", "tensors", lambda group, bound: group.allreduce(bound["tensors"], AllreduceOptions())),
    "allreduce_coalesced_": (
        "tensors",
        "tensors",
        lambda group, bound: group.allreduce_coalesced(bound["tensors"], AllreduceCoalescedOptions()),
    ),
    "reduce_": ("tensors", "tensors", _reduce),
    "reduce_scatter_": (
        "input_tensors",
        "output_tensors",
        lambda group, bound: group.reduce_scatter(
            bound["output_tensors"], bound["input_tensors"], ReduceScatterOptions()
        ),
    ),
    "_reduce_scatter_base_": (
        "input_tensor",
        "output_tensor",
        lambda group, bound: group._reduce_scatter_base(
            bound["output_tensor"], bound["input_tensor"], ReduceScatterOptions()
        ),
    ),
    "reduce_scatter_tensor_coalesced_": (
        "inputs",
        "outputs",
        lambda group, bound: group.reduce_scatter_tensor_coalesced(
            bound["outputs"], bound["inputs"], ReduceScatterOptions()
        ),
    ),
}
"""Each operator that reduces: its arguments with what is given and what is written, and the same as a plain sum."""
