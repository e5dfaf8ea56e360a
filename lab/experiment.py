"""Experiment: one immutable value that says everything about a run, and nothing else does.

    Experiment()                                     # the course's first run: Net on MNIST, on one device
    Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"})

It round-trips through JSON, TOML and a URL query. Bad values are refused when it is made, all at once.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import parse_qsl, urlencode

import tomli_w
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from lab import checks
from lab.errors import ExperimentError, Problem

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT_VERSION = 1


class Pattern2Device(dict[str, str]):
    """An ordered mapping, layer-path pattern -> device, that cannot be changed."""

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError("an Experiment is immutable: make another one with experiment.replace(placement=...)")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse  # type: ignore[assignment]

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))

    def __eq__(self, other: object) -> bool:
        # The first match wins, so the order is part of the value.
        return isinstance(other, Mapping) and list(self.items()) == list(other.items())

    def __reduce__(self) -> tuple[type[Pattern2Device], tuple[dict[str, str]]]:
        return type(self), (dict(self),)


def _freeze_placement(value: Any) -> Any:
    return Pattern2Device(value) if isinstance(value, dict) else value


def _split_names(value: Any) -> Any:
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    return tuple(value) if isinstance(value, list) else value


PlacementField = Annotated[
    Literal["auto", "even"] | dict[str, str] | None,
    AfterValidator(_freeze_placement),
    PlainSerializer(lambda value: dict(value) if isinstance(value, dict) else value),
]
DevicesField = Annotated[tuple[str, ...], BeforeValidator(_split_names)]


class Link(BaseModel):
    """The link between two virtual GPUs: a transfer takes latency + bytes / bandwidth, and the link is busy meanwhile."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bandwidth_gb_per_s: float = Field(gt=0, le=1e6)
    """Gigabytes (10^9 bytes) per second."""
    latency_us: float = Field(ge=0, le=1e7)
    """Microseconds before the first byte arrives."""


