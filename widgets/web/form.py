"""The page's controls as an Experiment and back. Nothing from a client is trusted: `lab` checks every value."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lab import nets, placement, readiness, strategies
from lab.errors import ExperimentError, Problem
from lab.experiment import Experiment
from lab.vgpu import profiles
from widgets import board
from widgets.web import text

MAX_RANKS = 4
"""Most ranks that the page starts, for whoever may open it; the command line takes more."""
TROUBLE_RANK, TROUBLE_STEP = 1, 20
FIRST_BUCKET_MB = 0.05
"""So that the gradients of a small net travel in more than one bucket."""
EACH = ("cpu", "cuda", "vgpu", "split")
"""What a rank can run on; `split` is two virtual GPUs."""
MAX_VIRTUAL = 8
"""Most virtual GPUs that the slider offers; the command line takes more."""
CONTROLS = (
    "strategy",
    "net",
    "virtual",
    "real",
    "device",
    "panel",
    "batch_size",
    "microbatches",
    "length",
    "unit",
    "lr",
    "seed",
    "ranks",
    "each",
    "bucket_mb",
    "trouble",
)
"""The order in which handlers get the controls' values."""


OF_RANKS = ("world_size", "bucket_cap_mb", "faults")
"""Fields of an Experiment that only ranks need."""


@dataclass(frozen=True, slots=True)
class Form:
    """The values of the controls, as a browser sent them."""

    strategy: Any
    net: Any
    virtual: Any
    """How many virtual GPUs."""
    real: Any
    """Names of real devices to use besides."""
    device: Any
    """The one device of a strategy that uses one."""
    panel: Any
    """The placement panel's value, see `widgets.board.state`."""
    batch_size: Any
    microbatches: Any
    length: Any
    unit: Any
    lr: Any
    seed: Any
    ranks: Any
    each: Any
    """What each rank runs on, one of `EACH`."""
    bucket_mb: Any
    trouble: Any
    """A kind of fault, or `none`."""

    def experiment(self, default: Experiment) -> Experiment:
        """What the controls say; fields without a control keep the default's value.

        Raises:
            ExperimentError: with every problem at once.
        """
        fields = default.explicit()
        for name in ("placement", "devices", "microbatches", "steps", "epochs", "version", *OF_RANKS):
            fields.pop(name, None)
        if self.net != default.net:
            fields.pop("data", None)
        fields |= {"strategy": self.strategy, "net": self.net, "batch_size": self.batch_size, "lr": self.lr}
        fields["seed"] = self.seed
        fields["steps" if self.unit == "steps" else "epochs"] = self.length
        problems: list[Problem] = []
        if self.length is None:
            problems.append(Problem("steps", text.NO_LENGTH))
        if takes_ranks(self.strategy):
            fields |= self._of_ranks(problems)
            if default.faults and self.trouble == default.faults[0].kind:
                fields["faults"] = [str(fault) for fault in default.faults]  # as the link has it, to the step
        else:
            fields["devices"] = self._listed(problems) if takes_several(self.strategy) else [str(self.device)]
        if takes_microbatches(self.strategy):
            fields["microbatches"] = self.microbatches
        if takes_placement(self.strategy):
            fields["placement"] = self._placement(problems)
        if profiles.is_path(fields.get("hardware")):
            # The page shows what it is given, to whoever may open it: it must not read files for them.
            del fields["hardware"]
            problems.append(Problem("hardware", text.NO_PATHS))
        try:
            experiment = readiness.check(fields)
        except ExperimentError as error:
            problems += [_worded(problem, fields) for problem in error.problems]
        if problems:
            raise ExperimentError(problems)
        return experiment

    def board(self, default: Experiment) -> dict[str, Any] | None:
        """What the placement board shows: the net's layers and the devices of now. Numbers that make no sense are as
        in the default; None when the net or the devices are at fault, or when there is one device to use."""
        if not (takes_several(self.strategy) or takes_ranks(self.strategy)):
            return None
        chosen = self.panel.get("chosen") if isinstance(self.panel, dict) else None
        blank = {"panel": {"chosen": "even"}, "microbatches": 1, "length": 1, "lr": 0.01, "seed": 0}
        numbers = {"batch_size": default.batch_size, "bucket_mb": FIRST_BUCKET_MB, "trouble": "none"}
        for form in (replace(self, **blank), replace(self, **blank, **numbers)):
            with contextlib.suppress(ExperimentError):
                return _panel(form.experiment(default), None if takes_ranks(self.strategy) else chosen)
        return None

    def _of_ranks(self, problems: list[Problem]) -> dict[str, Any]:
        """The fields of a strategy with several ranks."""
        ranks = self.ranks
        if ranks not in range(1, MAX_RANKS + 1):
            problems.append(Problem("world_size", text.TOO_MANY_RANKS.format(ranks=repr(ranks), most=MAX_RANKS)))
            ranks = 1
        fields: dict[str, Any] = {"world_size": int(ranks), "bucket_cap_mb": self.bucket_mb}
        if not isinstance(self.each, str) or self.each not in EACH:
            problems.append(Problem("devices", text.MALFORMED))
        elif self.each == "cpu":
            fields["devices"] = ["cpu"]
        else:
            count = int(ranks) * (2 if self.each == "split" else 1)
            fields["devices"] = [f"{'cuda' if self.each == 'cuda' else 'vgpu'}:{index}" for index in range(count)]
        if not isinstance(self.trouble, str) or self.trouble not in text.TROUBLES:
            problems.append(Problem("faults", text.MALFORMED))
        elif self.trouble != "none" and not problems:
            fields["faults"] = [f"{self.trouble}:{TROUBLE_RANK}:{TROUBLE_STEP}"]
        return fields

    def _listed(self, problems: list[Problem]) -> list[str]:
        real = [str(name) for name in self.real] if isinstance(self.real, list) else []
        count = self.virtual
        if count not in range(MAX_VIRTUAL + 1):
            problems.append(Problem("devices", text.TOO_MANY_VIRTUAL.format(count=self.virtual, most=MAX_VIRTUAL)))
            count = 0
        elif not count and not real:
            problems.append(Problem("devices", text.NO_DEVICES))
        return [f"vgpu:{index}" for index in range(int(count))] + real

    def _placement(self, problems: list[Problem]) -> Any:
        chosen = self.panel.get("chosen") if isinstance(self.panel, dict) else None
        if chosen in ("even", "auto"):
            return chosen
        if not isinstance(chosen, dict) or not all(isinstance(x, str) for pair in chosen.items() for x in pair):
            problems.append(Problem("placement", text.MALFORMED))
            return "even"
        # Layers that the net lacks are for the lab's own checks to name.
        return placement.shortest(chosen) if set(chosen) == set(layers(self.net)) else dict(chosen)


