"""Random numbers of `torch.vgpu`.

A virtual GPU draws from the CPU's generator, so that a program gives the numbers on it that it gives on the CPU, to the
bit: it *follows* the CPU from `torch.manual_seed` on. Its state then says where the CPU's generator is.

It leaves the CPU and draws numbers of its own, those that its seed and offset say, as soon as somebody sets its state
or seeds it alone. It follows again after `torch.manual_seed`, and where the CPU's generator is set to the same place as
the device, which is how `fork_rng`, checkpoints and a program that goes on from a file bring back what was.

The ranks of a mesh must draw alike, however much their CPUs have drawn. So once DTensor has drawn random numbers in a
process, no device follows any more.

Private PyTorch names used here: `torch.random._seed_custom_device`, `torch._C.Generator`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch

from lab.vgpu import mersenne
from lab.vgpu.generator import Generator, Numbers, draws_for_a_mesh, made
from lab.vgpu.machine import Machine
from lab.vgpu.selection import DeviceLike, index_of
from lab.vgpu.tensor import machine

_generators: weakref.WeakKeyDictionary[Machine, tuple[Generator, ...]] = weakref.WeakKeyDictionary()
_brought_back: torch.Tensor | None = None
"""The state that the CPU's generator was set to last, since it was seeded."""


class DeviceNumbers(Numbers):
    """What a device draws where no generator is named."""

    def __init__(self, backing: torch.device) -> None:
        super().__init__(backing)
        self._follows = False
        self._is_apart = False
        """Whether it left the CPU by itself, so that setting both to one place again is not enough."""
        self._is_untouched = False
        """Whether nothing was drawn since it was set."""
        self.follow_seed(torch.default_generator.initial_seed())

    @property
    def follows(self) -> bool:
        """Whether the CPU's generator draws for the device."""
        if self._follows and not self._may_follow():  # since DTensor draws in this process
            self.follow_seed(torch.default_generator.initial_seed())
        return self._follows

    def follow_seed(self, seed: int) -> None:
        """The CPU was seeded, and so is the device."""
        self._follows, self._is_apart = self._may_follow(), False
        if not self._follows:
            self._go_to(seed, 0)

    def follow_state(self) -> None:
        """The state of the CPU's generator was set, maybe to where the device was set just before."""
        if self._is_untouched and not self.follows and self._may_follow() and self.get() == _cpu():
            self._follows, self._is_apart = True, False

    def get(self) -> tuple[int, int]:
        return _cpu() if self.follows else super().get()

    def set(self, seed: int, offset: int) -> None:
        together = self._may_follow() and not self._is_apart and _is_where_it_was_set() and _cpu() == (seed, offset)
        self._follows, self._is_apart, self._is_untouched = together, not together, True
        if not together:
            self._go_to(seed, offset)

    def seed_with(self, seed: int) -> None:
        if self._may_follow() and _is_just_seeded_with(seed):
            self.follow_seed(seed)
        else:
            self.set(seed, 0)

    def begin(self) -> None:
        self._is_untouched = False
        super().begin()

    def _may_follow(self) -> bool:
        return not (self.is_real or draws_for_a_mesh())


def generators() -> tuple[Generator, ...]:
    """The default generator of each device."""
    here = machine()
    known = _generators.get(here)
    if known is None:
        known = tuple(made(index, DeviceNumbers(here.backing)) for index in range(here.device_count))
        _generators[here] = known
    return known


@contextmanager
def set_for_once(index: int, state: torch.Tensor) -> Iterator[None]:
    """Inside, vgpu:`index` draws from this state on; afterwards it goes on as if nothing had been."""
    generator = generators()[index]
    kept, generator.numbers = generator.numbers, Numbers(machine().backing)
    try:
        generator.set_state(state)
        yield
    finally:
        generator.numbers = kept


def _follows(generator: Generator) -> bool:
    return isinstance(generator.numbers, DeviceNumbers) and generator.numbers.follows


def _cpu() -> tuple[int, int]:
    return torch.default_generator.initial_seed(), mersenne.offset_of(torch.default_generator)


def _is_where_it_was_set() -> bool:
    return _brought_back is not None and torch.equal(torch.default_generator.get_state(), _brought_back)


def _is_just_seeded_with(seed: int) -> bool:
    seeded = torch._C.Generator().manual_seed(seed)
    return torch.equal(torch.default_generator.get_state(), seeded.get_state())


def _numbers() -> list[DeviceNumbers]:
    return [numbers for generator in generators() if isinstance(numbers := generator.numbers, DeviceNumbers)]


def _seed_devices(seed: int) -> None:
    """What `torch.manual_seed` and `torch.seed` do to the devices; they seed the CPU before or afterwards."""
    global _brought_back
    _brought_back = None
    for numbers in _numbers():
        numbers.follow_seed(_unsigned(seed))


def _unsigned(seed: int) -> int:
    """As PyTorch reads a seed below zero.

    Raises:
        RuntimeError: for a number that is no seed.
    """
    return torch._C.Generator().manual_seed(int(seed)).initial_seed()


def _telling_devices(set_state: Callable[[torch.Tensor], None]) -> Callable[[torch.Tensor], None]:
    @functools.wraps(set_state)
    def set_rng_state(new_state: torch.Tensor) -> None:
        global _brought_back
        set_state(new_state)
        _brought_back = torch.default_generator.get_state()
        for numbers in _numbers():
            numbers.follow_state()

    return set_rng_state


def register() -> None:
    """From now on, seeding PyTorch and setting the state of its generator reaches the devices."""
    setattr(torch.random, "_seed_custom_device", _seed_devices)  # noqa: B010 - mypy does not know the private name
    told = _telling_devices(torch.set_rng_state)
    torch.set_rng_state = torch.random.set_rng_state = told  # type: ignore[assignment]


def manual_seed(seed: int) -> None:
    """Seeds the current device. Given the seed that it follows the CPU with, all devices that follow begin again."""
    current, seed = generators()[index_of(None)], _unsigned(seed)
    again = [generator for generator in generators() if _follows(generator)]
    for generator in again if current in again and current.initial_seed() == seed else [current]:
        generator.manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Seeds all devices, which draw the same numbers then, each for itself."""
    for generator in generators():
        generator.manual_seed(seed)


def seed() -> None:
    """Seeds the current device with a number that is different every time."""
    generators()[index_of(None)].seed()


def seed_all() -> None:
    """Seeds all devices with one number that is different every time."""
    manual_seed_all(torch._C.Generator().seed())


def initial_seed() -> int:
    """What the current device was seeded with last."""
    return generators()[index_of(None)].initial_seed()


def get_rng_state(device: DeviceLike = None) -> torch.Tensor:
    """Seed and offset of a device's generator, 8 bytes each, as a ByteTensor on the CPU."""
    return generators()[index_of(device)].get_state()


def get_rng_state_all() -> list[torch.Tensor]:
    """The state of each device."""
    return [generator.get_state() for generator in generators()]


def set_rng_state(new_state: torch.Tensor, device: DeviceLike = None) -> None:
    """Sets seed and offset of a device's generator: what it draws from now on follows from them alone."""
    generators()[index_of(device)].set_state(new_state)


def set_rng_state_all(new_states: Iterable[torch.Tensor]) -> None:
    """Sets the state of each device."""
    for generator, state in zip(generators(), new_states, strict=False):
        generator.set_state(state)
