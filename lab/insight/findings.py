"""What can be found in a run: one frozen dataclass for each kind of finding, with its numbers and no words.

Shares are parts of 1, of the time of the run's devices; times are on the run's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lab.events import Purpose

Basis: TypeAlias = Literal["measured", "simulated", "model", "theory"]
"""Where a number comes from: a real clock or a count, the virtual clock, a model that is fed with the run's own
numbers, or a formula that knows nothing of the run but its settings."""
Place: TypeAlias = Literal["first", "urgent", "compared", "cause", "aside"]
PLACES: tuple[Place, ...] = ("first", "urgent", "compared", "cause", "aside")
"""The order in which findings are told; among causes, that which explains more comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a run's numbers say."""

    basis: Basis
    place: Place = "cause"
    weight: float = 0.0
    """The share of the devices' time that it explains; 0 for what explains no lost time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TooShort(Finding):
    """The run has too few steps to say anything of its times: its first step warms up."""

    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview(Finding):
    """How fast the run is, and how much of their time its devices compute."""

    step_seconds: float
    samples_per_second: float
    devices: int
    ranks: int
    """1 for a run in one process."""
    computing: float
    """The mean over the devices, or over the ranks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle(Finding):
    """The device that does nothing for the longest, and why."""

    device: str
    share: float
    reason: Literal["device", "link", "host"]
    """What went on elsewhere for most of that time."""
    part: float
    """The share of that reason."""
    blocker: str
    """The device that is waited for; empty for the other reasons."""
    layer: str
    """What it does meanwhile, for the longest; empty for the other reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubble(Finding):
    """Stages that wait for each other, beside what n stages of the same size would: (n-1) / (m+n-1)."""

    stages: int
    microbatches: int
    theory: float
    measured: float
    """The mean share for which a device waits for others."""
    more: int
    """A larger number of microbatches that divides the batch; 0 where there is none worth a try."""
    more_theory: float


@dataclass(frozen=True, slots=True)
class Move:
    """One layer on another device, by the pipeline model of `lab.insight.pipeline`."""

    layer: str
    source: str
    target: str
    gain: float
    """By which share of it a step gets shorter."""
    empties: bool = False
    """True when the source has no layer left then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imbalance(Finding):
    """One device has more to do than the others, and the pipeline goes at its pace."""

    busiest: str
    least: str
    ratio: float
    """The busiest device's work, as a multiple of the mean."""
    move: Move | None
    """What helps most; None where the model is too far from the run, or no move helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLoad(Finding):
    """The link between two devices that takes most time while nothing else goes on at its ends."""

    ends: tuple[str, str]
    bytes_per_step: int
    """Both ways."""
    seconds_per_step: float
    """For which it carries something, both ways."""
    gb_per_s: float
    """What it carried while it was busy, 10^9 bytes per second."""
    bandwidth_gb_per_s: float | None
    """What it could; None where that is not known."""
    latency: float | None
    """The part of its busy time that is latency; None where that is not known."""
    move: Move | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCopy(Finding):
    """The batch on its way from the host, while the devices do nothing else."""

    bytes_per_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying(Finding):
    """Data parallelism in one process: the net goes to every device and the gradients come back, in every step."""

    bytes_per_step: int
    copies: int
    purpose: str
    """What takes longest of it: `scatter`, `replicate`, `gather` or `reduce`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBound(Finding):
    """No device computes and nothing is on its way: the host prepares their work."""

    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic(Finding):
    """How little of the time modelled hardware spends on arithmetic: the rest is memory and starting operations."""

    flops: int
    """Of one step, all devices together."""
    peak_tflops: float
    """Of one device."""
    at_peak_seconds: float
    """What the arithmetic would take at that rate."""
    took_seconds: float
    """For how long devices compute in a step, added up."""
    batch_size: int

    @property
    def share(self) -> float:
        return self.at_peak_seconds / self.took_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaviestLayer(Finding):
    """The layer that takes most of forward and backward."""

    layer: str
    share: float
    """Of the forward and backward time of all layers."""
    seconds_per_step: float
    """On each device that has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestLayer(Finding):
    """The layer that asks for most memory, by its shapes."""

    layer: str
    bytes: int
    """Its parameters, their gradients and the optimizer's state, and its output."""
    share: float
    """Of that of all layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse(Finding):
    """The device whose memory is fullest, and what fills it at its peak."""

    device: str
    peak_bytes: int
    capacity_bytes: int
    purpose: Purpose | None
    """What takes most of it; None where that was not traced."""
    purpose_share: float

    @property
    def share(self) -> float:
        return self.peak_bytes / self.capacity_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Finding):
    """Ranks that average their gradients: what of it costs time."""

    hidden: float
    """Communication beside computation, mean over the ranks."""
    exposed: float
    """Communication that the ranks do nothing beside."""
    bytes_per_step: int
    buckets: int
    last_layers: tuple[str, ...]
    """Whose gradients travel in the last bucket."""
    exposed_bucket: int | None
    """The bucket with most of the exposed time in the last steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateRank(Finding):
    """A rank for which the others wait."""

    rank: int
    others: int
    """How many wait."""
    share: float
    """Of the time of each of the others."""
    computation: float | None
    """How many times as long as the others it computes; None where too few steps tell."""
    planned: bool
    """True when the Experiment makes this rank slow on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedProcessor(Finding):
    """Ranks that compute on the same processor: they divide its cores."""

    ranks: int
    threads: int
    """Of each rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalisedApart(Finding):
    """Batch norm sees each part of the batch alone."""

    parts: int
    samples: int
    """In each part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SameLoss(Finding):
    """Why splitting the work does not change what is learned."""

    split: Literal["layers", "batch", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossBeside(Finding):
    """The loss of this run beside that of the one before, step by step, where both train the same net on the same
    samples."""

    steps: int
    difference: float
    """The largest, of the mean losses of the steps that both have."""
    loss: float
    """Of this run, where they differ most."""
    strategy: str
    """Of the run before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(Finding):
    """This run beside the one before."""

    changes: tuple[tuple[str, str, str], ...]
    """Field, what it was, what it is."""
    step_seconds: float
    before_seconds: float
    speedup: float
    """Samples per second, as a multiple of the run before."""
    fixed_seconds: float | None
    """Where only the batch differs: what a step takes without any samples, on the straight line through both runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstOne(Finding):
    """This run beside one device with the same net and batch."""

    speedup: float
    devices: int
    """Or ranks, that share the work."""
    ranks: bool
    device: str
    """What the one device was."""