class Experiment(BaseModel):
    """What to run. Fields left out take the defaults of the course's first run; `None` means "what suits the rest".

    Raises:
        ExperimentError: with every problem at once, each naming the field, the value and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    net: str = "net"
    """A net of the registry (`lab.nets.NAMES`), or `own:NAME` for a module passed to `lab.start(..., net=...)`."""
    data: str | None = None
    """A data set of the registry (`lab.data.NAMES`); None takes the one that suits the net."""
    strategy: str = "single"
    """A way to train (`lab.strategies.NAMES`)."""
    devices: DevicesField = ()
    """`cpu`, `cuda:i` and `vgpu:i`; empty takes the CPU for one device, two virtual GPUs for several."""
    placement: PlacementField = None
    """Layer-path pattern -> device, first match wins; or `even` (by parameters) or `auto` (by measured time)."""
    transfers: Literal["auto", "manual"] = "auto"
    """`auto` moves activations and targets between devices; `manual` leaves that to the net."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    """Samples per optimizer step, over all devices and microbatches together (the global batch)."""
    microbatches: int = Field(default=1, ge=1, le=4096)
    """Parts into which a batch is split so that the stages of model parallelism overlap."""
    epochs: int = Field(default=10, ge=1, le=10_000)
    """Passes over the training data; ignored when `steps` is given."""
    steps: int | None = Field(default=None, ge=1, le=100_000_000)
    """Optimizer steps, in place of epochs."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(default=0.01, gt=0, le=1000)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """For `sgd`; the Adam family keeps PyTorch's betas."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the parameters and of the order of the samples."""
    link: Link | None = None
    """Between virtual GPUs; None takes the hardware profile's own."""
    hardware: str = "classroom"
    """Profile of the virtual GPUs (`parallel-lab devices` lists them)."""
    memory_mb: float | None = Field(default=None, gt=0, le=1e7)
    """Capacity of each virtual GPU in megabytes (10^6 bytes); None takes the profile's."""
    clock: Literal["auto", "wall", "cuda", "virtual"] = "auto"
    """On which times are shown; `auto` takes the virtual clock for virtual GPUs, CUDA events for GPUs, else the wall."""
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    """Of the parameters and activations."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any) -> Any:
        return checks.fill_in(raw) if isinstance(raw, dict) else raw

    def __init__(self, **fields: Any) -> None:
        problems: list[Problem] = []
        try:
            super().__init__(**fields)
            good = self.model_dump()
        except ValidationError as error:
            problems = [_problem(entry) for entry in error.errors(include_url=False)]
            good = _without(checks.fill_in(fields), {problem.field.split(".")[0] for problem in problems})
        problems += checks.static_problems(good)
        if problems:
            raise ExperimentError(problems) from None

    def replace(self, **changes: Any) -> Experiment:
        """The same Experiment with some fields changed, checked anew. Fields that only followed others follow again."""
        return Experiment(**{**self.explicit(), **changes})

    def explicit(self) -> dict[str, Any]:
        """The fewest fields, as plain JSON values, from which `Experiment(**fields)` makes this value again."""
        fields = self.model_dump(mode="json", exclude_none=True)
        explicit = {name: value for name, value in fields.items() if value != Experiment.model_fields[name].default}
        for name in ("data", "devices", "placement"):
            others = _without(explicit, {name})
            if name in explicit and _plain(checks.fill_in(others).get(name)) == explicit[name]:
                explicit = others
        return explicit

    # -- round trips ---------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the format's version."""
        return {"version": FORMAT_VERSION, **self.model_dump(mode="json", exclude_none=True)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def to_toml(self) -> str:
        return tomli_w.dumps(self.to_dict())

    def to_query(self) -> str:
        """A URL query with only what differs from the defaults: `strategy=model_parallel&placement.conv1=vgpu:0`."""
        pairs: list[tuple[str, str]] = [("version", str(FORMAT_VERSION))]
        for name, value in self.explicit().items():
            if isinstance(value, dict):
                pairs += [(f"{name}.{key}", str(item)) for key, item in value.items()]
            elif isinstance(value, list):
                pairs.append((name, ",".join(map(str, value))))
            else:
                pairs.append((name, str(value)))
        return urlencode(pairs, safe=":*,")

    def to_code(self) -> str:
        """The Python that runs this Experiment again."""
        arguments = [f"    {name}={value!r}," for name, value in self.explicit().items()]
        inside = "\n" + "\n".join(arguments) + "\n" if arguments else ""
        net = ", net=" + self.net.removeprefix("own:") if self.net.startswith("own:") else ""
        return (
            f"import lab\n\nexperiment = lab.Experiment({inside})\n\n"
            f'if __name__ == "__main__":\n    result = lab.start(experiment{net}).result()\n    print(result)\n'
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Experiment:
        fields = dict(fields)
        version = fields.pop("version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise ExperimentError(
                [Problem("version", f"{version!r} is not a format this release reads; it reads version {FORMAT_VERSION}")]
            )
        return cls(**fields)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ExperimentError([Problem("JSON", f"cannot be read: {error}")]) from None
        if not isinstance(fields, dict):
            raise ExperimentError([Problem("JSON", f"must be an object of fields, not {type(fields).__name__}")])
        return cls.from_dict(fields)

    @classmethod
    def from_toml(cls, text: str) -> Experiment:
        return cls.from_dict(read_toml(text))

    @classmethod
    def from_file(cls, path: str | Path) -> Experiment:
        """Reads a `.json` file as JSON and any other as TOML."""
        return cls.from_dict(read_file(path))

    @classmethod
    def from_query(cls, query: str) -> Experiment:
        return cls.from_dict(read_query(query))


def read_toml(text: str) -> dict[str, Any]:
    """The fields of an Experiment written as TOML, unchecked."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError([Problem("TOML", f"cannot be read: {error}")]) from None


def read_file(path: str | Path) -> dict[str, Any]:
    """The fields of an Experiment in a `.json` or TOML file, unchecked."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ExperimentError([Problem("config", f"cannot read {str(path)!r}: {reason}")]) from None
    if Path(path).suffix == ".json":
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ExperimentError([Problem("config", f"{str(path)!r} is not JSON: {error}")]) from None
        return dict(fields) if isinstance(fields, dict) else {}
    return read_toml(text)


def read_query(query: str) -> dict[str, Any]:
    """The fields of an Experiment in a URL query, unchecked."""
    fields: dict[str, Any] = {}
    for key, value in parse_qsl(query.lstrip("?"), keep_blank_values=True):
        name, dot, inner = key.partition(".")
        if dot:
            group = fields.setdefault(name, {})
            if isinstance(group, dict):
                group[inner] = value
        elif name == "version":
            fields[name] = int(value) if value.isdecimal() else value
        else:
            fields[name] = value
    return fields


def _problem(entry: Any) -> Problem:
    """A sentence for one entry of pydantic's list of errors."""
    location = [str(part) for part in entry["loc"]]
    name, value = (location[0] if location else "experiment"), entry.get("input")
    if entry["type"] == "extra_forbidden":
        known = Link.model_fields if name == "link" else Experiment.model_fields
        return Problem(".".join(location), f"is not a field of an Experiment{checks.hint(location[-1], known)}")
    if name == "link":
        name = ".".join(location)
    if name == "placement":
        return Problem(
            name, f"{value!r} is not allowed; give 'even', 'auto', or a mapping from layer pattern to device"
        )
    allowed = entry["msg"].replace("Input should be", "must be").replace("a valid", "a")
    if entry["type"] == "literal_error":
        options = re.findall(r"'([^']+)'", str(entry["ctx"]["expected"]))
        return Problem(name, f"{value!r} is not one of {', '.join(options)}{checks.hint(str(value), options)}")
    return Problem(name, f"{value!r} is not allowed: it {allowed[:1].lower()}{allowed[1:]}")


def _without(fields: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
