"""VGPUTensor: a tensor on a virtual GPU. It says `device='vgpu:1'`, and its numbers live in a CPU tensor.

PyTorch hands every operation on such a tensor to `__torch_dispatch__`, below autograd. There the CPU tensors are taken
out, the same operation runs on them (so results are bit-identical to the CPU's), the output is wrapped for the same
device, and memory and time are accounted.

Private PyTorch names used here: `torch._C._disabled_torch_function_impl`, `Tensor._make_wrapper_subclass`,
`torch._C._set_conj`, `torch._C._set_neg`, `torch.utils._mode_utils.no_dispatch`,
`UntypedStorage._cdata`.
Tried on torch 2.13.0.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.utils._mode_utils import no_dispatch

from lab.errors import DeviceError
from lab.vgpu import layouts
from lab.vgpu.machine import Machine
from lab.vgpu.memory import Block, reserve
from lab.vgpu.storage import VGPUStorage, lacks_room, short

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
    thread_state.current_device = 0


class _ThreadState(threading.local):
    current_device = 0
    makes_reducer = False
    """While DistributedDataParallel is made: see `lab.vgpu.distributed`."""


thread_state = _ThreadState()


class _Plans(dict[Any, Plan]):
    """How each operator is run; decided when it is met first."""

    def __missing__(self, func: Any) -> Plan:
        from lab.vgpu.operators import plan_for

        plan = self[func] = plan_for(func)
        return plan


PLANS = _Plans()


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
        # Another class that knows what to do with its tensors, as DTensor, goes first: to us they would be plain data.
        if len(types) > 1 and not all(issubclass(kind, VGPUTensor) for kind in types):
            return NotImplemented
        return PLANS[func](func, args, kwargs or {})

    def __coerce_same_metadata_as_tangent__(self, expected: Any, kind: Any = None) -> VGPUTensor | None:
        # Compiled code expects a plain tensor as a gradient, and this is one.
        return self if kind in (None, torch.Tensor) else None

    def __reduce_ex__(self, protocol: Any) -> Any:
        from lab.vgpu import saving

        return saving.reduce(self)

    def __deepcopy__(self, memo: dict[Any, Any]) -> VGPUTensor:
        from lab.vgpu import saving

        return saving.deep_copy(self, memo)

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def data_ptr(self) -> int:
        data = self._data
        if data.is_meta and self._block.real is not None and data.numel():
            return self.untyped_storage().data_ptr() + int(data.storage_offset()) * data.element_size()
        return data.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        block = self._block
        return block if block.real is not None else self._data.untyped_storage()  # which says that there is none

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
        return torch._C.TensorBase.data.__get__(self)  # type: ignore[attr-defined, no-any-return]

    @data.setter
    def data(self, other: torch.Tensor) -> None:
        # On another device it becomes another tensor in C++ too, so that backward through an old graph is refused.
        if not isinstance(other, VGPUTensor) or (other._index != self._index and self.is_leaf):
            from lab.vgpu.modules import replace_data

            replace_data(self, other)
        else:
            torch._C.TensorBase.data.__set__(self, other)  # type: ignore[attr-defined]
            # Memory is shared from now on, but not the layout, which may change in place.
            self._data, self._block, self._index = other._data.detach(), other._block, other._index

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        with no_dispatch():
            data = self._data.detach()
            unreadable = data.is_meta or (short and lacks_room(self))
            text = f"tensor(..., size={tuple(data.shape)})" if unreadable else repr(data.cpu())
        about = [f"device='{self.device}'"]
        if self.grad_fn is not None:
            about.append(f"grad_fn=<{type(self.grad_fn).__name__}>")
        elif self.requires_grad:
            about.append("requires_grad=True")
        inside = text[:-1] if text.endswith(")") else text
        title = "Parameter containing:\n" if getattr(self, "_is_param", False) else ""
        return f"{title}{inside}, {', '.join(about)})"


def device_index(device: torch.device) -> int:
    """The index of a `vgpu` device, the current one where it names none.

    Raises:
        DeviceError: when there is no such device.
    """
    return machine().check(thread_state.current_device if device.index is None else device.index)


def wrap(data: torch.Tensor, index: int, inputs: Sequence[VGPUTensor] = ()) -> VGPUTensor:
    """A tensor on vgpu:`index` around `data`, which shares an input's memory when it is a view of it."""
    try:
        storage = data.untyped_storage()
    except NotImplementedError:  # a sparse tensor has several
        return wrap_in(data, index, Block(machine().pool(index), layouts.key_of(data), layouts.bytes_of(data)))
    key = storage._cdata
    for source in inputs:
        if source._block.key == key:
            return wrap_in(data, index, source._block)
    return wrap_in(data, index, reserve(VGPUStorage, machine().pool(index), key, storage.nbytes(), inputs, storage))


def wrap_in(data: torch.Tensor, index: int, block: Block) -> VGPUTensor:
    device = _DEVICES.get(index)
    if device is None:
        device = _DEVICES[index] = torch.device("vgpu", index)
    if data.layout is torch.strided and not data.is_nested:
        tensor: VGPUTensor = torch.Tensor._make_wrapper_subclass(
            VGPUTensor,
            data.size(),
            strides=data.stride(),
            storage_offset=data.storage_offset(),
            dtype=data.dtype,
            device=device,
        )
    else:
        tensor = layouts.outer(VGPUTensor, data, device)
    tensor._data = data
    tensor._block = block
    tensor._index = index
    # Where the numbers are to be conjugated or negated when they are read, PyTorch's own code asks the tensor for it.
    if data.is_neg():
        torch._C._set_neg(tensor, True)
    if data.is_conj():
        torch._C._set_conj(tensor, True)
    return tensor
