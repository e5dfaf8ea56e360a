"""Hardware profiles of virtual GPUs: data, in profiles.toml. Needs no torch."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from importlib import resources
from typing import Literal, TypeAlias

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Timing: TypeAlias = Literal["measured", "modelled"]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a virtual GPU pretends to be. Units as in the names; sources stand in profiles.toml."""

    name: str
    title: str
    fictional: bool
    timing: Timing
    speed: float
    peak_tflops: dict[str, float]
    memory_gb: float
    memory_gb_per_s: float
    launch_us: float
    issue_us: float
    link_gb_per_s: float
    host_link_gb_per_s: float
    link_latency_us: float
    source: str


@functools.cache
def _all() -> dict[str, Profile]:
    text = resources.files("lab.vgpu").joinpath("profiles.toml").read_text(encoding="utf-8")
    return {name: Profile(name=name, **fields) for name, fields in tomllib.loads(text).items()}


def names() -> tuple[str, ...]:
    return tuple(_all())


def get(name: str) -> Profile:
    """The profile of that name.

    Raises:
        KeyError: when there is none; `names()` lists them.
    """
    return _all()[name]
