"""Checks of an Experiment's fields against each other, without torch. Those that need the machine are in `readiness`.

Each check names the fields it reads and runs only when all of them are valid, so that one mistake gives one message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from lab import data, nets, strategies
from lab.errors import Problem, did_you_mean, listed, shown
from lab.vgpu import links, profiles, settings, topologies

MAX_VGPUS = settings.MAX_DEVICES
_RANKS = re.compile(r"\d{1,9}")
OWN = "own:"
"""Prefix of `net` for a module of the user's."""
DEVICE_NAME = re.compile(r"cpu|(?:cuda|vgpu):(0|[1-9]\d{0,8})")
ONE_BUCKET_MB = 10_000.0
"""The largest bucket of gradients there is: it holds those of any net, so the all-reduce begins when backward ends."""
FOLLOWS = {"data": "net", "devices": "strategy", "placement": "strategy", "world_size": "strategy"}
"""Field that may be left out -> the field from which it then follows."""


def takes_momentum(optimizer: str) -> bool:
    """Whether the Experiment's momentum is the optimizer's; the Adam family keeps its own."""
    return optimizer == "sgd"


def fill_in(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with devices as a tuple, and with those that were left out and follow from others filled in.

    What would follow from an unknown net or strategy stays left out.
    """
    filled = dict(fields)
    entry = strategies.REGISTRY.get(_text(filled.get("strategy", "single")))
    devices = filled.get("devices")
    if isinstance(devices, str):
        filled["devices"] = tuple(name.strip() for name in devices.split(",")) if devices.strip() else ()
    elif isinstance(devices, list):
        filled["devices"] = tuple(devices)
    if filled.get("devices") in (None, ()):
        filled["devices"] = entry.default_devices if entry else ()
    if filled.get("data") is None:
        net = _text(filled.get("net", "net"))
        filled["data"] = nets.REGISTRY[net].default_data if net in nets.REGISTRY else _data_of_own(net)
    if filled.get("world_size") is None and entry:
        filled["world_size"] = _default_world_size(entry, filled["devices"], filled.get("placement"))
    if filled.get("placement") is None and entry and entry.takes_placement:
        single = entry.several_ranks and _devices_per_rank(filled) <= 1
        filled["placement"] = None if single else "even"
    return filled


def _default_world_size(entry: strategies.StrategyEntry, devices: Any, placement: Any) -> int:
    """One rank for each device; two, that share it, for one device or a net that is placed on several."""
    if not entry.several_ranks:
        return 1
    count = len(devices) if isinstance(devices, tuple) else 1
    return count if count > 1 and placement is None else 2


def _devices_per_rank(fields: dict[str, Any]) -> int:
    devices, world_size = fields["devices"], fields.get("world_size", 1)
    if isinstance(world_size, str):  # as it comes from a URL
        world_size = int(world_size) if _RANKS.fullmatch(world_size) else 0
    if not isinstance(devices, tuple) or not isinstance(world_size, int) or world_size < 1:
        return 1
    return len(devices) // world_size


def _data_of_own(net: str) -> str | None:
    return data.NAMES[0] if net.startswith(OWN) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def static_problems(fields: dict[str, Any]) -> list[Problem]:
    """Every problem among these fields that can be seen without loading torch; those missing or empty are skipped."""
    problems: list[Problem] = []
    for names, check in _CHECKS:
        known = all(fields.get(name) not in (None, ()) for name in names)
        if known and not any(problem.field in names for problem in problems):
            problems += check(*(fields[name] for name in names))
    return problems


def _known(field: str, name: str, known: Iterable[str]) -> list[Problem]:
    known = list(known)
    if name in known:
        return []
    return [Problem(field, f"{shown(name)} is not one of {', '.join(known)}{did_you_mean(name, known)}")]


def _hardware(name: str) -> list[Problem]:
    if profiles.is_path(name):
        return []  # whether it can be read is for the machine to say
    known = profiles.names()
    if name in known:
        return []
    text = f"{shown(name)} is not one of {', '.join(known)}, or the path of a .toml file{did_you_mean(name, known)}"
    return [Problem("hardware", text)]


def _link(link: Any) -> list[Problem]:
    return _known("link", link, links.names()) if isinstance(link, str) else []


def _topology(text: str) -> list[Problem]:
    wrong = topologies.problem(text)
    return [Problem("topology", wrong)] if wrong else []


def _net(name: str) -> list[Problem]:
    if name.startswith(OWN) and len(name) > len(OWN):
        return []
    return _known("net", name, nets.NAMES)


def _net_reads_data(net: str, name: str) -> list[Problem]:
    entry, spec = nets.REGISTRY.get(net), data.REGISTRY[name].spec
    if entry is None:
        return []
    reads = ""
    if entry.reads != spec.kind:
        reads = f"{entry.reads}, but {name!r} holds {spec.kind}"
    elif entry.exact_image and spec.shape != entry.exact_image:
        reads = f"images of {_shape(entry.exact_image)}, but those of {name!r} are {_shape(spec.shape)}"
    elif entry.reads == "images" and min(spec.shape[1:]) < entry.smallest_image:
        least = _shape((entry.smallest_image, entry.smallest_image))
        reads = f"images of at least {least}, but those of {name!r} are {_shape(spec.shape)}"
    return [Problem("data", f"net {net!r} reads {reads}; try {entry.default_data!r}")] if reads else []


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _devices(devices: tuple[str, ...]) -> list[Problem]:
    problems = []
    for device in dict.fromkeys(devices):
        match = DEVICE_NAME.fullmatch(device)
        if not match:
            text = f"{shown(device)} is not a device name; write cpu, cuda:0 or vgpu:0"
        elif device.startswith("vgpu") and int(match[1]) >= MAX_VGPUS:
            text = f"{shown(device)} is out of range: the lab has vgpu:0 to vgpu:{MAX_VGPUS - 1}"
        elif devices.count(device) > 1:
            text = f"{device!r} is named {devices.count(device)} times; name each device once"
        else:
            continue
        problems.append(Problem("devices", text))
    return problems


def _device_count(strategy: str, devices: tuple[str, ...]) -> list[Problem]:
    if not strategies.REGISTRY[strategy].several_devices and len(devices) > 1:
        return [Problem("devices", f"{strategy!r} runs on one device, but {len(devices)} are named: {listed(devices)}")]
    return []


def _world_size(strategy: str, devices: tuple[str, ...], world_size: int) -> list[Problem]:
    if not strategies.REGISTRY[strategy].several_ranks:
        if world_size == 1:
            return []
        several = listed([repr(name) for name, entry in strategies.REGISTRY.items() if entry.several_ranks], "or")
        text = f"{world_size} ranks have no use with {strategy!r}, which runs in one process; choose strategy {several}"
        return [Problem("world_size", text)]
    if len(devices) == 1 and devices[0].startswith("vgpu") and world_size > 1:
        text = f"{world_size} ranks cannot share {devices[0]}; name a virtual GPU for each"
        return [Problem("devices", text)]
    if len(devices) > 1 and len(devices) % world_size:
        text = f"{len(devices)} devices cannot be shared out evenly among {world_size} ranks; name a multiple of that"
        return [Problem("devices", text)]
    if len({device.partition(":")[0] for device in devices}) > 1:
        return [Problem("devices", f"ranks need devices of one kind, but {listed(devices)} are named")]
    return []


def rank_devices(devices: tuple[str, ...], world_size: int, rank: int) -> tuple[str, ...]:
    """The devices of one rank: its share of them in order, or the one that all ranks share."""
    share = len(devices) // world_size
    return devices[rank * share : (rank + 1) * share] if share else devices


def _backend(strategy: str, devices: tuple[str, ...], world_size: int, backend: str) -> list[Problem]:
    if backend == "nccl" and strategies.REGISTRY[strategy].several_ranks:
        if not all(device.startswith("cuda") for device in devices):
            return [Problem("backend", f"'nccl' needs CUDA devices, but devices are {listed(devices)}; use 'auto'")]
        if len(devices) < world_size:
            text = (
                f"'nccl' needs a GPU for each rank: {world_size} ranks, but devices are {listed(devices)}; use 'gloo'"
            )
            return [Problem("backend", text)]
    return []


def _faults(strategy: str, world_size: int, faults: tuple[Any, ...]) -> list[Problem]:
    from lab.faults import Fault  # with pydantic, which the command line starts without

    problems = []
    for fault in map(Fault.model_validate, faults):
        written, rank = str(fault), fault.rank
        if not strategies.REGISTRY[strategy].several_ranks:
            problems.append(Problem("faults", f"{written!r} needs ranks, and {strategy!r} has none; choose 'ddp'"))
        elif rank >= world_size:
            problems.append(Problem("faults", f"{written!r} names rank {rank}, but ranks are 0 to {world_size - 1}"))
    return problems


def _placement(strategy: str, devices: tuple[str, ...], world_size: int, placement: Any) -> list[Problem]:
    if placement is None:
        return []
    entry = strategies.REGISTRY[strategy]
    if not entry.takes_placement:
        placing = listed([repr(name) for name, other in strategies.REGISTRY.items() if other.takes_placement], "or")
        where = "every device" if entry.several_devices else "its one device"
        text = f"{strategy!r} puts the whole net on {where}; leave placement out, or choose strategy {placing}"
        return [Problem("placement", text)]
    if entry.several_ranks and len(devices) <= world_size:
        text = f"every rank has one device here; to place layers, name {world_size} times as many devices as stages"
        return [Problem("placement", text)]
    devices = rank_devices(devices, world_size, 0)
    if isinstance(placement, str):
        return []
    if not placement:
        return [Problem("placement", f"is empty; give every layer a device, for example {{'*': '{devices[0]}'}}")]
    if "" in placement:
        return [Problem("placement", "has an empty layer pattern; '*' matches every layer that is left")]
    whose = "the devices of rank 0" if strategies.REGISTRY[strategy].several_ranks else "devices"
    known = f"which is not among {whose}: {listed(devices)}"
    return [
        Problem("placement", f"{shown(pattern)} goes to {shown(device)}, {known}{did_you_mean(device, devices)}")
        for pattern, device in placement.items()
        if device not in devices
    ]


def _batch_over_ranks(world_size: int, batch_size: int) -> list[Problem]:
    if batch_size % world_size:
        least = world_size * max(1, round(batch_size / world_size))
        text = f"{batch_size} is not a multiple of the {world_size} ranks that share it; the nearest is {least}"
        return [Problem("batch_size", text)]
    return []


def _microbatches(strategy: str, world_size: int, batch_size: int, microbatches: int) -> list[Problem]:
    batch_size //= world_size
    if microbatches > 1 and not strategies.REGISTRY[strategy].takes_placement:
        text = f"{microbatches} have no use with {strategy!r}: it has no stages to overlap; use 1"
        return [Problem("microbatches", text)]
    if batch_size % microbatches:
        local = "the local batch of" if world_size > 1 else "batch_size"
        divisors = [m for m in range(1, batch_size + 1) if batch_size % m == 0]
        nearest = min(divisors, key=lambda m: abs(m - microbatches))
        text = f"{microbatches} does not divide {local} {batch_size}; the nearest that does is {nearest}"
        return [Problem("microbatches", text)]
    return []


def _only_for_ddp(field: str, default: Any) -> tuple[tuple[str, ...], Callable[..., list[Problem]]]:
    """The check of an option that has a meaning for ranks only."""

    def check(strategy: str, value: Any) -> list[Problem]:
        if value == default or strategies.REGISTRY[strategy].several_ranks:
            return []
        return [Problem(field, f"{shown(value)} has no use with {strategy!r}, which has no ranks; choose 'ddp'")]

    return ("strategy", field), check


def _static_graph(static_graph: bool, find_unused_parameters: bool) -> list[Problem]:
    if static_graph and find_unused_parameters:
        text = "True has no use with static_graph, which finds unused parameters in the first step; set one of the two"
        return [Problem("find_unused_parameters", text)]
    return []


def _accumulation(
    strategy: str, devices: tuple[str, ...], world_size: int, microbatches: int, static_graph: bool
) -> list[Problem]:
    accumulates = strategies.REGISTRY[strategy].several_ranks and microbatches > 1
    if static_graph and accumulates and len(rank_devices(devices, world_size, 0)) == 1:
        text = (
            f"True does not go with {microbatches} microbatches, which accumulate gradients without synchronising: "
            "PyTorch learns a static graph from a first step that synchronises; leave one of the two out"
        )
        return [Problem("static_graph", text)]
    return []


def _compression(compression: str, dtype: str) -> list[Problem]:
    if compression == "fp16" and dtype == "bfloat16":
        text = "'fp16' saves nothing with dtype 'bfloat16', whose gradients have two bytes already; use 'none'"
        return [Problem("compression", text)]
    return []


def _batch_fits_data(name: str, batch_size: int) -> list[Problem]:
    samples = data.REGISTRY[name].spec.train_samples
    if batch_size > samples:
        return [Problem("batch_size", f"{batch_size} is more than the {samples} training samples of {name!r}")]
    return []


def _clock(devices: tuple[str, ...], clock: str) -> list[Problem]:
    kinds = {device.split(":")[0] for device in devices}
    if clock == "virtual" and "vgpu" not in kinds:
        return [Problem("clock", "'virtual' needs a virtual GPU among devices, such as vgpu:0")]
    if clock == "virtual" and "cuda" in kinds:
        return [Problem("clock", "'virtual' cannot time a real GPU; use 'wall' for real and virtual GPUs together")]
    if clock == "cuda" and kinds != {"cuda"}:
        return [Problem("clock", f"'cuda' needs CUDA devices only, but devices are {listed(devices)}; use 'auto'")]
    return []


_CHECKS: list[tuple[tuple[str, ...], Callable[..., list[Problem]]]] = [
    (("net",), _net),
    (("data",), lambda name: _known("data", name, data.NAMES)),
    (("strategy",), lambda name: _known("strategy", name, strategies.NAMES)),
    (("hardware",), _hardware),
    (("link",), _link),
    (("topology",), _topology),
    (("devices",), _devices),
    (("net", "data"), _net_reads_data),
    (("strategy", "devices"), _device_count),
    (("strategy", "devices", "world_size"), _world_size),
    (("strategy", "devices", "world_size", "placement"), _placement),
    (("strategy", "devices", "world_size", "backend"), _backend),
    (("world_size", "batch_size"), _batch_over_ranks),
    (("strategy", "world_size", "batch_size", "microbatches"), _microbatches),
    (("strategy", "world_size", "faults"), _faults),
    _only_for_ddp("gradient_as_bucket_view", False),
    _only_for_ddp("static_graph", False),
    _only_for_ddp("find_unused_parameters", False),
    _only_for_ddp("compression", "none"),
    (("static_graph", "find_unused_parameters"), _static_graph),
    (("strategy", "devices", "world_size", "microbatches", "static_graph"), _accumulation),
    (("compression", "dtype"), _compression),
    (("data", "batch_size"), _batch_fits_data),
    (("devices", "clock"), _clock),
]
