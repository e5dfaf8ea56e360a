"""The collectives of torch.distributed: what each carries, and how the ranks agree on it before anything travels.

Every rank says what it calls, with which tensors, and when its device is ready. All get all answers. So ranks that call
different things learn of it, each with the same error, where gloo would end the process or wait for its time-out; and
all compute the same start on their own clocks.

Private PyTorch names used here: the schemas of `torch.ops.c10d`, `torch.ScriptObject.op` of a boxed ReduceOp,
`ProcessGroup._allgather_base`. Tried on torch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import AllgatherOptions

from lab.errors import DeviceError
from lab.vgpu.rings import PATTERNS, Pattern

Bound: TypeAlias = dict[str, Any]
"""An operator's arguments by name."""

_DTYPES = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
REDUCTIONS = ("SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR", "PREMUL_SUM")
"""As numbered by PyTorch."""
AVG, PREMUL_SUM = (REDUCTIONS.index(name) for name in ("AVG", "PREMUL_SUM"))
UNTIMED = -1
"""Stands for when a rank is ready whose clock stands still."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A collective."""

    name: str
    """One of `rings.PATTERNS`."""
    carries: Callable[[Bound], Sequence[Any]]
    """The tensors whose bytes count (see `rings.duration_ns`)."""
    equal: bool = True
    """Whether they must have as many elements on every rank."""

    @property
    def pattern(self) -> Pattern:
        return PATTERNS[self.name]


OPERATORS: dict[str, Operator] = {
    "allreduce_": Operator("all_reduce", lambda bound: bound["tensors"]),
    "allreduce_coalesced_": Operator("all_reduce", lambda bound: bound["tensors"]),
    "broadcast_": Operator("broadcast", lambda bound: bound["tensors"]),
    "reduce_": Operator("reduce", lambda bound: bound["tensors"]),
    "allgather_": Operator("all_gather", lambda bound: bound["input_tensors"]),
    "_allgather_base_": Operator("all_gather", lambda bound: [bound["input_tensor"]]),
    "allgather_coalesced_": Operator("all_gather", lambda bound: bound["input_list"]),
    "allgather_into_tensor_coalesced_": Operator("all_gather", lambda bound: bound["inputs"]),
    "reduce_scatter_": Operator("reduce_scatter", lambda bound: bound["output_tensors"]),
    "_reduce_scatter_base_": Operator("reduce_scatter", lambda bound: [bound["output_tensor"]]),
    "reduce_scatter_tensor_coalesced_": Operator("reduce_scatter", lambda bound: bound["outputs"]),
    "gather_": Operator("gather", lambda bound: bound["input_tensors"]),
    "scatter_": Operator("scatter", lambda bound: bound["output_tensors"]),
    "alltoall_": Operator("all_to_all", lambda bound: bound["input_tensors"], equal=False),
    "alltoall_base_": Operator("all_to_all", lambda bound: [bound["input"]], equal=False),
    "barrier": Operator("barrier", lambda bound: [bound["tensor"]]),
}
_NAMES = sorted({operator.name for operator in OPERATORS.values()})


@dataclass(frozen=True, slots=True)
class Call:
    """One rank's call of a collective. Integers all, for it travels as a tensor."""

    operator: int
    numbers: int
    """Elements of the tensors that it carries."""
    dtype: int
    reduction: int
    root: int
    size: int
    """Bytes of them."""
    device: int
    ready_ns: int
    """When the rank's device has come to it on the virtual clock; UNTIMED while that stands still."""

    def __str__(self) -> str:
        name = _NAMES[self.operator]
        if name == "barrier":
            return name
        reduction = f", {REDUCTIONS[self.reduction]}" if self.reduction >= 0 else ""
        root = f", root {self.root}" if self.root >= 0 else ""
        plural = "" if self.numbers == 1 else "s"
        dtype = str(_DTYPES[self.dtype]).removeprefix("torch.")
        return f"{name} of {self.numbers} {dtype} number{plural}{reduction}{root}"


def describe(operator: Operator, bound: Bound, device: int, ready_ns: int) -> Call:
    """This rank's call; `bound` are its arguments, with CPU tensors."""
    tensors = operator.carries(bound)
    flat = [tensor for item in tensors for tensor in (item if isinstance(item, list | tuple) else [item])]
    return Call(
        operator=_NAMES.index(operator.name),
        numbers=sum(tensor.numel() for tensor in flat),
        dtype=_DTYPES.index(flat[0].dtype) if flat else -1,
        reduction=int(bound["reduce_op"].op()) if "reduce_op" in bound else -1,
        root=bound.get("root_rank", -1),
        size=sum(tensor.nbytes for tensor in flat),
        device=device,
        ready_ns=ready_ns,
    )


def agree(group: Any, own: Call, operator: Operator, bound: Bound) -> list[Call]:
    """Every rank's call, by rank; waits until all have come.

    Raises:
        RuntimeError: when they do not call the same, or two share a device; on every rank, with what each called. When
            a rank does not come in time, or is gone: gloo's error.
    """
    if group.size() == 1:
        return [own]
    options = AllgatherOptions()
    timeout_ms = bound.get("timeout", -1)
    if timeout_ms > 0:
        options.timeout = timedelta(milliseconds=timeout_ms)
    mine = torch.tensor(astuple(own))
    everyone = torch.empty(group.size(), len(mine), dtype=torch.int64)
    group._allgather_base(everyone.view(-1), mine, options).wait()
    calls = [Call(*row) for row in everyone.tolist()]
    differ = any(_compared(call, operator) != _compared(own, operator) for call in calls)
    if differ and not _of_uneven_pieces(group, bound, calls):
        ranks = dist.get_process_group_ranks(group)
        said = "; ".join(f"rank {rank} calls {call}" for rank, call in zip(ranks, calls, strict=True))
        raise RuntimeError(
            f"the ranks do not call the same collective: {said}. Every rank of a process group must call the same "
            "collectives in the same order, with tensors of the same size and dtype."
        )
    _check_devices(group, calls)
    return calls


def _of_uneven_pieces(group: Any, bound: Bound, calls: Sequence[Call]) -> bool:
    """Whether it is an all-gather into a list, of pieces that differ in size, for which every rank has room. NCCL has
    that, too. All ranks ask each other, or none does, for all have the same calls.
    """
    kinds = {(_NAMES[call.operator], call.dtype) for call in calls}
    if len(kinds) > 1 or kinds.pop()[0] != "all_gather":
        return False
    places = bound.get("output_tensors", [[]])[0]
    fits = [place.numel() for place in places] == [call.numbers for call in calls]
    everyone = torch.empty(len(calls), dtype=torch.int64)
    group._allgather_base(everyone, torch.tensor([fits], dtype=torch.int64), AllgatherOptions()).wait()
    return bool(everyone.all())


def _compared(call: Call, operator: Operator) -> tuple[int, ...]:
    """What must be the same on all ranks."""
    return (call.operator, call.numbers if operator.equal else 0, call.dtype, call.reduction, call.root)


def _check_devices(group: Any, calls: Sequence[Call]) -> None:
    users: dict[int, int] = {}
    for index, call in enumerate(calls):
        if call.device in users:
            first, second = (dist.get_global_rank(group, rank) for rank in (users[call.device], index))
            raise DeviceError(
                f"ranks {first} and {second} both use vgpu:{call.device}. All ranks are on one machine of virtual "
                f"GPUs, so give each its own: for instance vgpu:{first} on rank {first}, vgpu:{second} on rank {second}"
            )
        users[call.device] = index
