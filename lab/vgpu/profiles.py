"""Hardware profiles of virtual GPUs: data, in profiles.toml and in files of the reader's own. Needs no torch.

A file of one's own holds the fields of one `Profile`. With `base = "a100"` those left out are that profile's; without,
the rates and the memory have to be given:

    base = "a100"
    title = "A100 with half of its memory"
    memory_gb = 40
    peak_tflops = { bfloat16 = 250 }
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from lab import reading
from lab.errors import DeviceError, did_you_mean

Timing: TypeAlias = Literal["measured", "modelled"]
DTYPES = ("float64", "float32", "bfloat16", "float16")
DEFAULT = "classroom"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a virtual GPU pretends to be. Units as in the names; sources stand in profiles.toml."""

    name: str
    title: str
    fictional: bool
    """True where no such hardware exists."""
    timing: Timing
    """How operations are timed unless asked otherwise."""
    speed: float
    """Measured: how many times as fast as one core of this machine's CPU an operation is taken to run."""
    peak_tflops: dict[str, float]
    """Modelled: dtype -> 10^12 operations per second, dense, without sparsity."""
    memory_gb: float
    """Capacity, 10^9 bytes."""
    memory_gb_per_s: float
    """Modelled: memory bandwidth, 10^9 bytes per second."""
    launch_us: float
    """Modelled: what every kernel takes besides, microseconds."""
    issue_us: float
    """What it costs the host to issue one operation, microseconds."""
    link_gb_per_s: float
    """Between two of these devices in one direction, 10^9 bytes per second."""
    host_link_gb_per_s: float
    """The same between the host and a device."""
    link_latency_us: float
    """Before the first byte of a transfer arrives, microseconds."""
    source: str
    compute_capability: tuple[int, int] = (8, 0)
    """What it calls its generation, by which programs choose kernels and dtypes: (major, minor)."""
    multiprocessors: int = 1
    """How many units it computes with that hold threads of their own."""

    @property
    def capacity_bytes(self) -> int:
        return round(self.memory_gb * 1e9)


_RATES = ("speed", "memory_gb", "memory_gb_per_s", "link_gb_per_s", "host_link_gb_per_s")
_COSTS = ("launch_us", "issue_us", "link_latency_us")
_TEXTS = ("title", "source")
_LARGEST = 1e9
"""Above any figure that means something: it catches a wrong unit, and keeps times within whole nanoseconds."""


@functools.cache
def _all() -> dict[str, Profile]:
    text = resources.files("lab.vgpu").joinpath("profiles.toml").read_text(encoding="utf-8")
    tables = reading.toml(text)
    return {name: Profile(**{**fields, **_generation(fields)}, name=name) for name, fields in tables.items()}


def names() -> tuple[str, ...]:
    return tuple(_all())


def get(name: str) -> Profile:
    """The profile of that name.

    Raises:
        KeyError: when there is none; `names()` lists them.
    """
    return _all()[name]


def is_path(hardware: object) -> bool:
    """True for a path, and for text that is meant as one, which ends in `.toml`."""
    return isinstance(hardware, Path) or (isinstance(hardware, str) and hardware.lower().endswith(".toml"))


def find(hardware: str | Path | Profile) -> Profile:
    """A profile by its name, or read from a TOML file of the reader's own; a profile is itself.

    Raises:
        DeviceError: when there is no such profile or file, or what is wrong in the file.
    """
    if isinstance(hardware, Profile):
        return hardware
    if is_path(hardware):
        return load(Path(hardware))
    known = names()
    if hardware not in known:
        hint = did_you_mean(hardware, known) if isinstance(hardware, str) else ""
        raise DeviceError(f"hardware {hardware!r} is not one of {', '.join(known)}, or a .toml file of your own{hint}")
    return get(hardware)


def load(path: Path) -> Profile:
    """Reads a profile of the reader's own.

    Raises:
        DeviceError: with the file and the field.
    """
    try:
        text = reading.text_of(path)
    except reading.UnreadableError as error:
        raise DeviceError(f"{path.name}: cannot read the profile: {error}") from None
    try:
        return _checked(reading.toml(text), path)
    except ValueError as error:
        raise DeviceError(f"{path.name}: {error}") from None


