"""The placement board's value: what `widgets.board` shows of an Experiment, and what may be done to it on the page."""

from __future__ import annotations

from typing import Any

from lab import checks
from lab.experiment import Experiment
from widgets import board
from widgets.web.offers import MAX_PER_RANK, MAX_VIRTUAL, takes_ranks, takes_several


def first_panel(experiment: Experiment) -> dict[str, Any]:
    """For an Experiment; for one of a single device, what the page offers for several."""
    if not (takes_several(experiment.strategy) or takes_ranks(experiment.strategy)):
        experiment = Experiment(strategy="model_parallel", net=experiment.net, batch_size=experiment.batch_size)
    return panel(experiment, None)


def panel(experiment: Experiment, chosen: Any) -> dict[str, Any]:
    """For an Experiment, with another placement than its own unless `chosen` is None."""
    placing = experiment.placement is not None
    if takes_ranks(experiment.strategy):
        own = checks.rank_devices(experiment.devices, experiment.world_size or 1, 0) if placing else ()
        may_add, may_remove = placing and len(own) < MAX_PER_RANK, len(own) > 2
    else:
        own = tuple(name for name in experiment.devices if name.startswith("vgpu"))
        may_add, may_remove = len(own) < MAX_VIRTUAL, len(experiment.devices) > 1
    return board.state(experiment, chosen) | {
        "can_add": may_add,
        "removable": own[-1] if own and may_remove else "",
        "fixed": not placing,
    }
