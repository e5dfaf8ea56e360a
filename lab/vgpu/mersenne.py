"""The state of a generator as CUDA has it, a seed and an offset, for the generator of the CPU, a Mersenne twister.

A seed and an offset say what is drawn, in every process. There are two kinds of offsets:

- Multiples of `STRIDE` are places in the sequence that the CPU's generator gives for the seed. They count the numbers
  of 32 bits that were drawn since seeding, so that what follows is what follows on the CPU. That generator keeps no
  count, so its place is found by looking for its next four numbers in the sequence.
- At every other offset a sequence of its own begins, seeded by seed and offset. There is no way to such an offset but
  to set it. Programs do so that want other numbers for each of several shards: they add the number of elements, and the
  sequences of two shards do not overlap.

Private PyTorch names used here: `torch._C.Generator`, which is `torch.Generator` before ours takes its place. Tried on
torch 2.13.0.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

STRIDE = 4 * 16_777_213
"""A prime times 4: sizes of tensors do not add up to it, and offsets are multiples of 4, as on CUDA."""

_NORMAL = 4
"""Numbers that the CPU draws for two normal ones, of which it keeps the second for the next time."""
_CHUNK = 1 << 20
_LIMIT = 1 << 34
_REMEMBERED = 256

Generator = torch._C.Generator

_found: OrderedDict[bytes, int] = OrderedDict()
"""The offsets of states that were asked for, by a digest of the state."""
_states: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
"""The same the other way. It also has what an offset cannot say: a normal number that was kept long ago."""
_last: tuple[int, int, Tensor] | None = None
"""Seed, place and state from which to look on: shortly before the last one that was found."""


def is_place(offset: int) -> bool:
    """Whether it is a place in the sequence of the seed itself."""
    return offset % STRIDE == 0


def seed_of(seed: int, offset: int) -> int:
    """The seed of the sequence that begins at an offset which is no place."""
    return int.from_bytes(hashlib.blake2b(struct.pack("<QQ", seed, offset), digest_size=8).digest(), "little")


def offset_of(generator: Generator) -> int:
    """Where it is in the sequence of its seed, as an offset.

    Raises:
        RuntimeError: when it is nowhere there.
    """
    state = generator.get_state()
    key = hashlib.blake2b(state.numpy().tobytes(), digest_size=16).digest()
    offset = _found.get(key)
    if offset is None:
        offset = _look_for(state, generator.initial_seed())
    _remember(_found, key, offset)
    _remember(_states, (generator.initial_seed(), offset), state)
    return offset


def put(generator: Generator, seed: int, offset: int, *, alike: bool) -> None:
    """Puts it to a place in the sequence of a seed.

    Args:
        alike: only by what seed and offset say, so that every process draws the same.
    """
    known = None if alike else _states.get((seed, offset))
    if known is not None:
        generator.set_state(known)
        return
    place, keeps = divmod(offset // STRIDE, 2)
    generator.manual_seed(seed)
    _skip(generator, place - _NORMAL * keeps)
    if keeps:
        _draw_normal(generator)


def _remember(memory: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _look_for(state: Tensor, seed: int) -> int:
    global _last
    probe = _at(state)
    wanted = torch.empty(_NORMAL, dtype=torch.int32).random_(generator=probe)
    start, there = 0, Generator().manual_seed(seed).get_state()
    place = None
    if _last is not None and _last[0] == seed:
        place = _search(_last[2], wanted, _CHUNK)
        if place is not None:
            start, there = _last[1:]
    if place is None:
        place = _search(there, wanted, _LIMIT)
    if place is None:
        raise RuntimeError(
            "the CPU's random number generator is in a state to which its seed does not lead: "
            "seed it with torch.manual_seed, or set a state that torch.get_rng_state returned"
        )
    place += start
    before = max(start, place - _NORMAL)
    beginning = _at(there)
    _skip(beginning, before - start)
    _last = seed, before, beginning.get_state()
    _draw_normal(beginning)
    keeps = place - before == _NORMAL and torch.equal(beginning.get_state(), state)
    return STRIDE * (2 * place + keeps)


def _search(start: Tensor, wanted: Tensor, limit: int) -> int | None:
    """How many numbers after `start` the wanted ones come."""
    generator = _at(start)
    passed, size = 0, 1024
    numbers = torch.empty(0, dtype=torch.int32)
    while passed <= limit:
        # What four numbers at the end of one chunk begin is seen with the next.
        kept = numbers[-_NORMAL + 1 :]
        numbers = torch.cat([kept, torch.empty(size, dtype=torch.int32).random_(generator=generator)])
        for index in (numbers[: -_NORMAL + 1] == wanted[0]).nonzero().flatten().tolist():
            if torch.equal(numbers[index : index + _NORMAL], wanted):
                return passed + int(index)
        passed += len(numbers) - _NORMAL + 1
        size = min(4 * size, _CHUNK)
    return None


def _at(state: Tensor) -> Generator:
    generator = Generator()
    generator.set_state(state)
    return generator


def _skip(generator: Generator, count: int) -> None:
    numbers = torch.empty(min(count, _CHUNK), dtype=torch.int32)
    while count > 0:
        numbers[:count].random_(generator=generator)
        count -= len(numbers)


def _draw_normal(generator: Generator) -> None:
    torch.empty(1).normal_(generator=generator)
