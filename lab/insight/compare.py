"""A run beside the one before it, and beside one device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab import nets
from lab.insight.findings import (
    AgainstOne,
    Compared,
    Finding,
    LossBeside,
    NormalisedApart,
    SameLoss,
)
from lab.insight.settings import Settings
from lab.state import RunState

LEAST_STEPS = 3
SAME_SPEED = 0.05
"""Two runs whose paces differ by less are equally fast."""
LENGTHS = ("steps", "epochs")
"""Fields that do not change what a step is."""
LEARNS = ("net", "data", "batch_size", "optimizer", "lr", "momentum", "seed", "dtype")
"""Fields that have to agree for two runs to learn the same; Adam ignores the momentum."""
SPOILS = ("nan", "skip")
"""Faults that change what is learned."""
UNSEEN = ("version", "timeout_s", *LENGTHS)
MOST_CHANGES = 3
"""With more, a difference has no single reason."""
BATCHES_APART = 1.25
"""A straight line through two batch sizes needs them apart."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What later runs are compared with; small, so that it can be kept when the run is gone."""

    run_id: str
    settings: Settings
    step_seconds: float
    """Median of the last steps, on the run's clock."""
    losses: tuple[tuple[float, float], ...]
    """(step, mean loss of the batch), as in `RunState.mean_loss`."""
    thinned: bool
    """Whether a point of `losses` stands for several steps."""
    titles: tuple[str, ...]
    """What the devices are, each kind once."""
    parts: int
    """Devices, or ranks, that shared the work."""

    @property
    def samples_per_second(self) -> float:
        return self.settings.batch_size / self.step_seconds


def summary(state: RunState) -> Summary | None:
    """None for a run that has taken too few steps to tell its pace."""
    if state.started is None or state.step < LEAST_STEPS or not state.step_seconds:
        return None
    devices = state.started.devices
    return Summary(
        state.started.run_id,
        Settings.of(state.started),
        state.step_seconds,
        tuple(zip(state.mean_loss.x, state.mean_loss.y, strict=True)),
        state.mean_loss.stride > 1,
        tuple(dict.fromkeys(device.title for device in devices)),
        state.world_size if state.group else len(devices),
    )


def with_before(now: Summary, before: Summary) -> list[Finding]:
    """This run beside the one before, where their times are on one clock and they differ in a few fields."""
    found: list[Finding] = []
    changes = _changes(now.settings.fields, before.settings.fields)
    if now.settings.clock == before.settings.clock and 0 < len(changes) <= MOST_CHANGES:
        speedup = now.samples_per_second / before.samples_per_second
        found.append(
            Compared(
                basis=now.settings.basis,
                place="compared",
                changes=tuple(changes),
                step_seconds=now.step_seconds,
                before_seconds=before.step_seconds,
                speedup=speedup,
                fixed_seconds=_fixed(now, before) if [field for field, _, _ in changes] == ["batch_size"] else None,
            )
        )
    return found + losses(now, before)


def _changes(now: dict[str, Any], before: dict[str, Any]) -> list[tuple[str, str, str]]:
    fields = [field for field in {**before, **now} if field not in UNSEEN]
    changed = [field for field in fields if now.get(field) != before.get(field)]
    if "strategy" in changed or "net" in changed:
        # The devices, placement and ranks follow from the strategy, as the data does from the net.
        lead = [field for field in ("strategy", "net") if field in changed]
        follow = {"devices", "placement", "world_size", "backend", "data", "bucket_cap_mb", "faults", "microbatches"}
        changed = lead + [field for field in changed if field not in {*lead, *follow}]
    return [(field, _written(before.get(field)), _written(now.get(field))) for field in changed]


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _fixed(now: Summary, before: Summary) -> float | None:
    """Where only the batch size differs: the step time at which the line through both runs meets batch 0."""
    small, large = sorted((before, now), key=lambda each: each.settings.batch_size)
    few, many = small.settings.batch_size, large.settings.batch_size
    if many < BATCHES_APART * few:
        return None
    slope = (large.step_seconds - small.step_seconds) / (many - few)
    fixed = small.step_seconds - slope * few
    return fixed if slope > 0 and fixed > 0 else None