def _checked(fields: dict[str, Any], path: Path) -> Profile:
    known = ("base", *(field.name for field in dataclasses.fields(Profile) if field.name != "name"))
    for key in fields:
        if key not in known:
            raise ValueError(f"{key!r} is not a field of a profile{did_you_mean(key, known)}")
    base: dict[str, Any] = {"title": path.stem, "source": f"{path.name}, a profile of one's own"}
    if "base" in fields:
        if fields["base"] not in names():
            hint = did_you_mean(fields["base"], names()) if isinstance(fields["base"], str) else ""
            raise ValueError(f"base {fields['base']!r} is not one of {', '.join(names())}{hint}")
        base = dataclasses.asdict(get(fields["base"])) | {"source": f"{path.name}, after {fields['base']}"}
    else:
        base |= {"fictional": False, "timing": "modelled", "speed": 1.0}
    given = base | {key: value for key, value in fields.items() if key != "base"} | {"name": path.stem}
    for key in (*_RATES, *_COSTS, "peak_tflops"):
        if key not in given:
            raise ValueError(f'{key} is missing; give it, or base = "a100" to take what is left out from a profile')
    for key in (*_RATES, *_COSTS):
        given[key] = _figure(key, given[key], zero=key in _COSTS)
    for key in _TEXTS:
        if not isinstance(given[key], str):
            raise ValueError(f"{key} is {given[key]!r}; give text")
    if not isinstance(given["fictional"], bool):
        raise ValueError(f"fictional is {given['fictional']!r}; give true or false")
    if given["timing"] not in get_args(Timing):
        raise ValueError(f'timing is {given["timing"]!r}; give "measured" or "modelled"')
    given["peak_tflops"] = _peaks(given["peak_tflops"], base.get("peak_tflops", {}))
    return Profile(**{**given, **_generation(given)})


def _generation(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that may be left out."""
    fields: dict[str, Any] = {}
    if "compute_capability" in given:
        value = given["compute_capability"]
        if not (isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_count, value))):
            raise ValueError(f"compute_capability is {value!r}; give two whole numbers, such as [8, 0]")
        fields["compute_capability"] = tuple(value)
    if "multiprocessors" in given:
        value = given["multiprocessors"]
        if not _is_count(value) or value == 0:
            raise ValueError(f"multiprocessors is {value!r}; give a whole number above 0")
        fields["multiprocessors"] = value
    return fields


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _peaks(given: Any, base: dict[str, float]) -> dict[str, float]:
    if not isinstance(given, dict):
        raise ValueError(f"peak_tflops is {given!r}; give a rate for each dtype, such as {{ float32 = 19.5 }}")
    for key in given:
        if key not in DTYPES:
            raise ValueError(f"peak_tflops.{key}: there is no such dtype in a profile{did_you_mean(key, DTYPES)}")
    peaks = base | {key: _figure(f"peak_tflops.{key}", value) for key, value in given.items()}
    if "float32" not in peaks:
        raise ValueError("peak_tflops.float32 is missing; give 10^12 operations per second")
    return peaks


def _figure(key: str, value: Any, *, zero: bool = False) -> float:
    least = "0 or more" if zero else "above 0"
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        raise ValueError(f"{key} is {value!r}; give a number {least}")
    if value < 0 or (value == 0 and not zero):
        raise ValueError(f"{key} is {value}, but must be {least}")
    if value > _LARGEST:
        shown = f"{value:g}" if value < 1e300 else "a number of hundreds of digits"
        raise ValueError(f"{key} is {shown}, which no hardware reaches; look at its unit")
    return float(value)


def save(profile: Profile, path: str | Path) -> None:
    """Writes a profile as a file that `load` reads."""
    import tomli_w

    fields = dataclasses.asdict(profile)
    del fields["name"]
    Path(path).expanduser().write_text(tomli_w.dumps(fields), encoding="utf-8")
