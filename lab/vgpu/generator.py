"""`torch.Generator(device="vgpu:1")`: a source of random numbers that belongs to a virtual GPU.

It draws as the CPU's generator with the same seed does, so that results stay the CPU's. Its state is as CUDA's: 8 bytes
of seed and 8 of offset, see `lab.vgpu.mersenne`.

Private PyTorch names used here: `torch._C.Generator`, `Generator._cdata`; of `torch.distributed.tensor._random`,
`_rng_tracker` and `OffsetBasedRNGTracker._distribute_region`; of `torch._C`, `_get_dispatch_mode` and
`_TorchDispatchModeKey`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from lab.vgpu import mersenne

_Plain = torch._C.Generator
_ours: weakref.WeakValueDictionary[int, Generator] = weakref.WeakValueDictionary()
"""By the address of the generator in C++: PyTorch hands operators another Python object around the same one."""
_trackers: set[Any] = set()
"""DTensor's classes that know our generators."""
_WORD = 1 << 64


class Numbers:
    """What a generator draws, beginning at a seed and an offset."""

    def __init__(self, backing: torch.device) -> None:
        # The `meta` backing draws no numbers.
        self.source = _Plain(torch.device("cpu") if backing.type == "meta" else backing)
        self._seed = self.source.initial_seed()
        self._offset: int | None = None
        """Where a sequence of its own begins; None while the source is in the sequence of the seed."""

    @property
    def is_real(self) -> bool:
        """Whether a real GPU draws, whose generator has a seed and an offset by itself."""
        return self.source.device.type == "cuda"

    def get(self) -> tuple[int, int]:
        """Seed and offset."""
        if self.is_real:
            return unpacked(self.source.get_state())
        return self._seed, mersenne.offset_of(self.source) if self._offset is None else self._offset

    def set(self, seed: int, offset: int) -> None:
        """Draws from there on."""
        self._go_to(seed, offset)

    def seed_with(self, seed: int) -> None:
        """Draws what a seed gives from the beginning."""
        self.set(seed, 0)

    def begin(self) -> None:
        """Before an operation draws from the source."""
        if self._offset is not None:
            self.source.manual_seed(mersenne.seed_of(self._seed, self._offset))

    def end(self, count: int) -> None:
        """After it has drawn so many numbers."""
        if self._offset is not None:
            self._go_to(self._seed, (self._offset + 4 * max(1, -(-count // 4))) % _WORD)

    def _go_to(self, seed: int, offset: int) -> None:
        if self.is_real:
            self.source.set_state(packed(seed, offset))
            return
        self._seed = seed
        self._offset = None if mersenne.is_place(offset) else offset
        if self._offset is None:
            mersenne.put(self.source, seed, offset, alike=draws_for_a_mesh())


class _Kind(type(_Plain)):  # type: ignore[misc]
    """`isinstance(x, torch.Generator)` holds for the generators that PyTorch itself makes as well."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Plain)


class Generator(_Plain, metaclass=_Kind):
    """As `torch.Generator`, on virtual GPUs too."""

    _vgpu: torch.device
    numbers: Numbers
    """May be those of another generator: see `graphsafe_set_state`."""

    def __new__(cls, device: Any = None) -> Any:
        from lab.vgpu.tensor import device_index, machine

        there = torch.device("cpu" if device is None else device)
        if there.type != "vgpu":
            return _Plain(there)
        return made(device_index(there), Numbers(machine().backing))

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._vgpu

    def get_state(self) -> torch.Tensor:
        return packed(*self.numbers.get())

    def set_state(self, new_state: torch.Tensor) -> Generator:
        self.numbers.set(*unpacked(new_state))
        return self

    def get_offset(self) -> int:
        return self.numbers.get()[1]

    def set_offset(self, offset: int) -> Generator:
        if offset % 4:
            raise RuntimeError(f"offset must be a multiple of 4, but it is {offset}")
        self.numbers.set(self.initial_seed(), offset % _WORD)
        return self

    def manual_seed(self, seed: int) -> Generator:
        self.numbers.seed_with(_Plain().manual_seed(int(seed)).initial_seed())  # which refuses what is no seed
        return self

    def seed(self) -> int:
        seed = _Plain().seed()
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        return self.numbers.get()[0]

    def clone_state(self) -> Generator:
        clone: Generator = Generator(self.device)
        clone.numbers.set(*self.numbers.get())
        return clone

    def graphsafe_get_state(self) -> Generator:
        """Another generator that draws the same numbers: what one of the two draws, the other does not draw again."""
        return made(self.device.index, self.numbers)

    def graphsafe_set_state(self, state: Generator) -> Generator:  # type: ignore[override]
        self.numbers = state.numbers
        return self

    def __reduce__(self) -> Any:
        return _restored, (str(self.device), self.get_state())


def made(index: int, numbers: Numbers) -> Generator:
    """A generator of vgpu:`index` that draws these numbers."""
    generator: Any = _Plain.__new__(Generator, torch.device("cpu"))  # type: ignore[call-arg]
    generator._vgpu = torch.device("vgpu", index)
    generator.numbers = numbers
    _ours[generator._cdata] = generator
    return generator  # type: ignore[no-any-return]


def _restored(device: str, state: torch.Tensor) -> Generator:
    generator: Generator = Generator(device)
    return generator.set_state(state)


def packed(seed: int, offset: int) -> torch.Tensor:
    """Both as the 16 bytes of a ByteTensor on the CPU."""
    return torch.frombuffer(
        bytearray(seed.to_bytes(8, sys.byteorder) + offset.to_bytes(8, sys.byteorder)), dtype=torch.uint8
    )


def unpacked(state: Any) -> tuple[int, int]:
    """Seed and offset of a state.

    Raises:
        TypeError: when it is no ByteTensor on the CPU.
        RuntimeError: when it has another size, or an offset that cannot be.
    """
    if not isinstance(state, torch.Tensor) or state.dtype != torch.uint8 or state.device.type != "cpu":
        what = f"{state.dtype} on {state.device}" if isinstance(state, torch.Tensor) else type(state).__name__
        raise TypeError(f"RNG state must be a torch.ByteTensor on the CPU, but got {what}")
    if state.numel() != 16:
        raise RuntimeError(
            f"RNG state is of wrong size: a virtual GPU's has 16 bytes, of seed and offset, but got {state.numel()}. "
            "The CPU's is set with torch.set_rng_state"
        )
    bytes_ = bytes(state.flatten().tolist())
    seed, offset = (int.from_bytes(half, sys.byteorder) for half in (bytes_[:8], bytes_[8:]))
    if offset % 4:
        raise RuntimeError(f"RNG state has the offset {offset}, which is no multiple of 4")
    return seed, offset


def numbers_of(generator: Any, index: int) -> Numbers:
    """What a generator that was given to an operation on vgpu:`index` draws.

    Raises:
        RuntimeError: when it belongs to another device than vgpu:`index`, as CUDA says it.
    """
    here = torch.device("vgpu", index)
    known = _ours.get(generator._cdata)
    device = generator.device if known is None else known.device
    if known is None or device.type != "vgpu":
        raise RuntimeError(f"Expected a 'vgpu' device type for generator but found '{device.type}'")
    if device != here:
        raise RuntimeError(f"Expected a generator of {here} but found one of {device}")
    return known.numbers


def draws_for_a_mesh() -> bool:
    """Whether DTensor has drawn in this process: its ranks must draw alike from then on, whatever their CPUs draw."""
    random: Any = sys.modules.get("torch.distributed.tensor._random")
    if random is None:
        return False
    tracker = random.OffsetBasedRNGTracker
    if tracker not in _trackers:
        _trackers.add(tracker)
        tracker._distribute_region = _with_ours(tracker._distribute_region)
    return random._rng_tracker is not None


def _is_traced() -> bool:
    """Whether operations are looked at, without being computed.

    Raises:
        NotImplementedError: when they will run later without DTensor, which alone would tell the shards apart.
    """
    mode, kind = torch._C._get_dispatch_mode, torch._C._TorchDispatchModeKey
    if mode(kind.FUNCTIONAL) is not None or mode(kind.PROXY) is not None:
        raise NotImplementedError(
            "random operators on a DTensor cannot be traced ahead of time on virtual GPUs, for every shard would draw "
            "the same: compile with backend='eager'"
        )
    return mode(kind.FAKE) is not None


def _with_ours(region: Callable[..., Any]) -> Callable[..., Any]:
    """DTensor reads and sets the state of the generator that it is given, which is PyTorch's object around ours."""

    @functools.wraps(region)
    def _distribute_region(self: Any, spec: Any, generator: Any = None) -> Any:
        if _is_traced():
            return nullcontext()  # nothing is drawn
        return region(self, spec, None if generator is None else _ours.get(generator._cdata, generator))

    return _distribute_region


def register() -> None:
    torch.Generator = Generator  # type: ignore[misc]
