"""torch.distributed on virtual GPUs: the backend `vgloo`.

    lab.vgpu.enable(devices=2)          # in every rank's process: all see the same machine
    dist.init_process_group("cpu:gloo,vgpu:vgloo", store=store, rank=rank, world_size=2)
    net = DistributedDataParallel(net.to(f"vgpu:{rank}"))

Numbers travel between the processes by gloo. Time is simulated, as NCCL's goes: a collective is put on a stream of its
own, so that the device computes meanwhile; it starts on all ranks when the last one has come to it; it takes what its
ring takes (`lab.vgpu.rings`); and a stream that waits for it goes on when it has ended. What ranks do on the CPU
(`cpu:gloo`) takes no simulated time.

A rank's process waits in a collective until all ranks have called it, also where `async_op=True`; sends and receives
are completed when they are waited for. Copies inside a rank and collectives do not slow each other down.

Operators of `torch.ops.c10d` come to a tensor's `__torch_dispatch__` as every other, so PyTorch's own process groups
and DistributedDataParallel work as they are.

Private PyTorch names used here: the operators of `torch.ops.c10d`, `OpOverload._schema`, `ProcessGroup.unbox`,
`torch._C._distributed_c10d.Reducer` and `Logger`, whose names in `torch.distributed` go to those here. Tried on
torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Logger, Reducer

from lab.vgpu import carrying, coalescing, collectives, functional, groups, messages, rings
from lab.vgpu.clock import Stream, VirtualClock
from lab.vgpu.collectives import OPERATORS, UNTIMED, Bound, Call, Operator
from lab.vgpu.observer import Collective
from lab.vgpu.tensor import Plan, VGPUTensor, machine, thread_state
from lab.vgpu.works import EndedWork

BACKEND = groups.BACKEND
_streams: WeakKeyDictionary[Any, WeakKeyDictionary[VirtualClock, dict[int, Stream]]] = WeakKeyDictionary()
"""The communication streams: of each process group, on each clock, by device."""


_prepared: WeakSet[Any] = WeakSet()
"""The process groups that can carry CPU tensors."""


def register() -> None:
    """Makes `vgloo` known to torch.distributed; does nothing the second time, nor in a PyTorch without gloo."""
    if dist.is_gloo_available() and BACKEND not in dist.Backend.backend_list:
        dist.Backend.register_backend(BACKEND, _create, devices=["cpu", "vgpu"])
        dist.Backend.backend_capability[dist.Backend.GLOO].append("vgpu")
        groups.register()
        carrying.register()
        coalescing.register()
        dist.Reducer = _Reducer  # type: ignore[attr-defined]
        dist.Logger = _Logger  # type: ignore[attr-defined]


def _create(store: Any, rank: int, size: int, timeout: timedelta) -> Any:
    return dist.ProcessGroupGloo(store, rank, size, timeout=timeout)


class _Reducer(Reducer):
    """What DistributedDataParallel averages gradients with.

    To find unused parameters it keeps a map of those that were used, and brings it to a device by way of pinned memory,
    which a backend in Python cannot offer. The map, its only tensor of int32, stays on the CPU instead; so its
    all-reduce, of 4 bytes for each parameter, takes no simulated time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with _map_on_cpu():
            super().__init__(*args, **kwargs)
        self.on_vgpu = any(parameter.device.type == "vgpu" for parameter in args[0])

    def _set_static_graph(self) -> None:
        with _map_on_cpu():
            super()._set_static_graph()


class _Logger(Logger):
    """DistributedDataParallel's record of its own times, which PyTorch takes on the CPU and CUDA alone: elsewhere it
    would print a warning for every run."""

    def __init__(self, reducer: Any) -> None:
        super().__init__(reducer)
        self._takes_times = not getattr(reducer, "on_vgpu", False)

    def set_runtime_stats_and_log(self) -> None:
        if self._takes_times:
            super().set_runtime_stats_and_log()


@contextmanager
def _map_on_cpu() -> Iterator[None]:
    thread_state.makes_reducer = True
    try:
        yield
    finally:
        thread_state.makes_reducer = False


