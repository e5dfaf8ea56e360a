"""One sentence for each field that pydantic refused: the reader's value, and what is allowed."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lab import data, nets, strategies
from lab.errors import Problem, did_you_mean, shown
from lab.vgpu import links, profiles


def problems(
    error: ValidationError, fields: Mapping[str, FieldInfo], link_fields: Mapping[str, FieldInfo]
) -> list[Problem]:
    """A problem for each field that pydantic refused; its several complaints about one value become one."""
    found: dict[str, Problem] = {}
    for entry in error.errors(include_url=False):
        location = [str(part) for part in entry["loc"]]
        name = location[0]
        inner = location[2] if name == "link" and len(location) > 2 else None
        known = link_fields if inner else fields
        field = f"link.{inner}" if inner else name
        if entry["type"] == "extra_forbidden":
            text = f"is not a field of {'a link' if inner else 'an Experiment'}{did_you_mean(inner or name, known)}"
        elif entry["type"] == "missing":
            text = f"is missing; give {_allowed(field, known[inner or name])}"
        elif name == "placement":
            text = _placement(entry["input"], location)
        elif name == "faults" and entry["type"] == "value_error":
            text = str(entry["ctx"]["error"])
        else:
            text = _refused(field, entry["input"], known[inner or name])
        found.setdefault(field, Problem(field, text))
    return list(found.values())


def _refused(field: str, value: Any, info: FieldInfo) -> str:
    choices = _choices(info)
    if choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        return f"{shown(value)} is not one of {', '.join(choices)}{hint}"
    return f"{shown(value)} is not allowed; give {_allowed(field, info)}"


def _allowed(field: str, info: FieldInfo) -> str:
    """What a field takes, for "give ...": its own phrase, or the number's bounds."""
    phrases = {
        "net": f"one of {', '.join(nets.NAMES)}",
        "data": f"one of {', '.join(data.NAMES)}",
        "strategy": f"one of {', '.join(strategies.NAMES)}",
        "hardware": f"one of {', '.join(profiles.names())}, or the path of a .toml file",
        "devices": "names such as cpu, cuda:0 or vgpu:0, in a list or with commas between them",
        "link": f"one of {', '.join(links.names())}, or bandwidth_gb_per_s and latency_us",
        "topology": "pairs, ports, bus, or nodes:N with N devices for each machine",
        "faults": "a list of faults written kind:rank:step, such as kill:1:5",
    }
    if field in phrases:
        return phrases[field]
    noun = "a whole number" if int in _kinds(info.annotation) else "a number"
    limits = {
        key: _figure(value)
        for bound in info.metadata
        for key in ("gt", "ge", "lt", "le")
        if (value := getattr(bound, key, None)) is not None
    }
    if limits.keys() == {"ge", "le"}:
        return f"{noun} from {limits['ge']} to {limits['le']}"
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    return " ".join([noun, " and ".join(f"{words[key]} {limit}" for key, limit in limits.items())]).strip()


def _figure(limit: Any) -> str:
    return str(int(limit)) if limit == int(limit) else str(limit)


def _placement(value: Any, location: list[str]) -> str:
    how = "give 'even', 'auto', or a mapping from layer pattern to device, such as {'conv1': 'vgpu:0', '*': 'vgpu:1'}"
    if isinstance(value, str):
        return f"{shown(value)} is not one of even, auto, or a mapping from layer pattern to device" + did_you_mean(
            value, ("even", "auto")
        )
    return f"{shown(value)} is not allowed; {how}"


def _choices(info: FieldInfo) -> tuple[str, ...]:
    return get_args(info.annotation) if get_origin(info.annotation) is Literal else ()


def _kinds(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _kinds(part))
    return _kinds(get_args(annotation)[0]) if hasattr(annotation, "__metadata__") else (annotation,)
