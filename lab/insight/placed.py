"""Findings about runs in one process: one device, placed layers, and copies of the net."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from lab import breakdown
from lab.events import Span
from lab.insight import pipeline
from lab.insight.findings import (
    Arithmetic,
    BatchCopy,
    Bubble,
    Copying,
    Finding,
    HostBound,
    Idle,
    Imbalance,
    LinkLoad,
    Move,
    Overview,
)
from lab.insight.settings import Settings
from lab.insight.window import DeviceTime, Window, times
from lab.state import RunState

WORTH_A_WORD = 0.05
"""A share of the devices' time."""
UNEVEN = 1.15
"""The busiest device's work, as a multiple of the mean, from which on it is a reason."""
ENOUGH_PARTS = 4
"""Times as many microbatches as stages make the bubble small; more only make each part smaller."""


def find(state: RunState, settings: Settings, window: Window) -> list[Finding]:
    spent = times(window, state.device_names)
    found: list[Finding] = [_overview(state, settings, spent)]
    if len(spent) > 1:
        found += _waiting(state, settings, window, spent)
    return (
        found
        + _moving(state, settings, window, spent)
        + _host(settings, spent)
        + _arithmetic(state, settings, window, spent)
    )


def _overview(state: RunState, settings: Settings, spent: Mapping[str, DeviceTime]) -> Overview:
    seconds = state.step_seconds or 0.0
    pace = settings.batch_size / seconds if seconds else 0.0
    return Overview(
        basis=settings.basis,
        place="first",
        step_seconds=seconds,
        samples_per_second=pace,
        devices=len(spent),
        ranks=1,
        computing=_mean(breakdown.busy(state, device) or 0.0 for device in spent),
    )


def _waiting(state: RunState, settings: Settings, window: Window, spent: Mapping[str, DeviceTime]) -> list[Finding]:
    """Devices that wait for each other: the most idle one, and whether the pipeline or its balance is to blame."""
    found: list[Finding] = []
    lost = _mean(each.on_device for each in spent.values())
    device = max(spent, key=lambda name: spent[name].waiting)
    most = spent[device]
    parts: dict[Literal["device", "link", "host"], float] = {
        "device": most.on_device,
        "link": most.on_link,
        "host": most.on_host,
    }
    reason = max(parts, key=lambda name: parts[name])
    if most.waiting >= WORTH_A_WORD:
        on_device = reason == "device"
        found.append(
            Idle(
                basis=settings.basis,
                # Right after what explains it.
                weight=lost * 0.99 if on_device else parts[reason] / len(spent),
                device=device,
                share=most.waiting,
                reason=reason,
                part=parts[reason],
                blocker=most.blocker if on_device else "",
                layer=most.layer if on_device else "",
            )
        )
    stages = set(state.placed.layers.values()) if state.placed else set()
    if settings.strategy == "model_parallel" and len(stages) > 1 and lost >= WORTH_A_WORD:
        found += _pipeline(state, settings, window, spent, lost)
    return found


def _pipeline(
    state: RunState, settings: Settings, window: Window, spent: Mapping[str, DeviceTime], lost: float
) -> list[Finding]:
    stages = len(set(state.placed.layers.values())) if state.placed else len(spent)
    unused = len(spent) - stages
    # A device without layers waits all the time, whatever the pipeline does.
    theory = (pipeline.ideal_bubble(stages, settings.microbatches) * stages + unused) / len(spent)
    work = {device: each.computing for device, each in spent.items()}
    busiest, least = max(work, key=lambda name: work[name]), min(work, key=lambda name: work[name])
    ratio = work[busiest] / _mean(work.values()) if any(work.values()) else 1.0
    if settings.microbatches > 1 and ratio >= UNEVEN and lost - theory > theory:
        return [
            Imbalance(
                basis=settings.basis,
                weight=lost,
                busiest=busiest,
                least=least,
                ratio=ratio,
                move=_move(state, settings, window),
            )
        ]
    if lost < theory / 2:  # something else takes most of the time, and the formula would only confuse
        return []
    more = _more_parts(settings, stages)
    return [
        Bubble(
            basis=settings.basis,
            weight=lost,
            stages=stages,
            microbatches=settings.microbatches,
            theory=theory,
            measured=lost,
            more=more,
            more_theory=pipeline.ideal_bubble(stages, more) if more else 0.0,
        )
    ]


def _more_parts(settings: Settings, stages: int) -> int:
    """The next larger number of microbatches to try: twice as many, where that divides the batch."""
    more = settings.microbatches * 2
    return more if settings.batch_size % more == 0 and more <= ENOUGH_PARTS * stages else 0