def plan_for(func: Any) -> Plan:
    """How an operator of `torch.ops.c10d`, or a functional collective, is run; asked once for each.

    Raises:
        NotImplementedError: for one that cannot be simulated.
    """
    if func.namespace != "c10d":
        return functional.plan_for(func)
    name = func._schema.name.removeprefix("c10d::")
    if name in OPERATORS:
        return functools.partial(_collective, OPERATORS[name])
    if name in messages.OPERATORS:
        return functools.partial(_message, messages.OPERATORS[name])
    raise NotImplementedError(f"{name} is not possible with tensors on virtual GPUs; move them to the CPU for it")


def _bind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Bound, int]:
    """The arguments by name, with the CPU tensors behind those on the device, and its index."""
    found: set[torch.device] = set()

    def unwrap(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            found.add(value.device)
            return value._data if isinstance(value, VGPUTensor) else value
        return [unwrap(item) for item in value] if isinstance(value, list | tuple) else value

    names = [argument.name for argument in func._schema.arguments]
    bound = {**dict(zip(names, map(unwrap, args), strict=False)), **{name: unwrap(kwargs[name]) for name in kwargs}}
    if len(found) != 1:
        devices = " and ".join(sorted(map(str, found)))
        raise RuntimeError(
            f"Expected all tensors of {func._schema.name.removeprefix('c10d::')} to be on the same device, "
            f"but found {devices}!"
        )
    index: int = found.pop().index
    return bound, index


def _group(bound: Bound) -> Any:
    """The process group of a call, which can carry CPU tensors.

    Raises:
        DeviceError: when it was not made for virtual GPUs.
    """
    group = dist.ProcessGroup.unbox(bound["process_group"])
    if group not in _prepared:
        groups.prepare(group)
        _prepared.add(group)
    return group


def _collective(operator: Operator, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound, device = _bind(func, args, kwargs)
    group = _group(bound)
    here = machine()
    stream = _communication_stream(group, here.clock, device)
    ready_ns = max(here.clock.issue(device), stream.free_ns) if here.timing else UNTIMED
    own = collectives.describe(operator, bound, device, ready_ns)
    calls = collectives.agree(group, own, operator, bound)
    if operator.name != "barrier":  # which that was already
        carrying.carry(func, group, bound, own.reduction)
    if here.timing:
        _schedule(operator, group, calls, stream)
    outputs = list(_tensors(args[0]))
    work = EndedWork(here.clock, device, stream.free_ns, outputs, host_waits=operator.name == "barrier")
    coalescing.begun(group, work)
    # An operator with two results gives back what it wrote into, its first argument.
    return (args[0], work.boxed()) if len(func._schema.returns) == 2 else work.boxed()


def _schedule(operator: Operator, group: Any, calls: Sequence[Call], stream: Stream) -> None:
    """Gives the collective its time, and tells the observers."""
    here, own = machine(), calls[group.rank()]
    devices = [here.check(call.device) for call in calls]
    size = max(call.size for call in calls)
    start_ns = max(call.ready_ns for call in calls)
    last = dist.get_global_rank(group, next(rank for rank, call in enumerate(calls) if call.ready_ns == start_ns))
    link = rings.slowest_link(here.clock.topology, devices)
    end_ns = start_ns + rings.duration_ns(operator.pattern, size, len(calls), link)
    stream.wait_until(end_ns)
    here.clock.tell_collective(
        Collective(own.device, stream.number, operator.name, own.size, own.ready_ns, start_ns, end_ns, last)
    )


def _communication_stream(group: Any, clock: VirtualClock, device: int) -> Stream:
    """NCCL has one for each communicator, which is one for each process group and device."""
    of_clock = _streams.setdefault(group, WeakKeyDictionary()).setdefault(clock, {})
    if device not in of_clock:
        of_clock[device] = clock.new_stream(device)
    return of_clock[device]


def _tensors(value: Any) -> Sequence[Any]:
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, list | tuple) else [value]


def _message(direction: messages.Direction, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound, device = _bind(func, args, kwargs)
    group = _group(bound)
    message = messages.post(direction, func, group, bound, device, _tensors(args[0]))
    coalescing.begun(group, message)
    return message.boxed()
