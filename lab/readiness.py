"""Checks of an Experiment that need torch: whether its devices are here, and whether its placement fits its net.

`check` is what every face calls before a run: one list of everything that is wrong, and nothing started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import psutil

from lab import checks, data, devices, nets
from lab.errors import DeviceError, ExperimentError, Problem, listed, shown
from lab.experiment import Experiment, without_version
from lab.vgpu import profiles

if TYPE_CHECKING:
    from torch import nn

    Net: TypeAlias = nn.Module | Callable[[], nn.Module]

RANK_BYTES = 100_000_000
"""What a rank's process takes at least: 67 MB were measured with gloo and Net, besides what it shares with others."""


def check(fields: Mapping[str, Any], net: Net | None = None) -> Experiment:
    """Makes an Experiment that can run on this machine. The path of a hardware profile becomes absolute in it, so that
    the worker process finds the same file.

    Args:
        fields: of the Experiment, as from a file or a form: strings that read as numbers will do.
        net: a module of the user's, or a class or function that makes one, in place of a net of the registry.

    Raises:
        ExperimentError: with every problem, those of the values and those of the machine together.
    """
    fields = without_version(fields)
    if net is not None:
        fields["net"] = own_name(net)
    readable, problems = Experiment.examine(fields)
    if "world_size" not in readable:
        # What is no number of ranks at all is answered with how many there could be.
        held = f"as for this machine, {_capacity()}"
        problems = [Problem(p.field, f"{p.message}; {held}") if p.field == "world_size" else p for p in problems]
    problems += machine_problems(readable, net)
    if problems:
        raise ExperimentError(problems)
    if profiles.is_path(fields.get("hardware")):
        fields["hardware"] = str(Path(fields["hardware"]).expanduser().absolute())
    return Experiment(**fields)


def machine_problems(fields: Mapping[str, Any], net: Net | None = None) -> list[Problem]:
    """Every problem that shows only on this machine and with the net at hand.

    Fields that are missing, or that name nothing in the registries, are skipped: the static checks report those.
    """
    return (
        _absent_devices(fields.get("devices", ()))
        + _too_many_ranks(fields.get("world_size") or 1)
        + _unreadable_hardware(fields.get("hardware"))
        + _placement_problems(fields, net)
    )


def own_name(net: Net) -> str:
    """The `net` field for a module of the user's: `own:NAME`."""
    return checks.OWN + str(getattr(net, "__name__", type(net).__name__))


def _absent_devices(wanted: tuple[str, ...]) -> list[Problem]:
    real = [name for name in wanted if name.startswith("cuda") and checks.DEVICE_NAME.fullmatch(name)]
    if not real:
        return []
    here = devices.names()
    virtual = f"vgpu:0 to vgpu:{checks.MAX_VGPUS - 1}"
    return [
        Problem("devices", f"{name!r} is not on this machine, which has {listed((*here, virtual))}")
        for name in real
        if name not in here
    ]


def _too_many_ranks(world_size: int) -> list[Problem]:
    if world_size <= _ranks_held():
        return []
    return [Problem("world_size", f"{world_size} ranks, each a process, are too many for this machine: {_capacity()}")]


def _ranks_held() -> int:
    """Ranks whose processes fit into the memory that is free now; one always may try."""
    return max(1, int(psutil.virtual_memory().available // RANK_BYTES))


def _capacity() -> str:
    free, each, cores = psutil.virtual_memory().available / 1e9, RANK_BYTES / 1e9, devices.cores()
    turns = f"{cores} core{'s' * (cores > 1)}, on which more than {cores} take turns"
    return f"its {free:.1f} GB of free memory hold {_ranks_held()} of about {each:g} GB, and it has {turns}"


def _unreadable_hardware(hardware: Any) -> list[Problem]:
    if profiles.is_path(hardware):
        try:
            profiles.find(hardware)
        except DeviceError as error:
            return [Problem("hardware", str(error))]
    return []


def _placement_problems(fields: Mapping[str, Any], net: Net | None) -> list[Problem]:
    name, patterns = fields.get("net", ""), fields.get("placement")
    if net is None and name.startswith(checks.OWN):
        text = f"{name!r} is a module of your own; pass it along: lab.start(experiment, net=...)"
        return [Problem("net", text)]
    if net is None and (not isinstance(patterns, Mapping) or name not in nets.REGISTRY):
        return []
    try:
        if net is None:
            paths = _registry_layers(name, fields.get("data"))
        else:
            module = _built(net)
            paths = _layers(module)
            if patterns is not None and _devices_of_a_rank(fields) > 1 and (loose := _loose(module)):
                return [Problem("net", loose)]
    except ExperimentError as error:
        return list(error.problems)
    if not isinstance(patterns, Mapping):
        return []
    if not paths:
        return [Problem("placement", "finds no layers: the net has no submodules to place")]
    from lab import placement

    return placement.problems(patterns, paths)


def _devices_of_a_rank(fields: Mapping[str, Any]) -> int:
    """On how many devices the layers of one copy of the net are placed."""
    return len(checks.rank_devices(tuple(fields.get("devices") or ()), fields.get("world_size") or 1, 0))


def _registry_layers(net: str, data_name: Any) -> list[str]:
    entry = nets.REGISTRY[net]
    suits = data_name in data.REGISTRY and not checks.static_problems({"net": net, "data": data_name})
    return list(nets.layer_names(net, data_name if suits else entry.default_data))


def _layers(module: nn.Module) -> list[str]:
    from lab import layers

    return layers.layer_paths(module)


def _loose(module: nn.Module) -> str:
    """What to say of parameters that no placement can move; nothing when there are none."""
    from lab import layers

    names = layers.own_parameters(module)
    if not names:
        return ""
    return f"{listed(names)} {'belongs' if len(names) == 1 else 'belong'} to no layer, {layers.NO_LAYER}"


def _built(net: Net) -> nn.Module:
    """The module itself. One made by a class or function is made without memory for its parameters where that works."""
    import torch
    from torch import nn

    if isinstance(net, nn.Module):
        return net
    if not callable(net):
        raise _unusable(f"{shown(net)} is not an nn.Module, nor a class or function that makes one")
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                made = net()
        except Exception:  # noqa: BLE001 - whatever the user's code does on meta, the plain call decides
            try:
                made = net()
            except Exception as error:
                raise _unusable(
                    f"{own_name(net)!r} cannot be made: {type(error).__name__}: {error}. "
                    "Give a module, or a class or function without arguments"
                ) from error
    if not isinstance(made, nn.Module):
        raise _unusable(f"{own_name(net)!r} makes {shown(made)}, which is not an nn.Module")
    return made


def _unusable(text: str) -> ExperimentError:
    return ExperimentError([Problem("net", text)])
