"""Storages on virtual GPUs: what a tensor's `untyped_storage()` is, `torch.UntypedStorage(16, device="vgpu:1")`, and
the typed ones over it.

A storage here is the block of memory that the ledger counts, so all tensors on it have the same one, and what resizes
it shows in the memory figures. Its numbers are in a storage on the backing, `real`, and reading or writing them takes
the time of the operation that does so. Fully sharded training frees gathered weights by `resize_(0)` while tensors
still refer to them; such a tensor is refused by `check_room` until its memory is back.

Private PyTorch names used here: `torch._C.StorageBase`, `TypedStorage._new_wrapped_storage`,
`TypedStorage(wrap_storage=, _internal=)`, `torch.storage._LegacyStorage`, `torch.storage._dtype_to_storage_type_map`,
`UntypedStorage._byteswap`, `_set_from_file`, `_write_file` and `_get_filename`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils import backend_registration

from lab.vgpu.backing import need_numbers
from lab.vgpu.memory import Block

short: dict[int, int] = {}
"""Storages that were made smaller, by the address of the numbers: how many bytes they once had."""


class VGPUStorage(Block):
    """A storage on a virtual GPU, as a program sees it."""

    __slots__ = ()

    real: torch.UntypedStorage

    def __new__(cls, *args: Any, device: Any = None) -> Any:
        return torch.UntypedStorage(*args, device=device)  # as `type(storage)(16)` gives one on the CPU

    def __del__(self) -> None:
        if short:
            short.pop(self.key, None)
        super().__del__()

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("vgpu", self.pool.index)

    @property
    def filename(self) -> None:
        return None

    def nbytes(self) -> int:
        return self.real.nbytes()

    def __len__(self) -> int:
        return self.real.nbytes()

    def data_ptr(self) -> int:
        # On `meta` everything is at 0, but what is shared must be found by its address there too.
        return self.real.data_ptr() or (self.key if self.real.nbytes() else 0)

    def resizable(self) -> bool:
        return self.real.resizable()

    def is_shared(self) -> bool:
        return True  # as of CUDA's

    def share_memory_(self, *args: Any, **kwargs: Any) -> VGPUStorage:
        return self

    def is_pinned(self, device: Any = None) -> bool:
        return False

    def type(self, dtype: Any = None, non_blocking: bool = False) -> Any:
        if dtype in (torch.UntypedStorage, "torch.storage.UntypedStorage", "torch.UntypedStorage"):
            return self
        return super().type(dtype, non_blocking)

    # -- its size --------------------------------------------------------------------------------------------------

    def resize_(self, size: int) -> VGPUStorage:
        """Makes it larger or smaller; what fits is kept.

        Raises:
            torch.OutOfMemoryError: when the device has not so much memory left.
        """
        if not isinstance(size, int):
            raise TypeError(f"resize_ expects an int, but got {type(size)}")
        if size < 0:
            raise RuntimeError(f"a storage cannot have {size} bytes")
        before = self.real.nbytes()
        self.resize(size)
        try:
            self.real.resize_(size)
        except RuntimeError:
            self.resize(before)
            raise
        if size < before:
            short.setdefault(self.key, before)
        elif size >= short.get(self.key, size):
            short.pop(self.key, None)
        return self

    # -- its numbers -----------------------------------------------------------------------------------------------

    def _bytes(self) -> torch.Tensor:
        """A tensor of all its bytes."""
        from lab.vgpu.tensor import wrap_in

        return wrap_in(bytes_of(self.real), self.pool.index, self)

    def _host_bytes(self) -> torch.Tensor:
        return self._bytes().cpu()

    def fill_(self, value: int) -> VGPUStorage:
        self._bytes().fill_(value)
        return self

    def copy_(self, source: Any, non_blocking: bool | None = None) -> Any:
        copy_storage(self, source, bool(non_blocking))
        return self

    def clone(self) -> VGPUStorage:
        cloned = make(self.nbytes(), self.pool.index)
        copy_storage(cloned, self)
        return cloned

    def new(self) -> VGPUStorage:
        return make(0, self.pool.index)

    def cpu(self) -> torch.UntypedStorage:
        return self._host_bytes().untyped_storage()

    def to(self, *, device: Any, non_blocking: bool = False) -> torch.UntypedStorage:
        there = torch.device(device)
        if there.type == "vgpu":
            from lab.vgpu.tensor import device_index

            index = device_index(there)
            if index == self.pool.index:
                return self
            moved = make(self.nbytes(), index)
            copy_storage(moved, self, non_blocking)
            return moved
        plain = self.cpu()
        return plain if there.type == "cpu" else plain.to(device=there, non_blocking=non_blocking)

    def tolist(self) -> list[int]:
        numbers: list[int] = self._host_bytes().tolist()
        return numbers

    def __iter__(self) -> Iterator[int]:
        return iter(self.tolist())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            need_numbers(bytes_of(self.real), self.device)
            return _part_of(self, self.real[index])
        return self._bytes()[_position(index, len(self))].item()

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(value, int):
            raise TypeError(f"can only set storage content with an int, but got {type(value).__name__}")
        self._bytes()[index if isinstance(index, slice) else _position(index, len(self))] = value

    def __delitem__(self, index: Any) -> None:
        raise TypeError("a storage's bytes cannot be deleted one by one: resize it with resize_")

    def __repr__(self) -> str:
        about = f"[{torch.typename(self)}(device={self.device}) of size {len(self)}]"
        if self.real.device.type == "meta":
            return f"...\n{about}"
        return " " + "\n ".join(map(str, bytes_of(self.real).tolist())) + f"\n{about}"

    # -- files and pickles -----------------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        return _from_bytes, (bytes(self._host_bytes().numpy()), str(self.device))

    # In C++ these two trust that they get all their arguments.
    def _write_file(self, file: Any, is_real_file: bool, save_size: bool, element_size: int) -> Any:
        return self.cpu()._write_file(file, is_real_file, save_size, element_size)

    def _set_from_file(self, file: Any, offset: Any, is_real_file: bool, element_size: int) -> Any:
        # Files of the time before the zip format bring the numbers after the tensors.
        self.real._set_from_file(file, offset, is_real_file, element_size)
        return self

    def _byteswap(self, *args: Any) -> Any:
        need_numbers(bytes_of(self.real), self.device)
        return self.real._byteswap(*args)

    def _swap_data_ptr_(self, other: Any) -> Any:
        if not isinstance(other, VGPUStorage) or other.pool is not self.pool:
            raise RuntimeError(f"a storage on {self.device} swaps its bytes with another one there only")
        sizes = other.nbytes(), self.nbytes()
        real: Any = self.real
        real._swap_data_ptr_(other.real)
        for storage, size in zip((self, other), sizes, strict=True):
            storage.resize(size)
        return None

    def _get_filename(self) -> None:
        return None


# As a CUDA storage says it, and by the name torch.save looks its class up.
VGPUStorage.__name__ = VGPUStorage.__qualname__ = "UntypedStorage"
VGPUStorage.__module__ = "torch.storage"


def bytes_of(real: torch.UntypedStorage) -> torch.Tensor:
    """A plain tensor of all bytes of a plain storage."""
    return torch.empty(0, dtype=torch.uint8, device=real.device).set_(real)


def make(size: int, index: int) -> VGPUStorage:
    """A new storage of `size` bytes on vgpu:`index`.

    Raises:
        torch.OutOfMemoryError: when they do not fit.
    """
    from lab.vgpu.tensor import machine, wrap

    machine().pool(index).check_fits(size)
    numbers = torch.empty(size, dtype=torch.uint8, device=machine().backing)
    storage: VGPUStorage = wrap(numbers, index)._block  # type: ignore[assignment]
    return storage


def copy_storage(target: torch.UntypedStorage, source: Any, non_blocking: bool = False) -> None:
    """`target.copy_(source)` where one of them is on a virtual GPU."""
    from lab.vgpu.operators import copy

    source = getattr(source, "_untyped_storage", source)
    if not isinstance(source, torch.UntypedStorage):
        raise TypeError(f"a storage is copied from a storage, not from {type(source).__name__}")
    if target.nbytes() != source.nbytes():
        raise RuntimeError(f"size does not match, self was {target.nbytes()} bytes but src was {source.nbytes()} bytes")
    copy(_tensor_on(target), _tensor_on(source), non_blocking)


def _tensor_on(storage: torch.UntypedStorage) -> torch.Tensor:
    return storage._bytes() if isinstance(storage, VGPUStorage) else bytes_of(storage)


def _position(index: Any, length: int) -> int:
    try:
        position = index.__index__()
    except AttributeError:
        raise TypeError(f"can't index a torch.UntypedStorage with {type(index).__name__}") from None
    if not -length <= position < length:
        raise IndexError(f"index {position} is out of bounds for a storage of {length} bytes")
    return int(position)


def _part_of(whole: VGPUStorage, real: torch.UntypedStorage) -> VGPUStorage:
    """What `storage[2:6]` is: a storage of its own in the memory of the whole, which it keeps alive."""
    from lab.vgpu.memory import reserve

    part: Any = reserve(VGPUStorage, whole.pool, real._cdata, 0, (), real)
    part._part_of = whole
    return part  # type: ignore[no-any-return]


def _from_bytes(content: bytes, location: str) -> VGPUStorage:
    from lab.vgpu.tensor import device_index

    storage = make(len(content), device_index(torch.device(location)))
    if content:
        bytes_of(storage.real).copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    return storage


# -- tensors whose storage is too small --------------------------------------------------------------------------------


def check_room(tensors: Iterable[Any]) -> None:
    """Refuses tensors that need more bytes than their storage has left.

    Raises:
        RuntimeError: says how many there are, and how many are needed.
    """
    for tensor in tensors:
        needed = lacks_room(tensor)
        if needed:
            raise RuntimeError(
                f"a tensor of size {tuple(tensor.shape)} on {tensor.device} needs {needed} bytes, and its storage was "
                f"resized to {tensor._block.real.nbytes()}: resize the storage to {needed} bytes and write the numbers "
                "again before they are read. Fully sharded training frees the weights that it has gathered so; read "
                "them inside of forward, or after unshard()"
            )


def lacks_room(tensor: Any) -> int:
    """How many bytes the tensor needs, when its storage has fewer; otherwise 0."""
    data = tensor._data
    if tensor._block.key not in short or data.is_nested or not data.numel():
        return 0
    last = data.storage_offset() + sum((n - 1) * step for n, step in zip(data.size(), data.stride(), strict=True))
    needed: int = (last + 1) * data.element_size()
    return needed if needed > data.untyped_storage().nbytes() else 0


# -- PyTorch's own names -----------------------------------------------------------------------------------------------


def register(module: Any) -> None:
    """Makes storages with `device="vgpu:0"`, and `torch.vgpu.FloatStorage` and its siblings.

    Args:
        module: the device module.
    """
    torch.is_storage = _asking(torch.is_storage)  # type: ignore[assignment]
    backend_registration.generate_methods_for_privateuse1_backend(
        for_tensor=False, for_module=False, for_packed_sequence=False, for_storage=True
    )
    plain: Any = torch.UntypedStorage
    plain.__new__ = staticmethod(_making(plain.__new__))
    plain.copy_ = _copying(plain.copy_)
    typed: Any = torch.TypedStorage
    typed._new_wrapped_storage = _wrapping(typed._new_wrapped_storage)
    for dtype, name in torch.storage._dtype_to_storage_type_map().items():
        if not dtype.is_floating_point and not dtype.is_complex and "q" in str(dtype).removeprefix("torch."):
            continue
        about = {"dtype": dtype, "_dtype": dtype, "__module__": "torch.vgpu"}
        setattr(module, name, type(name, (torch.storage._LegacyStorage,), about))


def _making(new: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(new)
    def new_storage(cls: Any, *args: Any, **kwargs: Any) -> Any:
        device = kwargs.get("device")
        if device is None or torch.device(device).type != "vgpu":
            return new(cls, *args, **kwargs)
        from lab.vgpu.tensor import device_index

        index = device_index(torch.device(device))
        rest = {name: value for name, value in kwargs.items() if name != "device"}
        if not args and not rest:
            return make(0, index)
        if args and type(args[0]) is int and len(args) == 1 and not rest:
            if args[0] < 0:
                raise RuntimeError(f"a storage cannot have {args[0]} bytes")
            return make(args[0], index)
        plain = new(torch.UntypedStorage, *args, **rest)
        return make(plain.nbytes(), index).copy_(plain)

    return new_storage


def _asking(is_storage: Callable[[Any], bool]) -> Callable[[Any], bool]:
    @functools.wraps(is_storage)
    def asks(obj: Any, /) -> bool:
        return isinstance(obj, VGPUStorage) or is_storage(obj)

    return asks


def _copying(copy: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(copy)
    def copy_(self: torch.UntypedStorage, source: Any, non_blocking: bool | None = None) -> Any:
        if not isinstance(source, VGPUStorage):
            return copy(self, source, non_blocking)
        copy_storage(self, source, bool(non_blocking))
        return self

    return copy_


def _wrapping(wrap: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrap)
    def _new_wrapped_storage(self: Any, untyped_storage: Any) -> Any:
        if isinstance(untyped_storage, VGPUStorage):  # PyTorch's own wants the very class
            return torch.TypedStorage(wrap_storage=untyped_storage, dtype=self.dtype, _internal=True)
        return wrap(self, untyped_storage)

    return _new_wrapped_storage