def _move(state: RunState, settings: Settings, window: Window) -> Move | None:
    """The single move that helps most, by the pipeline model, fed with the run's own times of the layers."""
    if state.placed is None or state.graph is None or not settings.virtual:
        return None
    if state.placed.copies or settings.strategy != "model_parallel":
        return None
    spent: dict[str, dict[str, float]] = {"forward": defaultdict(float), "backward": defaultdict(float)}
    for span in window.spans:
        if span.kind in spent:
            spent[span.kind][span.name] += span.duration_ns / window.steps
    work = pipeline.Work(spent["forward"], spent["backward"], state.graph, settings.microbatches, settings.link())
    took = window.length_ns / window.steps
    best = pipeline.best_move(work, state.placed.layers, state.device_names, took)
    if best is None:
        return None
    layer, target, gain = best
    source = state.placed.layers[layer]
    empties = list(state.placed.layers.values()).count(source) == 1
    return Move(layer, source, target, gain, empties)


def _moving(state: RunState, settings: Settings, window: Window, spent: Mapping[str, DeviceTime]) -> list[Finding]:
    """What travels, where that takes time in which the devices do nothing else: between them, and from the host."""
    transfers = [span for span in window.spans if span.kind == "transfer"]
    between = [span for span in transfers if span.device in spent and span.peer in spent]
    # A copy between two devices occupies both.
    occupied = sum(span.duration_ns for span in transfers) + sum(span.duration_ns for span in between)
    whole = _mean(each.moving + each.on_link for each in spent.values())
    weight = whole * 2 * sum(span.duration_ns for span in between) / max(1, occupied)
    found: list[Finding] = []
    if whole - weight >= WORTH_A_WORD:
        carried = sum(span.bytes for span in transfers) - sum(span.bytes for span in between)
        found.append(BatchCopy(basis=settings.basis, weight=whole - weight, bytes_per_step=carried // window.steps))
    if weight < WORTH_A_WORD:
        return found
    if state.placed is not None and state.placed.copies:
        return [*found, _copying(settings, window, between, len(state.placed.copies), weight)]
    return [*found, _link(state, settings, window, between, weight)]


def _copying(settings: Settings, window: Window, between: Sequence[Span], copies: int, weight: float) -> Copying:
    purposes: dict[str, int] = defaultdict(int)
    for span in between:
        purposes[span.name.partition(" ")[0]] += span.duration_ns
    return Copying(
        basis=settings.basis,
        weight=weight,
        bytes_per_step=sum(span.bytes for span in between) // window.steps,
        copies=copies,
        purpose=max(purposes, key=lambda name: purposes[name]),
    )


def _link(state: RunState, settings: Settings, window: Window, between: Sequence[Span], weight: float) -> LinkLoad:
    """The busiest pair of devices."""
    pairs: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for span in between:
        pairs[min(span.device, span.peer), max(span.device, span.peer)].append(span)
    # Each direction carries one transfer at a time, so their durations add up.
    busy = {ends: sum(span.duration_ns for span in spans) for ends, spans in pairs.items()}
    ends = max(busy, key=lambda pair: busy[pair])
    carried = sum(span.bytes for span in pairs[ends])
    link = settings.link()
    latency = link.latency_ns * len(pairs[ends]) / max(1, busy[ends]) if link is not None else None
    if latency is not None and latency > 1:  # the link was changed while the run went on
        link = latency = None
    return LinkLoad(
        basis=settings.basis,
        weight=weight,
        ends=ends,
        bytes_per_step=carried // window.steps,
        seconds_per_step=busy[ends] / window.steps / 1e9,
        gb_per_s=carried / max(1, busy[ends]),
        bandwidth_gb_per_s=link.bytes_per_ns if link is not None else None,
        latency=latency,
        move=_move(state, settings, window),
    )


def _host(settings: Settings, spent: Mapping[str, DeviceTime]) -> list[Finding]:
    share = _mean(each.on_host for each in spent.values())
    if share < WORTH_A_WORD:
        return []
    return [HostBound(basis=settings.basis, weight=share, batch_size=settings.batch_size)]


def _arithmetic(state: RunState, settings: Settings, window: Window, spent: Mapping[str, DeviceTime]) -> list[Finding]:
    """On modelled hardware, what is left of a device's peak."""
    profile = settings.profile()
    flops = sum(span.flops for span in window.spans) // window.steps
    if profile is None or not settings.modelled or not flops:
        return []
    dtype = str(settings.fields.get("dtype", "float32"))
    peak = profile.peak_tflops.get(dtype, min(profile.peak_tflops.values()))
    at_peak = flops / (peak * 1e12)
    took = sum(each.computing for each in spent.values()) * window.length_ns / window.steps / 1e9
    lost = _mean(each.computing for each in spent.values()) * (1 - at_peak / took)
    if lost < WORTH_A_WORD:
        return []
    return [
        Arithmetic(
            basis=settings.basis,
            weight=lost,
            flops=flops,
            peak_tflops=peak,
            at_peak_seconds=at_peak,
            took_seconds=took,
            batch_size=settings.batch_size,
        )
    ]


def _mean(shares: Iterable[float]) -> float:
    values = list(shares)
    return sum(values) / len(values) if values else 0.0
