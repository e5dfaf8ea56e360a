"""VGPUTensor: a tensor on a virtual GPU. It says `device='vgpu:1'`, and its numbers live in a CPU tensor.

PyTorch hands every operation on such a tensor to `__torch_dispatch__`, below autograd. There the CPU tensors are taken
out, the same operation runs on them (so results are bit-identical to the CPU's), the output is wrapped for the same
device, and memory and time are accounted.

Private PyTorch names used here: `torch._C._disabled_torch_function_impl`, `Tensor._make_wrapper_subclass`,
`OpOverload._schema`, `torch._C._current_graph_task_id`, `torch.utils._mode_utils.no_dispatch`, `UntypedStorage._cdata`.
Tried on torch 2.13.0.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

import torch
from torch.utils._mode_utils import no_dispatch

from lab.errors import DeviceError
from lab.vgpu.clock import HOST
from lab.vgpu.machine import Machine
from lab.vgpu.memory import Block

aten = torch.ops.aten
Plan: TypeAlias = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
CPU = torch.device("cpu")

_machine: Machine | None = None
_DEVICES: dict[int, torch.device] = {}


def machine() -> Machine:
    """The machine that is simulated in this process.

    Raises:
        DeviceError: before `lab.vgpu.enable()`.
    """
    if _machine is None:
        raise DeviceError("there are no virtual GPUs yet: call lab.vgpu.enable(devices=2) first")
    return _machine


def set_machine(new: Machine) -> None:
    global _machine
    _machine = new


class _ThreadState(threading.local):
    ready = False
    current_device = 0


thread_state = _ThreadState()


def prepare_thread() -> None:
    """Makes backward run in the thread that calls it.

    PyTorch's Python device guard reports one device, so the engine's own threads cannot tell vgpu:1 from vgpu:0. The
    setting belongs to a thread; each thread makes it at its first operation on a virtual GPU.
    """
    torch.autograd.set_multithreading_enabled(False)
    thread_state.ready = True


class _Raises(tuple[Any, ...]):
    """An operation's result during backward that raises as soon as PyTorch looks at it.

    An error that is simply raised is still set in the interpreter while the autograd engine unwinds. The engine then
    calls the Python device guard, which fails for that reason where C++ allows no failure, and the process is aborted.
    An error that comes from looking at a result has been taken out of the interpreter before.
    """

    def __new__(cls, error: BaseException) -> _Raises:
        raises = super().__new__(cls)
        raises.error = error
        return raises

    error: BaseException

    def _raise(self, *args: object) -> NoReturn:
        raise self.error

    __len__ = __getitem__ = __iter__ = __str__ = __repr__ = _raise


class VGPUTensor(torch.Tensor):
    """A tensor on a virtual GPU. Made by PyTorch's own functions with `device="vgpu:i"`, never by hand."""

    _data: torch.Tensor
    """The numbers, on the CPU."""
    _block: Block
    _index: int

    # Outputs are wrapped below autograd already; the default would wrap them once more above it, slowly.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not thread_state.ready:
            prepare_thread()
        plan = _PLANS.get(func)
        if plan is None:
            plan = _PLANS[func] = _plan(func)
        try:
            return plan(func, args, kwargs or {})
        except BaseException as error:
            if torch._C._current_graph_task_id() == -1:
                raise
            return _Raises(error)

    # With these two, Module.to swaps a parameter for its copy in place, so that tied parameters stay tied.
    def __tensor_flatten__(self) -> tuple[list[str], tuple[int, Block]]:
        return ["_data"], (self._index, self._block)

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, torch.Tensor], about: tuple[int, Block], size: Any, stride: Any
    ) -> VGPUTensor:
        index, block = about
        data = inner["_data"]
        return wrap_in(data, index, block) if block.key == data.untyped_storage()._cdata else wrap(data, index)

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def new_tensor(
        self,
        data: Any,
        dtype: torch.dtype | None = None,
        device: Any = None,
        requires_grad: bool = False,
        pin_memory: bool = False,
    ) -> torch.Tensor:
        # PyTorch's own asks the device guard, which knows one device only.
        here = self.device if device is None else device
        return torch.tensor(
            data, dtype=dtype or self.dtype, device=here, requires_grad=requires_grad, pin_memory=pin_memory
        )

    def __format__(self, spec: str) -> str:
        # torch.Tensor's own looks at the number in a tensor of exactly its class only.
        return format(self.item() if self.dim() == 0 else str(self), spec)

    @property
    def data(self) -> torch.Tensor:
        return torch.Tensor.data.__get__(self)  # type: ignore[attr-defined, no-any-return]

    @data.setter
    def data(self, other: torch.Tensor) -> None:
        torch.Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        if isinstance(other, VGPUTensor):
            self._data, self._block, self._index = other._data, other._block, other._index

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        with no_dispatch():
            text = repr(self._data.detach())
        about = [f"device='{self.device}'"]
        if self.grad_fn is not None:
            about.append(f"grad_fn=<{type(self.grad_fn).__name__}>")
        elif self.requires_grad:
            about.append("requires_grad=True")
        inside = text[:-1] if text.endswith(")") else text
        return f"{inside}, {', '.join(about)})"


