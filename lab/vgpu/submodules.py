"""The submodules of `torch.vgpu`, by the names of those of `torch.cuda`, so that programs can import from them."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.cuda
from torch.nn.parallel import comm

from lab.errors import DeviceError
from lab.vgpu import amp, figures, nvtx, refusals


class View(types.ModuleType):
    """Those names of `torch.vgpu` that a submodule of `torch.cuda` has, and private ones that are `behind` it."""

    def __init__(self, name: str, behind: types.ModuleType | None = None) -> None:
        super().__init__(f"torch.vgpu.{name}", f"As torch.cuda.{name}, for virtual GPUs.")
        self._counterpart, self._behind = getattr(torch.cuda, name), behind

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(self._counterpart, name):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name)
        place = self._behind if name.startswith("_") else sys.modules["torch.vgpu"]
        return getattr(place, name)

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._counterpart) if hasattr(self, name)]


class Refusing(types.ModuleType):
    """A submodule whose functions and classes are there, and say that they cannot be had."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"torch.vgpu.{name}", reason)
        self._counterpart, self._reason = getattr(torch.cuda, name), reason

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not callable(getattr(self._counterpart, name, None)):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name)
        return refusals.refused(f"{self.__name__.removeprefix('torch.vgpu.')}.{name}", self._reason)


def _module(name: str, about: str, **members: Any) -> types.ModuleType:
    made = types.ModuleType(f"torch.vgpu.{name}", about)
    vars(made).update(members)
    return made


@contextmanager
def _profile() -> Iterator[None]:
    yield


def _nothing(*args: Any, **kwargs: Any) -> None:
    """There is no profiler of NVIDIA's to tell."""


def _nccl_is_available(tensors: Any) -> bool:
    """Never: virtual GPUs send by the backend `vgloo`."""
    return False


def _no_nccl(*args: Any, **kwargs: Any) -> Any:
    raise DeviceError(
        "virtual GPUs have no NCCL: torch.distributed with the backend 'cpu:gloo,vgpu:vgloo' sends between ranks, "
        "and torch.nn.parallel.comm between the devices of one process"
    )


_NCCL = ("all_gather", "all_reduce", "broadcast", "init_rank", "reduce", "reduce_scatter", "unique_id", "version")

SUBMODULES: dict[str, types.ModuleType] = {
    "amp": amp,
    "comm": comm,
    "graphs": View("graphs"),
    "memory": View("memory", figures),
    "nccl": _module(
        "nccl",
        "As torch.cuda.nccl, which virtual GPUs do not have.",
        is_available=_nccl_is_available,
        **dict.fromkeys(_NCCL, _no_nccl),
    ),
    "nvtx": nvtx,
    "profiler": _module(
        "profiler",
        "As torch.cuda.profiler: tells a profiler of NVIDIA's, if there were one, when to begin. For a profile of "
        "virtual GPUs there is lab.vgpu.profile().",
        init=_nothing,
        profile=_profile,
        start=_nothing,
        stop=_nothing,
    ),
    "random": View("random"),
    "streams": View("streams"),
    **{name: Refusing(name, reason) for name, reason in refusals.SUBMODULES.items() if hasattr(torch.cuda, name)},
}


def register() -> None:
    """Makes `import torch.vgpu.amp` possible; to be called when `torch.vgpu` is there."""
    for name, found in SUBMODULES.items():
        sys.modules[f"torch.vgpu.{name}"] = found
    for name in ("autocast_mode", "grad_scaler"):  # from which old programs import
        sys.modules[f"torch.vgpu.amp.{name}"] = amp
