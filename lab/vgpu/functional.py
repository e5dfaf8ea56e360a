"""Functional collectives on virtual GPUs: those of `torch.distributed._functional_collectives`, on which DTensor and
tensor parallelism are built.

They give a new tensor and begin at once, and the device waits for them where somebody asks for that: `wait_tensor`,
which PyTorch's `AsyncCollectiveTensor` calls when its numbers are used first. Each is one of `torch.distributed`'s own
collectives into a tensor that is made for it, so they take the same time, wait for the same ranks and are told to the
same observers. Where PyTorch copies the input first, because its collective works in place, no time is counted for the
copy: NCCL can write to another place than it reads from.

Private PyTorch names used here: the operators of `torch.ops._c10d_functional`, `_c10d_functional_autograd`,
`c10d_functional`, `_dtensor` and `symm_mem`, `OpOverload.decompose`,
`torch.distributed._functional_collectives.AsyncCollectiveTensor`, and of `torch.distributed.distributed_c10d`,
`_resolve_process_group` and `supports_complex`; of ProcessGroup, `_allgather_base` and `_reduce_scatter_base`. Tried on
torch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import (
    AllreduceCoalescedOptions,
    AllreduceOptions,
    BroadcastOptions,
    ReduceScatterOptions,
    _resolve_process_group,
)
from torch.distributed import distributed_c10d

from lab.vgpu.collectives import REDUCTIONS
from lab.vgpu.memory import Block
from lab.vgpu.tensor import Plan, VGPUTensor, wrap
from lab.vgpu.works import EndedWork

_pending: WeakKeyDictionary[Block, list[EndedWork]] = WeakKeyDictionary()
"""What a memory's numbers come from, until somebody has waited for it."""


def plan_for(func: Any) -> Plan:
    """How an operator of one of the namespaces is run; asked once for each.

    Raises:
        NotImplementedError: for one that cannot be simulated; says which, and what to use.
    """
    namespace, name = func._schema.name.split("::")
    if namespace == "symm_mem":
        raise NotImplementedError(
            f"{namespace}::{name} works on symmetric memory, which virtual GPUs do not have; "
            "use a collective of torch.distributed for it"
        )
    if namespace == "c10d_functional":  # these only resolve the group, and call those below
        return lambda func, args, kwargs: func.decompose(*args, **kwargs)
    if name not in _FUNCTIONS:
        raise NotImplementedError(
            f"{namespace}::{name} is not possible with tensors on virtual GPUs; move them to the CPU for it"
        )
    function = _FUNCTIONS[name]
    return lambda func, args, kwargs: function(*args, **kwargs)


# -- pieces -----------------------------------------------------------------------------------------------------------


def _group(name: Any) -> Any:  # a name, or the group itself
    return _resolve_process_group(name) if isinstance(name, str) else name  # type: ignore[arg-type]


def _begun(work: EndedWork, tensors: Sequence[Any]) -> None:
    """From now on, whoever waits for one of the tensors waits for the work."""
    work.hand_over()
    for tensor in tensors:
        _pending.setdefault(tensor._block, []).append(work)


def _copy(source: VGPUTensor) -> VGPUTensor:
    """Without time."""
    return wrap(source._data.clone(memory_format=torch.contiguous_format), source._index)