def wrap(data: torch.Tensor, index: int, inputs: Sequence[VGPUTensor] = ()) -> VGPUTensor:
    """A tensor on vgpu:`index` around `data`, which shares an input's memory when it is a view of it."""
    key = data.untyped_storage()._cdata
    for source in inputs:
        if source._block.key == key:
            return wrap_in(data, index, source._block)
    storage = data.untyped_storage()
    return wrap_in(data, index, Block(machine().pool(index), key, storage.nbytes()))


def wrap_in(data: torch.Tensor, index: int, block: Block) -> VGPUTensor:
    device = _DEVICES.get(index)
    if device is None:
        device = _DEVICES[index] = torch.device("vgpu", index)
    tensor: VGPUTensor = torch.Tensor._make_wrapper_subclass(
        VGPUTensor,
        data.size(),
        strides=data.stride(),
        storage_offset=data.storage_offset(),
        dtype=data.dtype,
        device=device,
    )
    tensor._data = data
    tensor._block = block
    tensor._index = index
    return tensor


# -- the common path: an operation whose tensors all live on one device ------------------------------------------


class _Unwrapper:
    """Takes the CPU tensors out of an operation's arguments, and checks that all live on one device."""

    __slots__ = ("_func", "_stranger", "index", "inputs")

    def __init__(self, func: Any) -> None:
        self._func = func
        self._stranger: torch.Tensor | None = None
        self.index = -1
        self.inputs: list[VGPUTensor] = []

    def __call__(self, value: Any) -> Any:
        if type(value) is VGPUTensor:
            if value._index != self.index:
                if self.index >= 0:
                    self._refuse(f"vgpu:{self.index}", value.device)
                self.index = value._index
                if self._stranger is not None:
                    self._refuse(f"vgpu:{self.index}", self._stranger.device)
            self.inputs.append(value)
            return value._data
        if isinstance(value, torch.Tensor):
            # As on CUDA, a number that happens to be a CPU tensor without dimensions may take part.
            if value.dim():
                if self.index >= 0:
                    self._refuse(f"vgpu:{self.index}", value.device)
                self._stranger = value  # until it is known which device it should have been on
            return value
        if type(value) is list or type(value) is tuple:
            if self._func in _CPU_INDICES:
                return type(value)(map(self._index_of, value))
            return type(value)(map(self, value))
        return value

    def _index_of(self, value: Any) -> Any:
        """As on CUDA, an index may lie on the CPU."""
        return value if isinstance(value, torch.Tensor) and value.device == CPU else self(value)

    def _refuse(self, first: str, second: torch.device) -> None:
        name = self._func._schema.name.replace("aten::", "")
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {first} and {second}! "
            f"(when checking arguments in method wrapper_VGPU_{name})"
        )


_CPU_INDICES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


