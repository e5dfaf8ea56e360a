"""Experiment: one immutable value that says everything about a run, and nothing else does.

    Experiment()                                     # the course's first run: Net on MNIST, on one device
    Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"})

It round-trips through JSON, TOML and a URL query. Bad values are refused when it is made, all at once.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import parse_qsl, urlencode

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationError,
    model_validator,
)

from lab import _wording, checks, reading
from lab.errors import ExperimentError, Problem, shown
from lab.faults import FaultField

FORMAT_VERSION = 1


class Pattern2Device(dict[str, str]):
    """An ordered mapping, layer-path pattern -> device, that cannot be changed."""

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError("an Experiment is immutable: make another one with experiment.replace(placement=...)")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))

    def __eq__(self, other: object) -> bool:
        # The first match wins, so the order is part of the value.
        return isinstance(other, Mapping) and list(self.items()) == list(other.items())

    def __reduce__(self) -> tuple[type[Pattern2Device], tuple[dict[str, str]]]:
        return type(self), (dict(self),)


def _freeze_placement(value: Any) -> Any:
    return Pattern2Device(value) if isinstance(value, dict) else value


def _plain_number(value: Any) -> Any:
    """Refuses True and False, which Python counts as 1 and 0, and takes whole numbers of other libraries."""
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return operator.index(value) if hasattr(value, "__index__") else value


Whole = Annotated[int, BeforeValidator(_plain_number)]
Number = Annotated[float, BeforeValidator(_plain_number)]
PlacementField = Annotated[
    Literal["auto", "even"] | dict[str, str] | None,
    AfterValidator(_freeze_placement),
    PlainSerializer(lambda value: dict(value) if isinstance(value, dict) else value),
]


def _split(value: Any) -> Any:
    """`kill:1:5,nan:0:2`, as in a URL or on the command line, as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


FaultsField = Annotated[
    tuple[FaultField, ...],
    BeforeValidator(_split),
    PlainSerializer(lambda faults: [str(fault) for fault in faults], when_used="json"),
]


class Link(BaseModel):
    """The link between two virtual GPUs: a transfer takes latency + bytes / bandwidth and keeps the link busy."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bandwidth_gb_per_s: Number = Field(gt=0, le=1e6)
    """Gigabytes (10^9 bytes) per second."""
    latency_us: Number = Field(ge=0, le=1e7)
    """Microseconds before the first byte arrives."""


LinkField = Annotated[
    Annotated[str, Tag("name")] | Annotated[Link, Tag("figures")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "figures"),
]


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
    devices: tuple[str, ...] = ()
    """`cpu`, `cuda:i` and `vgpu:i`; empty takes the CPU for one device, two virtual GPUs for several."""
    placement: PlacementField = None
    """Layer-path pattern -> device, first match wins; or `even` (by parameters) or `auto` (by measured time)."""
    transfers: Literal["auto", "manual"] = "auto"
    """`auto` moves activations and targets between devices; `manual` leaves that to the net."""
    world_size: Whole | None = Field(default=None, ge=1, le=1_000_000)
    """Ranks of `ddp`, each a process with its share of the devices; None takes one for each device, or two that share
    one."""
    backend: Literal["auto", "gloo", "nccl"] = "auto"
    """Of the ranks' communication; `auto` takes nccl when each rank has its own CUDA devices, else gloo."""
    batch_size: Whole = Field(default=64, ge=1, le=65_536)
    """Samples per optimizer step, over all ranks, devices and microbatches together (the global batch)."""
    microbatches: Whole = Field(default=1, ge=1, le=4096)
    """Parts into which a (local) batch is split: so that the stages of model parallelism overlap, or, in a rank that
    holds the whole net, to accumulate gradients before they are synchronised."""
    bucket_cap_mb: Number = Field(default=25, gt=0, le=checks.ONE_BUCKET_MB)
    """Size of DDP's gradient buckets in 2^20 bytes, as DistributedDataParallel counts it. With its default, the first
    bucket holds 1 MB, so that there is something to send early."""
    gradient_as_bucket_view: bool = False
    """DDP: gradients are views of the buckets, which saves their memory."""
    static_graph: bool = False
    """DDP: the same parameters take part in every step."""
    find_unused_parameters: bool = False
    """DDP: look for parameters that take no part in a step, which would otherwise be waited for."""
    compression: Literal["none", "fp16", "powersgd"] = "none"
    """DDP: of gradients before they are sent."""
    epochs: Whole = Field(default=10, ge=1, le=10_000)
    """Passes over the training data; ignored when `steps` is given."""
    steps: Whole | None = Field(default=None, ge=1, le=100_000_000)
    """Optimizer steps, in place of epochs."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Number = Field(default=0.01, gt=0, le=1000)
    momentum: Number = Field(default=0.9, ge=0, lt=1)
    """For `sgd`; the Adam family keeps PyTorch's betas."""
    seed: Whole = Field(default=0, ge=0, lt=2**63)
    """Of the parameters and of the order of the samples."""
    link: LinkField | None = None
    """Between virtual GPUs: figures, or a link's name (`parallel-lab devices` lists them); None takes the hardware
    profile's own."""
    topology: str = "pairs"
    """Which virtual GPUs share links: `pairs` (none), `ports` (each has one port), `bus` (all and the host share one
    link), `nodes:4` or `nodes:4:ethernet_10g` (machines of four, and the link between them)."""
    hardware: str = "classroom"
    """Profile of the virtual GPUs (`parallel-lab devices` lists them), or the path of a `.toml` file with one, which
    the worker process reads again."""
    timing: Literal["auto", "measured", "modelled"] = "auto"
    """Of operations on virtual GPUs: as long as this CPU takes, or a model of the profile's hardware, which gives the
    same times on every machine; `auto` takes the profile's own way."""
    memory_mb: Number | None = Field(default=None, gt=0, le=1e7)
    """Capacity of each virtual GPU in megabytes (10^6 bytes); None takes the profile's."""
    clock: Literal["auto", "wall", "cuda", "virtual"] = "auto"
    """Of all times shown; `auto` takes the virtual clock for virtual GPUs, CUDA events for GPUs, else the wall."""
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    """Of the parameters and activations."""
    faults: FaultsField = ()
    """Trouble on purpose (`lab.faults`): written `kill:1:5`, rank 1 is killed before its step 5."""
    timeout_s: Number = Field(default=20.0, ge=1, le=3600)
    """Seconds for which ranks may wait for one that does not come, before the run ends and says which."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any) -> Any:
        return checks.fill_in(raw) if isinstance(raw, dict) else raw

    def __init__(self, /, **fields: Any) -> None:
        _, problems = self.examine(fields)
        if problems:
            raise ExperimentError(problems)
        super().__init__(**fields)

    @classmethod
    def examine(cls, fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """What these fields say, and every problem with that.

        Returns:
            The fields that could be read, in their own types and filled in, and the problems: of fields that could not
            be read, and of the others' values.
        """
        problems: list[Problem] = []
        try:
            readable = cls._coerced(fields)
        except ValidationError as error:
            problems = _wording.problems(error, cls.model_fields, Link.model_fields)
            bad = {str(entry["loc"][0]) for entry in error.errors()}
            # What would have followed from a bad field is unknown, not the default.
            bad |= {name for name, leader in checks.FOLLOWS.items() if leader in bad and name not in fields}
            readable = _without(cls._coerced(_without(fields, bad)), bad)
        return readable, problems + checks.static_problems(readable)

    @classmethod
    def _coerced(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        blank = cls.__new__(cls)
        BaseModel.__init__(blank, **fields)
        return blank.model_dump()

    def replace(self, **changes: Any) -> Experiment:
        """The same Experiment with some fields changed, checked anew. Fields that only followed others follow again."""
        return Experiment(**{**self.explicit(), **changes})

    def explicit(self) -> dict[str, Any]:
        """The fewest fields, as plain JSON values, from which `Experiment(**fields)` makes this value again."""
        fields = self.model_dump(mode="json", exclude_none=True)
        explicit = {
            name: value for name, value in fields.items() if value != _plain(Experiment.model_fields[name].default)
        }
        for name in ("data", "devices", "placement", "world_size"):
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
        """Makes an Experiment of plain values, with or without the format's version."""
        return cls(**without_version(fields))

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        return cls.from_dict(read_json(text))

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


