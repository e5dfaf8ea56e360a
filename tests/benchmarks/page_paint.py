"""What a frame of the page costs the server: core time to make it, and bytes to send.

    python tests/benchmarks/page_paint.py

No run and no browser take part: the events are made up, and each frame counts as drawn before the next. A tab gets five
frames a second while its run goes on, so fifty tabs have 4 ms for each on one core. Beside the mean stands the slowest,
in which all figures are drawn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from lab.events import DeviceInfo, Event, GraphTraced, GroupJoined, MemorySampled, RunStarted, Span, StepFinished
from lab.experiment import Experiment
from lab.state import RunState
from tests.lab import rank_events
from tests.widgets import events_factory as factory
from widgets.web.frame import Painter
from widgets.web.session import Session

FRAMES, FRAME_SECONDS, STEPS_A_FRAME = 100, 0.2, 10
BEFORE = 1_500
"""Steps before the first frame: curves are as long as they get."""
RANKS, DEVICES = 8, 4
SPANS = 12
"""Forward and backward spans of each device in a step."""
MS = 1_000_000


def started(names: list[str], ranks: bool) -> RunStarted:
    devices = tuple(DeviceInfo(name, "CPU", 10**10, not ranks, rank if ranks else 0) for rank, name in enumerate(names))
    return replace(rank_events.started(100_000), devices=devices, clock="wall" if ranks else "virtual")


def step_of(step: int, names: list[str], ranks: bool) -> Iterator[Event]:
    begin = step * 10 * MS
    for number, name in enumerate(names):
        rank = number if ranks else 0
        for part in range(SPANS):
            kind = "forward" if part < SPANS // 2 else "backward"
            at = begin + part * MS // 2
            yield Span(name, rank, step, kind, f"layer{part % (SPANS // 2)}", at, at + MS // 3)  # type: ignore[arg-type]
        if ranks:
            for bucket in range(2):
                at = begin + (5 + 2 * bucket) * MS
                yield Span(name, rank, step, "collective", f"bucket {bucket}", at + number, at + MS, bytes=10**6)
        elif number + 1 < len(names):
            yield Span(
                name, 0, step, "transfer", "copy", begin + 9 * MS, begin + 10 * MS, 10**5, peer=names[number + 1]
            )
        yield MemorySampled(name, begin + 10 * MS, 10**8 + step, 2 * 10**8, 10**10)
        if ranks or number == 0:
            yield StepFinished(step, rank, 2.0 + (step * 37 % 100) / 500, 8, 0.01, begin + 10 * MS)


def measure(names: list[str], ranks: bool, experiment: Experiment) -> tuple[list[float], list[int]]:
    """Milliseconds of a core, and bytes, of each frame."""
    state, now = RunState(), 0.0
    state.apply(started(names, ranks))
    if ranks:
        state.apply(GroupJoined(len(names), "gloo", 1, ("weight",)))
    state.apply(GraphTraced(rank_events.graph() if ranks else factory.graph()))
    for step in range(BEFORE):
        state.apply_all(step_of(step, names, ranks))
    painter, session = Painter("r", experiment, state, now=lambda: now), Session("a")
    times, sizes = [], []
    for frame in range(FRAMES):
        for step in range(STEPS_A_FRAME):
            state.apply_all(step_of(BEFORE + frame * STEPS_A_FRAME + step, names, ranks))
        now += FRAME_SECONDS
        began = time.thread_time()
        text = painter.paint(session)
        times.append(1000 * (time.thread_time() - began))
        sizes.append(len(text.encode()))
        session.drawn = session.sent
    return times, sizes


def main(show: Callable[[str], None] = print) -> None:
    runs = (
        (f"{DEVICES} devices", [f"vgpu:{index}" for index in range(DEVICES)], False, factory.EXPERIMENT),
        (f"{RANKS} ranks", [f"rank {rank} · cpu" for rank in range(RANKS)], True, rank_events.EXPERIMENT),
    )
    show(f"{'run':12} {'mean ms':>8} {'slowest':>8} {'mean kB':>8} {'largest':>8}")
    for title, names, ranks, experiment in runs:
        times, sizes = measure(names, ranks, experiment)
        kb = [size / 1000 for size in sizes]
        show(f"{title:12} {statistics.mean(times):8.1f} {max(times):8.1f} {statistics.mean(kb):8.1f} {max(kb):8.1f}")


if __name__ == "__main__":
    main()
