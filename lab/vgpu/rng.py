"""Random numbers of `torch.vgpu`.

All virtual GPUs draw from the CPU's generator, so that a program gives the numbers on them that it gives on the CPU, to
the bit. So seeding one device seeds the CPU and all of them, and they share one state.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lab.vgpu.selection import DeviceLike, index_of
from lab.vgpu.tensor import machine


def manual_seed(seed: int) -> None:
    """Seeds the generator that all virtual GPUs and the CPU share."""
    torch.default_generator.manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    """As `manual_seed`."""
    manual_seed(seed)


def seed() -> None:
    """Seeds with a number that is different every time."""
    torch.default_generator.seed()


def seed_all() -> None:
    """As `seed`."""
    seed()


def initial_seed() -> int:
    """What the generator was seeded with last."""
    return torch.default_generator.initial_seed()


def get_rng_state(device: DeviceLike = None) -> torch.Tensor:
    """The state of the generator, as a ByteTensor on the CPU; the same for every device."""
    index_of(device)
    return torch.get_rng_state()


def get_rng_state_all() -> list[torch.Tensor]:
    """The state, once for each device."""
    return [torch.get_rng_state() for _ in range(machine().device_count)]


def set_rng_state(new_state: torch.Tensor, device: DeviceLike = None) -> None:
    """Sets the state of the generator, for all devices and the CPU."""
    index_of(device)
    torch.set_rng_state(new_state)


def set_rng_state_all(new_states: Iterable[torch.Tensor]) -> None:
    """Sets the state of the generator to the last of those given: all devices share one."""
    for state in new_states:
        torch.set_rng_state(state)