def _worded(problem: Problem, fields: Mapping[str, Any]) -> Problem:
    """The lab speaks of Python's None where the reader sees an empty field."""
    if fields.get(problem.field, problem) is not None:
        return problem
    return Problem(problem.field, problem.message.replace("None is not allowed", text.EMPTY, 1))


def _entry(strategy: Any) -> strategies.StrategyEntry | None:
    return strategies.REGISTRY.get(strategy) if isinstance(strategy, str) else None


def takes_several(strategy: Any) -> bool:
    """Whether one process can use several devices, which the reader lists."""
    entry = _entry(strategy)
    return entry is not None and entry.several_devices and not entry.several_ranks


def takes_ranks(strategy: Any) -> bool:
    """Whether the strategy starts several ranks."""
    entry = _entry(strategy)
    return entry is not None and entry.several_ranks


def takes_placement(strategy: Any) -> bool:
    """Whether the reader places the layers."""
    entry = _entry(strategy)
    return entry is not None and entry.takes_placement and not entry.several_ranks


def takes_microbatches(strategy: Any) -> bool:
    entry = _entry(strategy)
    return entry is not None and entry.takes_placement


def each_of(experiment: Experiment) -> str:
    """What each rank of an Experiment runs on, as the page offers it."""
    if not takes_ranks(experiment.strategy):
        return "cpu"
    kind = experiment.devices[0].partition(":")[0]
    split = kind == "vgpu" and len(experiment.devices) > (experiment.world_size or 1)
    return "split" if split else kind


def layers(net: Any) -> tuple[str, ...]:
    """The layers of a net of the registry, with the data that suits it; `()` for one that is not there."""
    return _layers(net) if isinstance(net, str) and net in nets.REGISTRY else ()


@functools.cache
def _layers(net: str) -> tuple[str, ...]:
    return nets.layer_names(net, nets.REGISTRY[net].default_data)


def values(experiment: Experiment) -> list[Any]:
    """What the controls show for an Experiment, in the order of `CONTROLS`."""
    several, ranks = takes_several(experiment.strategy), takes_ranks(experiment.strategy)
    trouble = experiment.faults[0].kind if experiment.faults else "none"
    virtual = sum(name.startswith("vgpu") for name in experiment.devices) if several else 2
    shown = {
        "strategy": experiment.strategy,
        "net": experiment.net,
        "virtual": virtual,
        "real": [name for name in experiment.devices if not name.startswith("vgpu")] if several else [],
        "device": experiment.devices[0] if not several and not ranks else "cpu",
        "panel": first_panel(experiment),
        "batch_size": experiment.batch_size,
        "microbatches": experiment.microbatches,
        "length": experiment.steps or experiment.epochs,
        "unit": "steps" if experiment.steps else "epochs",
        "lr": experiment.lr,
        "seed": experiment.seed,
        "ranks": experiment.world_size if ranks else 2,
        "each": each_of(experiment),
        "bucket_mb": experiment.bucket_cap_mb if ranks else FIRST_BUCKET_MB,
        "trouble": trouble if trouble in text.TROUBLES else "none",
    }
    return [shown[name] for name in CONTROLS]


def first_panel(experiment: Experiment) -> dict[str, Any]:
    """The placement board's value for an Experiment; for one of a single device, what the page offers for several."""
    if not (takes_several(experiment.strategy) or takes_ranks(experiment.strategy)):
        experiment = Experiment(strategy="model_parallel", net=experiment.net, batch_size=experiment.batch_size)
    return _panel(experiment, None)


def _panel(experiment: Experiment, chosen: Any) -> dict[str, Any]:
    virtual = [name for name in experiment.devices if name.startswith("vgpu")]
    placing = takes_placement(experiment.strategy)
    return board.state(experiment, chosen) | {
        "can_add": placing and len(virtual) < MAX_VIRTUAL,
        "removable": virtual[-1] if placing and virtual and len(experiment.devices) > 1 else "",
        "fixed": not placing,
    }
