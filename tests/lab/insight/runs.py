"""States of hand-made runs: the same few spans in every step, in microseconds since the step began."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lab.events import Event, Placed, Span, SpanKind, StepFinished
from lab.state import RunState
from tests.widgets import events_factory as factory

US = 1_000
Row = tuple[str, SpanKind, str, int, int]


def state(
    rows: Sequence[Row],
    step_us: int,
    layers: dict[str, str] | None = None,
    steps: int = 6,
    copies: tuple[str, ...] = (),
    read: str = "virtual",
    sizes: dict[str, int] | None = None,
    flops: int = 0,
    graph: Event | None = None,
    lanes: tuple[str, ...] = ("vgpu:0", "vgpu:1"),
    **fields: Any,
) -> RunState:
    """A run of some steps.

    Args:
        rows: device, kind, name, start and end; a transfer's name is `vgpu:0 → vgpu:1`.
        sizes: name of a transfer -> its bytes.
        read: the clock.
        lanes: the devices of the run.
        fields: of the Experiment.
    """
    begun = factory.started(devices=lanes, clock=read)
    events: list[Event] = [dataclasses.replace(begun, experiment=begun.experiment | fields)]
    events.append(Placed(layers or {"a": "vgpu:0", "b": "vgpu:1"}, "given", "As given.", copies=copies))
    if graph is not None:
        events.append(graph)
    for step in range(steps):
        begin = step * step_us * US
        for device, kind, name, start, end in rows:
            peer = name.rpartition("→ ")[2] if kind == "transfer" else ""
            size = (sizes or {}).get(name, 0)
            ends = begin + start * US, begin + end * US
            work = flops if kind == "forward" else 0
            events.append(Span(device, 0, step, kind, name, *ends, bytes=size, flops=work, peer=peer))
        events.append(StepFinished(step, 0, 1.0, 64, step_us / 1e6, begin + step_us * US))
    found = RunState()
    found.apply_all(events)
    return found
