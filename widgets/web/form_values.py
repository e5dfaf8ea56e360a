"""An Experiment as the values of the page's controls: the way back of `form.py`."""

from __future__ import annotations

from typing import Any

from lab.experiment import Experiment
from lab.vgpu import links
from widgets.web import text
from widgets.web.form import CONTROLS
from widgets.web.offers import AS_OPENED, FIRST_BUCKET_MB, OWN_LINK, TOPOLOGIES, takes_ranks, takes_several
from widgets.web.panel import first_panel


def values(experiment: Experiment) -> list[Any]:
    """What the controls show for an Experiment, in the order of `CONTROLS`."""
    shown = {**_training(experiment), **_devices(experiment), **_ranks(experiment), **_hardware(experiment)}
    return [shown[name] for name in CONTROLS]


def each_of(experiment: Experiment) -> str:
    """What each rank of an Experiment runs on, as the page offers it."""
    if not takes_ranks(experiment.strategy):
        return "cpu"
    kind = experiment.devices[0].partition(":")[0]
    return "split" if kind == "vgpu" and _per_rank(experiment) > 1 else kind


def _per_rank(experiment: Experiment) -> int:
    return len(experiment.devices) // (experiment.world_size or 1)


def _training(experiment: Experiment) -> dict[str, Any]:
    plain = ("strategy", "net", "data", "dtype", "batch_size", "microbatches", "lr", "seed")
    return {name: getattr(experiment, name) for name in plain} | {
        "length": experiment.steps or experiment.epochs,
        "unit": "steps" if experiment.steps else "epochs",
    }


def _devices(experiment: Experiment) -> dict[str, Any]:
    several, ranks = takes_several(experiment.strategy), takes_ranks(experiment.strategy)
    return {
        "virtual": sum(name.startswith("vgpu") for name in experiment.devices) if several else 2,
        "real": [name for name in experiment.devices if not name.startswith("vgpu")] if several else [],
        "device": experiment.devices[0] if not several and not ranks else "cpu",
        "panel": first_panel(experiment),
    }


def _ranks(experiment: Experiment) -> dict[str, Any]:
    ranks, each = takes_ranks(experiment.strategy), each_of(experiment)
    fault = next((fault for fault in experiment.faults if fault.kind in text.TROUBLES), None)
    return {
        "ranks": experiment.world_size if ranks else 2,
        "each": each,
        "per_rank": _per_rank(experiment) if each == "split" else 2,
        "bucket_mb": experiment.bucket_cap_mb if ranks else FIRST_BUCKET_MB,
        "trouble": fault.kind if fault else next(iter(text.TROUBLES)),
        "trouble_rank": fault.rank if fault else 1,
        "planned": fault is not None,
    }


def _hardware(experiment: Experiment) -> dict[str, Any]:
    link = experiment.link
    named = isinstance(link, str) and link in links.names()
    return {
        "hardware": experiment.hardware,
        "link": OWN_LINK if link is None else link if named else AS_OPENED,
        "topology": experiment.topology if experiment.topology in TOPOLOGIES else AS_OPENED,
        "memory_mb": experiment.memory_mb,
    }