def without_version(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields alone.

    Raises:
        ExperimentError: when they were written in a version of the format that this release does not read.
    """
    version = fields.get("version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        text = f"{shown(version)} is not a format this release reads; it reads version {FORMAT_VERSION}"
        raise ExperimentError([Problem("version", text)])
    return _without(fields, {"version"})


def read_json(text: str, what: str = "JSON") -> dict[str, Any]:
    """The fields of an Experiment written as JSON, unchecked."""
    try:
        fields = reading.json_object(text)
    except reading.UnreadableError as error:
        raise ExperimentError([Problem(what, str(error))]) from None
    if not isinstance(fields, dict):
        raise ExperimentError([Problem(what, f"must be an object of fields, not {shown(fields)}")])
    return fields


def read_toml(text: str, what: str = "TOML") -> dict[str, Any]:
    """The fields of an Experiment written as TOML, unchecked."""
    try:
        return reading.toml(text)
    except reading.UnreadableError as error:
        raise ExperimentError([Problem(what, str(error))]) from None


def read_file(path: str | Path) -> dict[str, Any]:
    """The fields of an Experiment in a `.json` or TOML file, unchecked."""
    try:
        text = reading.text_of(Path(path))
    except reading.UnreadableError as error:
        raise ExperimentError([Problem("config", f"cannot read {str(path)!r}: {error}")]) from None
    read = read_json if Path(path).suffix == ".json" else read_toml
    return read(text, f"config {str(path)!r}")


def read_query(query: str) -> dict[str, Any]:
    """The fields of an Experiment in a URL query, unchecked: all texts, with the parts of `a.b` gathered under `a`."""
    fields: dict[str, Any] = {}
    for key, value in parse_qsl(query.removeprefix("?"), keep_blank_values=True):
        name, dot, inner = key.partition(".")
        group = fields.setdefault(name, {}) if dot else None
        if isinstance(group, dict):
            group[inner] = value
        elif key == "version" and value.isdecimal() and len(value) < 10:
            fields[key] = int(value)
        else:
            fields[key] = value
    return fields


def _without(fields: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
