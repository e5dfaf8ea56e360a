"""The course's two settings: on which devices its notebooks run, and how long."""

from __future__ import annotations

import os
from typing import Any

from lab.errors import DeviceError, did_you_mean

HARDWARE = ("auto", "virtual", "gpu")
LONG_VARIABLE = "PARALLEL_LAB_LONG"
"""An environment variable: with 1, notebooks train for whole epochs."""


def devices(count: int, hardware: str = "auto", **virtual: Any) -> tuple[str, ...]:
    """Names of `count` devices to train on. Virtual ones are made in this process, so that a cell can use them.

    Args:
        hardware: `auto` takes this machine's GPUs where there are enough of them and virtual GPUs otherwise, `virtual`
            and `gpu` insist on one kind, and a list such as `cuda:1,cuda:3` names them.
        virtual: what the virtual ones are like, as `vgpu.enable` takes it; real ones are what they are.

    Raises:
        DeviceError: for a count below 1, a word that says nothing, or GPUs that are not here.
    """
    if count < 1:
        raise DeviceError(f"{count} devices are none to train on: ask for at least 1")
    if ":" in hardware:
        return _named(count, hardware, virtual)
    if hardware not in HARDWARE:
        allowed = "'auto', 'virtual', 'gpu', or names such as 'cuda:0,cuda:1'"
        raise DeviceError(f"HARDWARE = {hardware!r} is not one of {allowed}{did_you_mean(hardware, HARDWARE)}")
    here = _gpus() if hardware != "virtual" else 0
    if here >= count:
        return tuple(f"cuda:{index}" for index in range(count))
    if hardware == "gpu":
        raise DeviceError(
            f"this notebook wants {count} GPU{'s' if count > 1 else ''} and torch finds {here}: "
            f"HARDWARE = 'auto' takes virtual GPUs where there are too few"
        )
    return _virtual(count, virtual)


def length(*, steps: int, epochs: int = 1) -> dict[str, Any]:
    """How long a run of a notebook is, as fields of an Experiment: a few steps, or whole epochs in the long form."""
    return {"epochs": epochs} if long_form() else {"steps": steps}


def long_form() -> bool:
    """Whether notebooks train for whole epochs: PARALLEL_LAB_LONG=1 in the environment says so."""
    return os.environ.get(LONG_VARIABLE, "").strip().lower() in ("1", "true", "yes")


def _named(count: int, hardware: str, settings: dict[str, Any]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in hardware.split(",") if name.strip())
    if len(names) < count:
        raise DeviceError(f"this notebook wants {count} devices and HARDWARE = {hardware!r} names {len(names)}")
    here = _gpus()
    for name in names[:count]:
        kind, _, index = name.partition(":")
        if kind not in ("cuda", "vgpu") or not index.isdecimal():
            raise DeviceError(f"{name!r} is no device: write cuda:0 for a GPU, vgpu:0 for a virtual one")
        if kind == "cuda" and int(index) >= here:
            raise DeviceError(f"{name!r} is not here: torch finds {here} GPUs")
    virtual = [int(name.partition(":")[2]) for name in names[:count] if name.startswith("vgpu")]
    if virtual:
        _virtual(max(virtual) + 1, settings)
    return names[:count]


def _virtual(count: int, settings: dict[str, Any]) -> tuple[str, ...]:
    from lab import vgpu

    vgpu.enable(devices=count, **settings)
    return tuple(f"vgpu:{index}" for index in range(count))


def _gpus() -> int:
    import torch

    return int(torch.cuda.device_count())