def losses(now: Summary, before: Summary) -> list[Finding]:
    """Both learn from the same samples in the same order, split differently: how far apart their losses are."""
    fields, others = now.settings.fields, before.settings.fields
    if any(fields.get(field) != others.get(field) for field in LEARNS) or now.thinned or before.thinned:
        return []
    if now.settings.strategy == before.settings.strategy or _spoilt(now.settings) or _spoilt(before.settings):
        return []
    earlier = dict(before.losses)
    apart = [(abs(loss - earlier[step]), loss) for step, loss in now.losses if step in earlier]
    if len(apart) < LEAST_STEPS or not all(difference == difference for difference, _ in apart):
        return []
    difference, loss = max(apart)
    return [
        LossBeside(
            basis="measured",
            place="compared",
            steps=len(apart),
            difference=difference,
            loss=loss,
            strategy=before.settings.strategy,
        )
    ]


def _spoilt(settings: Settings) -> bool:
    return any(str(fault).partition(":")[0] in SPOILS for fault in settings.fields.get("faults", ()))


def one_device(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of the same training on the first of these devices alone: what a speed-up is a speed-up over."""
    gone = ("placement", "world_size", "microbatches", "backend", "faults", "bucket_cap_mb", "compression", "version")
    ddp = ("gradient_as_bucket_view", "static_graph", "find_unused_parameters", "topology", "link", "transfers")
    kept = {field: value for field, value in fields.items() if field not in (*gone, *ddp) and value is not None}
    return {**kept, "strategy": "single", "devices": list(fields["devices"])[:1]}


def is_reference(one: Summary, fields: dict[str, Any]) -> bool:
    """Whether that run is the one device to compare an Experiment with these fields with."""
    wanted, found = one_device(fields), one_device(one.settings.fields)
    ignored = (*LENGTHS, "seed", "lr", "clock", "timeout_s")
    same = all(
        wanted.get(field) == found.get(field) for field in {**wanted, **found} if field not in (*ignored, "devices")
    )
    kinds = [str(device).partition(":")[0] for device in (wanted["devices"][0], found["devices"][0])]
    return one.settings.strategy == "single" and same and kinds[0] == kinds[1]


def against_one(now: Summary, one: Summary) -> list[Finding]:
    """The speed-up over one device, where that run is the right one and both are on one clock."""
    if now.parts < 2 or not is_reference(one, now.settings.fields) or now.settings.clock != one.settings.clock:
        return []
    return [
        AgainstOne(
            basis=now.settings.basis,
            place="compared",
            speedup=now.samples_per_second / one.samples_per_second,
            devices=now.parts,
            ranks=now.settings.strategy == "ddp",
            device=str(one.settings.fields["devices"][0]),
        )
    ]


def of_learning(state: RunState, settings: Settings) -> list[Finding]:
    """What splitting the work does to the loss: nothing, unless batch norm sees the parts."""
    copies = 1 + len(state.placed.copies) if state.placed else 1
    ranks = state.world_size
    layers = len(set(state.placed.layers.values())) if state.placed else 1
    parts = settings.microbatches * copies * ranks
    entry = nets.REGISTRY.get(str(settings.fields.get("net")))
    if parts * layers < 2 or entry is None or _spoilt(settings):
        return []
    if entry.batch_norm and parts > 1:
        samples = settings.batch_size // parts
        return [NormalisedApart(basis="theory", place="aside", parts=parts, samples=samples)]
    if settings.fields.get("compression", "none") != "none":
        return []
    split = "both" if parts > 1 and layers > 1 else "batch" if parts > 1 else "layers"
    return [SameLoss(basis="theory", place="aside", split=split)]  # type: ignore[arg-type]