def _compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs an operation whose outputs are new tensors, or views of its inputs, on their one device."""
    unwrap = _Unwrapper(func)
    plain = [unwrap(value) for value in args]
    if kwargs:
        kwargs = {name: CPU if name == "device" else unwrap(value) for name, value in kwargs.items()}
    started = time.perf_counter_ns()
    result = func(*plain, **kwargs)
    index = unwrap.index
    if func not in _INSTANT:
        machine().record(index, started, func, plain, result)
    if isinstance(result, torch.Tensor):
        return wrap(result, index, unwrap.inputs)
    if isinstance(result, tuple | list):
        return type(result)(wrap(r, index, unwrap.inputs) if isinstance(r, torch.Tensor) else r for r in result)
    return result


def _compute_in_place(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs an operation that writes into arguments and returns them (`add_`, `out=`), maybe beside new outputs."""
    unwrap = _Unwrapper(func)
    plain = [unwrap(value) for value in args]
    plain_kwargs = {name: CPU if name == "device" else unwrap(value) for name, value in kwargs.items()}
    started = time.perf_counter_ns()
    result = func(*plain, **plain_kwargs)
    if unwrap.index >= 0 and func not in _INSTANT:
        machine().record(unwrap.index, started, func, plain, result)
    for tensor in unwrap.inputs:
        data = tensor._data
        if tensor._block.size != data.untyped_storage().nbytes() or not _same_layout(data, tensor):
            _follow(tensor)
    by_data = {id(tensor._data): tensor for tensor in unwrap.inputs}

    def give_back(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        known = by_data.get(id(value))
        return wrap(value, unwrap.index, unwrap.inputs) if known is None else known

    if isinstance(result, tuple | list):
        return type(result)(map(give_back, result))
    return give_back(result)


def _same_layout(data: torch.Tensor, tensor: VGPUTensor) -> bool:
    return data.size() == tensor.size() and data.stride() == tensor.stride()


def _follow(tensor: VGPUTensor) -> None:
    """After `resize_`, `transpose_` or `out=` changed the CPU tensor: the device tensor and its memory follow."""
    data = tensor._data
    storage = data.untyped_storage()
    if tensor._block.key == storage._cdata:
        tensor._block.resize(storage.nbytes())
    else:
        tensor._block = Block(machine().pool(tensor._index), storage._cdata, storage.nbytes())
    if not _same_layout(data, tensor):
        # The device tensor's own storage is a size without bytes; it takes over that of a tensor of the new size.
        _take_over_storage(tensor, wrap_in(data, tensor._index, tensor._block))


def _take_over_storage(tensor: VGPUTensor, other: VGPUTensor) -> None:
    """As torch.utils._python_dispatch does to make a wrapper's output alias its input."""
    included = torch._C._meta_in_tls_dispatch_include()
    torch._C._set_meta_in_tls_dispatch_include(True)
    try:
        with no_dispatch():
            aten.set_.source_Storage_storage_offset(
                tensor, other.untyped_storage(), other.storage_offset(), other.size(), other.stride()
            )
    finally:
        torch._C._set_meta_in_tls_dispatch_include(included)


# -- what crosses devices -----------------------------------------------------------------------------------------


def move(data: torch.Tensor, source: int, target: int, *, host_waits: bool) -> None:
    """Counts a copy of `data` between devices (or HOST) on the clock."""
    here = machine()
    if here.timing:
        here.clock.transfer(source, target, data.numel() * data.element_size(), host_waits=host_waits)


def _place(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The CPU tensor behind it, and its device's index (or HOST)."""
    return (tensor._data, tensor._index) if type(tensor) is VGPUTensor else (tensor, HOST)


def _copy_(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return copy(*args, **kwargs)


def copy(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Copies numbers into `target`, within a device or from one to another."""
    (to, to_index), (data, from_index) = _place(target), _place(source)
    started = time.perf_counter_ns()
    to.copy_(data)
    if from_index == to_index:
        machine().record(to_index, started, aten.copy_.default, (to, data), to)
    else:
        move(data, from_index, to_index, host_waits=HOST in (from_index, to_index) and not non_blocking)
    return target


def _to_copy(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Tensor.to` of a tensor on a virtual GPU; copies to another device, or changes the dtype on the same one."""
    source: VGPUTensor = args[0]
    kwargs = dict(kwargs)
    device = kwargs.pop("device", None) or source.device
    non_blocking = kwargs.pop("non_blocking", False)
    kwargs.pop("pin_memory", None)
    started = time.perf_counter_ns()
    data = aten._to_copy.default(source._data, **kwargs)
    if device.type == "vgpu":
        index = device_index(device)
        if index == source._index:
            machine().record(index, started, func, (source._data,), data)
        else:
            move(source._data, source._index, index, host_waits=False)
        return wrap(data, index)
    move(source._data, source._index, HOST, host_waits=not non_blocking)
    return data.to(device)


def _scalar(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`.item()`: the host waits for the device."""
    source: VGPUTensor = args[0]
    move(source._data, source._index, HOST, host_waits=True)
    return func(source._data)


def _like(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`zeros_like`, `new_empty` and the like, which may name another device than their input's."""
    device = kwargs.get("device")
    if device is None or (device.type == "vgpu" and device_index(device) == args[0]._index):
        return _compute(func, args, kwargs)
    plain = func(args[0]._data, *args[1:], **{**kwargs, "device": CPU if device.type == "vgpu" else device})
    return wrap(plain, device_index(device)) if device.type == "vgpu" else plain


def device_index(device: torch.device) -> int:
    """The index of a `vgpu` device, the current one where it names none.

    Raises:
        DeviceError: when there is no such device.
    """
    return machine().check(thread_state.current_device if device.index is None else device.index)


# -- which way an operation goes -----------------------------------------------------------------------------------

_PLANS: dict[Any, Plan] = {
    aten.copy_.default: _copy_,
    aten._to_copy.default: _to_copy,
    aten._local_scalar_dense.default: _scalar,
}

_INSTANT: set[Any] = {
    aten.detach.default,
    aten.alias.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}
"""Operations that launch nothing on a device; views join them as they are met."""


def _plan(func: Any) -> Plan:
    """Decides once per operator, from its schema, how it is run."""
    schema = func._schema
    returns = [value.alias_info for value in schema.returns]
    if torch.Tag.inplace_view in func.tags:
        _INSTANT.add(func)
    if any(value.alias_info is not None and value.alias_info.is_write for value in schema.arguments):
        return _compute_in_place
    if returns and all(info is not None for info in returns):
        _INSTANT.add(func)
    if any(argument.name == "device" for argument in schema.arguments):
        return _like
    return _compute