def _resized(source: Tensor, numerator: int, denominator: int = 1) -> Tensor:
    """An empty tensor with so many times as many rows."""
    rows, *rest = source.shape or (1,)
    return source.new_empty([rows * numerator // denominator, *rest])


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _reduction(name: str, tensors: Sequence[Tensor]) -> Any:
    if name.upper() not in REDUCTIONS or name.upper() == "PREMUL_SUM":  # which has a factor beside its name
        raise RuntimeError(f"Unrecognized reduce_op: {name}")
    operation = getattr(dist.ReduceOp, name.upper())
    if any(tensor.is_complex() for tensor in tensors) and not distributed_c10d.supports_complex(operation):
        raise ValueError(f"{name} is not possible with complex numbers")
    return operation


# -- the operators, with the arguments of their schemas --------------------------------------------------------------


def _all_reduce_(input: Any, reduce_op: str, group_name: Any) -> Any:
    _all_reduce_coalesced_([input], reduce_op, group_name, AllreduceOptions, "allreduce")
    return input


def _all_reduce(input: Any, reduce_op: str, group_name: Any) -> Any:
    return _all_reduce_(_copy(input), reduce_op, group_name)


def _all_reduce_coalesced_(
    inputs: Any,
    reduce_op: str,
    group_name: Any,
    kind: Callable[[], Any] = AllreduceCoalescedOptions,
    method: str = "allreduce_coalesced",
) -> Any:
    options = kind()
    options.reduceOp = _reduction(reduce_op, inputs)
    _begun(getattr(_group(group_name), method)([_real(tensor) for tensor in inputs], options), inputs)
    return inputs


def _all_reduce_coalesced(inputs: Any, reduce_op: str, group_name: Any) -> Any:
    return _all_reduce_coalesced_([_copy(tensor) for tensor in inputs], reduce_op, group_name)


def _all_gather_into_tensor_out(input: Any, group_size: int, group_name: Any, *, out: Any) -> Any:
    _begun(_group(group_name)._allgather_base(_real(out), _real(input.contiguous())), [out])
    return out


def _all_gather_into_tensor(input: Any, group_size: int, group_name: Any) -> Any:
    return _all_gather_into_tensor_out(input, group_size, group_name, out=_resized(input, group_size))


def _all_gather_into_tensor_coalesced(inputs: Any, group_size: int, group_name: Any) -> Any:
    outputs = [_resized(tensor, group_size) for tensor in inputs]
    given = [_real(tensor.contiguous()) for tensor in inputs]
    work = _group(group_name).allgather_into_tensor_coalesced([_real(tensor) for tensor in outputs], given)
    _begun(work, outputs)
    return outputs


def _reduce_scatter_tensor_out(input: Any, reduce_op: str, group_size: int, group_name: Any, *, out: Any) -> Any:
    options = ReduceScatterOptions()
    options.reduceOp = _reduction(reduce_op, [input])
    _begun(_group(group_name)._reduce_scatter_base(_real(out), _real(input.contiguous()), options), [out])
    return out


def _reduce_scatter_tensor(input: Any, reduce_op: str, group_size: int, group_name: Any) -> Any:
    out = _resized(input, 1, group_size)
    return _reduce_scatter_tensor_out(input, reduce_op, group_size, group_name, out=out)


def _reduce_scatter_tensor_coalesced(inputs: Any, reduce_op: str, group_size: int, group_name: Any) -> Any:
    outputs = [_resized(tensor, 1, group_size) for tensor in inputs]
    options = ReduceScatterOptions()
    options.reduceOp = _reduction(reduce_op, inputs)
    given = [_real(tensor.contiguous()) for tensor in inputs]
    work = _group(group_name).reduce_scatter_tensor_coalesced([_real(tensor) for tensor in outputs], given, options)
    _begun(work, outputs)
    return outputs


def _all_to_all_single(
    input: Any, output_split_sizes: Sequence[int], input_split_sizes: Sequence[int], group_name: Any
) -> Any:
    output = input.new_empty([sum(output_split_sizes), *input.shape[1:]])
    given = _real(input.contiguous())
    work = _group(group_name).alltoall_base(_real(output), given, list(output_split_sizes), list(input_split_sizes))
    _begun(work, [output])
    return output


def _broadcast_(input: Any, src: int, group_name: Any) -> Any:
    options = BroadcastOptions()
    options.rootRank = src
    _begun(_group(group_name).broadcast([_real(input)], options), [input])
    return input


def _broadcast(input: Any, src: int, group_name: Any) -> Any:
    return _broadcast_(_copy(input), src, group_name)


def _isend(tensor: Any, dst: int, tag: int, group_name: Any) -> Any:
    sent = tensor.new_empty(0)  # as PyTorch's own: something to wait for
    _begun(_group(group_name).send([_real(tensor)], dst, tag), [sent])
    return sent


def _irecv(tensor: Any, src: int, tag: int, group_name: Any) -> Any:
    _begun(_group(group_name).recv([_real(tensor)], src, tag), [tensor])
    return tensor


def _batch_p2p_ops(
    op_list: Sequence[str], peer_list: Sequence[int], tag_list: Sequence[int], tensors: Sequence[Any], group_name: Any
) -> list[Any]:
    messages = zip(op_list, tensors, peer_list, tag_list, strict=True)
    return [
        (_isend if operation == "isend" else _irecv)(tensor, peer, tag, group_name)
        for operation, tensor, peer, tag in messages
    ]


def _shard_dim_alltoall(input: Tensor, gather_dim: int, shard_dim: int, group_name: Any) -> Tensor:
    """DTensor's change from one sharded dimension to another, with the same copies before and after as PyTorch's."""
    size = _group(group_name).size()
    pieces = input.unflatten(shard_dim, (size, -1)).movedim(shard_dim, 0).contiguous()  # (ranks, ...)
    received = torch.empty_like(pieces)
    _group(group_name).alltoall_base(_real(received), _real(pieces), [], []).wait()
    return received.movedim(0, gather_dim).flatten(gather_dim, gather_dim + 1).contiguous()


def _wait_tensor(tensor: Any) -> Any:
    for work in _pending.pop(tensor._block, ()):
        work.wait()
    return tensor


def _wrap_tensor_autograd(input: Any) -> Any:
    from torch.distributed._functional_collectives import AsyncCollectiveTensor

    return AsyncCollectiveTensor(input)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "_wrap_tensor_autograd": _wrap_tensor_autograd,
    "all_gather_into_tensor": _all_gather_into_tensor,
    "all_gather_into_tensor_coalesced": _all_gather_into_tensor_coalesced,
    "all_gather_into_tensor_out": _all_gather_into_tensor_out,
    "all_reduce": _all_reduce,
    "all_reduce_": _all_reduce_,
    "all_reduce_coalesced": _all_reduce_coalesced,
    "all_reduce_coalesced_": _all_reduce_coalesced_,
    "all_to_all_single": _all_to_all_single,
    "batch_p2p_ops": _batch_p2p_ops,
    "broadcast": _broadcast,
    "broadcast_": _broadcast_,
    "irecv": _irecv,
    "isend": _isend,
    "reduce_scatter_tensor": _reduce_scatter_tensor,
    "reduce_scatter_tensor_coalesced": _reduce_scatter_tensor_coalesced,
    "reduce_scatter_tensor_out": _reduce_scatter_tensor_out,
    "shard_dim_alltoall": _shard_dim_alltoall,
    "wait_tensor": _wait_tensor,
}
