"""The page's controls as an Experiment and back. Nothing from a client is trusted: `lab` checks every value."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab import nets, placement, readiness, strategies
from lab.errors import ExperimentError, Problem
from lab.experiment import Experiment
from lab.vgpu import profiles
from widgets.web import text

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
)
"""The order in which handlers get the controls' values."""


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
    """The placement panel's value, see `panel`."""
    batch_size: Any
    microbatches: Any
    length: Any
    unit: Any
    lr: Any
    seed: Any

    def experiment(self, default: Experiment) -> Experiment:
        """What the controls say; fields without a control keep the default's value.

        Raises:
            ExperimentError: with every problem at once.
        """
        fields = default.explicit()
        for name in ("placement", "devices", "microbatches", "steps", "epochs", "version"):
            fields.pop(name, None)
        if self.net != default.net:
            fields.pop("data", None)
        fields |= {"strategy": self.strategy, "net": self.net, "batch_size": self.batch_size, "lr": self.lr}
        fields["seed"] = self.seed
        fields["steps" if self.unit == text.STEPS else "epochs"] = self.length
        problems: list[Problem] = []
        if self.length is None:
            problems.append(Problem("steps", text.NO_LENGTH))
        fields["devices"] = self._listed(problems) if takes_several(self.strategy) else [str(self.device)]
        if takes_placement(self.strategy):
            fields["microbatches"] = self.microbatches
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

    def devices(self) -> list[str]:
        """The devices that the controls name; `[]` when they make no sense."""
        return self._listed([]) if takes_several(self.strategy) else [str(self.device)]

    def _listed(self, problems: list[Problem]) -> list[str]:
        real = [str(name) for name in self.real] if isinstance(self.real, list) else []
        count = self.virtual
        if count not in range(MAX_VIRTUAL + 1):
            problems.append(Problem("devices", f"{self.virtual!r} virtual GPUs: give a number from 0 to {MAX_VIRTUAL}"))
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
        return patterns(chosen) if set(chosen) == set(layers(self.net)) else dict(chosen)


def _worded(problem: Problem, fields: Mapping[str, Any]) -> Problem:
    """The lab speaks of Python's None where the reader sees an empty field."""
    if fields.get(problem.field, problem) is not None:
        return problem
    return Problem(problem.field, problem.message.replace("None is not allowed", text.EMPTY, 1))


def takes_several(strategy: Any) -> bool:
    """Whether the strategy can use several devices."""
    entry = strategies.REGISTRY.get(strategy) if isinstance(strategy, str) else None
    return entry is not None and entry.several_devices


def takes_placement(strategy: Any) -> bool:
    """Whether the strategy takes a placement and microbatches."""
    entry = strategies.REGISTRY.get(strategy) if isinstance(strategy, str) else None
    return entry is not None and entry.takes_placement


def patterns(chosen: Mapping[str, str]) -> dict[str, str]:
    """The shortest ordered patterns with that meaning: the device with most layers takes all that are left."""
    if not chosen:
        return {}
    most, _ = Counter(chosen.values()).most_common(1)[0]
    return {layer: device for layer, device in chosen.items() if device != most} | {"*": most}


def layers(net: Any) -> tuple[str, ...]:
    """The layers of a net of the registry, with the data that suits it; `()` for one that is not there."""
    return _layers(net) if isinstance(net, str) and net in nets.REGISTRY else ()


@functools.cache
def _layers(net: str) -> tuple[str, ...]:
    return nets.layer_names(net, nets.REGISTRY[net].default_data)


def panel(net: Any, devices: list[str], chosen: Any) -> dict[str, Any]:
    """The placement panel's value: `{"layers": [...], "devices": [...], "chosen": {layer: device} | "even" | "auto"}`.

    Layers whose device is gone go to the first device that is left; a net that has other layers starts with `even`.
    """
    names = layers(net)
    if isinstance(chosen, dict):
        placed = chosen if set(chosen) == set(names) else {}
        kept = {name: placed[name] if placed[name] in devices else (devices or [""])[0] for name in names if placed}
        chosen = kept or "even"
    elif chosen not in ("even", "auto"):
        chosen = "even"
    return {"layers": list(names), "devices": devices, "chosen": chosen}


def first_panel(experiment: Experiment) -> dict[str, Any]:
    """The panel for an Experiment's placement."""
    chosen: Any = experiment.placement or "even"
    if isinstance(chosen, Mapping):
        chosen = placement.resolve(chosen, layers(experiment.net))
    return panel(experiment.net, list(experiment.devices), chosen)
