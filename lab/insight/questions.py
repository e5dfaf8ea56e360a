"""What can be asked of a run before it starts, and its answer: busiest device, heaviest layer, speed-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lab import breakdown, strategies
from lab.experiment import Experiment
from lab.insight.compare import LEAST_STEPS, Summary, is_reference, summary
from lab.insight.prediction import Answer, Prediction
from lab.state import RunState

Name: TypeAlias = Literal["busiest", "heaviest", "speedup"]
SAME = "same"
"""The answer that all are about equally busy."""
ALIKE = 0.1
"""The busiest works longer than the least busy by less than this part of it: they are about equal."""


@dataclass(frozen=True, slots=True)
class Question:
    """Asked before a run."""

    name: Name
    options: tuple[str, ...] = ()
    """Of a choice: devices or ranks and `SAME`, or layers; a number has none."""

    def prediction(self) -> Prediction:
        return Prediction("choice", options=self.options) if self.options else Prediction("number", "×")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the run answers."""

    value: Answer
    shares: Mapping[str, float] = field(default_factory=dict)
    """For a choice: each option's share, of the time or of the layers' time."""


def questions(experiment: Experiment, layers: tuple[str, ...] = ()) -> tuple[Question, ...]:
    """What to ask before this run.

    Args:
        layers: of the net, in their order; without them nothing is asked of them.
    """
    parts = _parts(experiment)
    if len(parts) > 1:
        return Question("busiest", (*parts, SAME)), Question("speedup")
    return (Question("heaviest", layers),) if len(layers) > 1 else ()


def _parts(experiment: Experiment) -> tuple[str, ...]:
    """The ranks, or the devices, that share the work."""
    if strategies.REGISTRY[experiment.strategy].several_ranks:
        return tuple(f"rank {rank}" for rank in range(experiment.world_size or 1))
    return experiment.devices


def measure(name: Name, state: RunState, one: Summary | None = None) -> Measurement | None:
    """The run's answer; None as long as there are too few steps, or for a speed-up nothing to compare with. Hold the
    run's lock meanwhile.

    Args:
        one: a run of the same training on one device.
    """
    if state.started is None or state.step < LEAST_STEPS:
        return None
    if name == "speedup":
        return _speedup(state, one)
    shares = _layers(state) if name == "heaviest" else _busy(state)
    if not shares:
        return None
    most, least = max(shares.values()), min(shares.values())
    alike = name == "busiest" and most - least < ALIKE * most
    return Measurement(SAME if alike else max(shares, key=lambda each: shares[each]), shares)


def _busy(state: RunState) -> dict[str, float]:
    if state.group is not None:
        ranks = {f"rank {rank}": breakdown.of_rank(state, rank) for rank in range(state.world_size)}
        return {name: each.busy for name, each in ranks.items() if each is not None}
    shares = {device: breakdown.busy(state, device) for device in state.device_names}
    return {device: share for device, share in shares.items() if share is not None}


def _layers(state: RunState) -> dict[str, float]:
    known = state.placed.layers if state.placed else {}
    spent = {layer: sum(state.layers[layer].values()) for layer in known if layer in state.layers}
    whole = sum(spent.values())
    return {layer: ns / whole for layer, ns in spent.items()} if whole else {}


def _speedup(state: RunState, one: Summary | None) -> Measurement | None:
    now = summary(state)
    if now is None or one is None or one.settings.clock != now.settings.clock:
        return None
    if not is_reference(one, now.settings.fields):
        return None
    return Measurement(now.samples_per_second / one.samples_per_second)
