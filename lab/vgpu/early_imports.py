"""Names that a program imported from PyTorch before `lab.vgpu.enable()`: they become what PyTorch has there afterwards.

    from torch import Generator, compile            # above enable()

`enable()` replaces some of PyTorch's functions and classes. Whoever asks PyTorch for them later gets the new ones; a
name that was imported before still means the old, and is turned here, in every module but PyTorch's own.

Functions of `torch.accelerator` are left as they are there: what they ask C++ for is replaced, see
`lab.vgpu.accelerator`.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from typing import Any

_PLACES = (
    "torch",
    "torch._C",
    "torch.accelerator",
    "torch.cuda.nccl",
    "torch.distributed",
    "torch.distributed.distributed_c10d",
    "torch.jit",
    "torch.random",
    "torch.utils",
)
"""Modules of PyTorch's in which something is replaced."""
_NOT_OURS = frozenset({"torch", "lab", *sys.stdlib_module_names} - {"__main__"})
"""Packages that import nothing of it, or know what they do."""


def names() -> dict[tuple[str, str], Any]:
    """What PyTorch's names mean now, for `follow` to compare with later."""
    places = [place for place in _PLACES if place in sys.modules]
    return {(place, name): value for place in places for name, value in vars(sys.modules[place]).items()}


def follow(before: dict[tuple[str, str], Any]) -> None:
    """What was replaced since is replaced in the modules that have imported it too."""
    after = names()
    turn((old, after[key]) for key, old in before.items() if after.get(key, old) is not old)


def turn(replaced: Iterable[tuple[Any, Any]]) -> None:
    """Puts the new for the old, pair by pair, wherever a program has it as a module's name."""
    new = {id(old): (old, value) for old, value in replaced}
    if not new:
        return
    for module in list(sys.modules.values()):
        if not isinstance(module, types.ModuleType) or module.__name__.partition(".")[0] in _NOT_OURS:
            continue
        found = vars(module)
        if new.keys().isdisjoint(map(id, found.values())):
            continue
        for name, value in list(found.items()):
            if id(value) in new:
                found[name] = new[id(value)][1]
