"""Findings about runs of several ranks, each a process with the net or a part of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from lab import breakdown
from lab.insight.findings import Exchange, Finding, LateRank, Overview, SharedProcessor
from lab.insight.settings import Settings
from lab.insight.window import Window
from lab.state import RunState
from lab.timing.meetings import meetings
from lab.timing.overlap import COMPUTATION, merged, outside

WORTH_A_WORD = 0.05
"""A share of the ranks' time."""


def find(state: RunState, settings: Settings, window: Window | None) -> list[Finding]:
    spent = [each for rank in range(state.world_size) if (each := breakdown.of_rank(state, rank)) is not None]
    if not spent:
        return []
    seconds = state.step_seconds or 0.0
    found: list[Finding] = [
        Overview(
            basis=settings.basis,
            place="first",
            step_seconds=seconds,
            samples_per_second=settings.batch_size / seconds if seconds else 0.0,
            devices=len(state.device_names),
            ranks=state.world_size,
            computing=_mean(each.busy for each in spent),
        )
    ]
    if state.world_size < 2:
        return found
    found += _exchange(state, settings, window, _mean(each.hidden for each in spent), spent)
    found += _late(state, settings)
    names = {device.name.rpartition(" · ")[2] for device in state.started.devices} if state.started else set()
    if names == {"cpu"} and state.group is not None:
        threads = state.group.threads_per_rank
        found.append(SharedProcessor(basis="measured", place="aside", ranks=state.world_size, threads=threads))
    return found


def _exchange(
    state: RunState,
    settings: Settings,
    window: Window | None,
    hidden: float,
    spent: list[breakdown.Breakdown],
) -> list[Finding]:
    exposed = _mean(each.exposed for each in spent)
    if not state.buckets or exposed + hidden == 0:
        return []
    last = state.buckets[-1]
    layers = tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in last.parameters))
    return [
        Exchange(
            basis=settings.basis,
            weight=exposed,
            place="cause" if exposed >= WORTH_A_WORD else "aside",
            hidden=hidden,
            exposed=exposed,
            bytes_per_step=sum(bucket.bytes for bucket in state.buckets),
            buckets=len(state.buckets),
            last_layers=layers,
            exposed_bucket=_most_exposed(window) if window is not None else None,
        )
    ]


def _most_exposed(window: Window) -> int | None:
    """The bucket whose bytes travelled for the longest while their rank computed nothing."""
    computing = defaultdict(list)
    for span in window.spans:
        if span.kind in COMPUTATION:
            computing[span.device].append((span.start_ns, span.end_ns))
    busy = {device: merged(intervals) for device, intervals in computing.items()}
    exposed: dict[str, int] = defaultdict(int)
    for meeting in meetings(window.spans):
        name = meeting.span.name.partition(" (")[0]
        if not name.startswith("bucket ") or meeting.joined_ns >= meeting.span.end_ns:
            continue
        parts = outside((meeting.joined_ns, meeting.span.end_ns), busy.get(meeting.span.device, ()))
        exposed[name] += sum(end - start for start, end in parts)
    longest = max(exposed, key=lambda name: exposed[name], default="")
    number = longest.removeprefix("bucket ")
    return int(number) if number.isdecimal() and exposed[longest] else None


def _late(state: RunState, settings: Settings) -> list[Finding]:
    latest, straggler = breakdown.latest(state), state.straggler
    if latest is None or not latest.alone or latest.share < WORTH_A_WORD:
        return []
    # The last steps may know better than the whole run who is late, and why.
    same = straggler is not None and straggler.rank == latest.rank
    return [
        LateRank(
            basis=settings.basis,
            weight=latest.share * (state.world_size - 1) / state.world_size,
            rank=latest.rank,
            others=state.world_size - 1,
            share=latest.share,
            computation=straggler.computation if straggler is not None and same else None,
            planned=latest.rank in settings.late_on_purpose,
        )
    ]


def _mean(shares: Iterable[float]) -> float:
    values = list(shares)
    return sum(values) / len(values) if values else 0.0
