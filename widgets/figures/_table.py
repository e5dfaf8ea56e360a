"""The numbers behind each figure as rows, for the table beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.events import PURPOSES, MemoryTraced
from lab.state import RunState
from widgets.figures import _theme as theming
from widgets.figures._busy import ORDER
from widgets.figures._memory import owner
from widgets.figures._purposes import peak_of, points_of
from widgets.figures._timeline import received, window
from widgets.figures._units import duration, human_bytes, human_count, significant

MAX_ROWS = 200
EARLIER = "earlier"
"""When the host prepared a batch before the devices began with it, while they worked on the step before."""


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left_out: int = 0
    """Rows past the limit."""


def table(state: RunState, figure: str, step: int | None = None) -> Table:
    """The rows of the figure of that name (`FIGURES`); `step` chooses the timeline's.

    Raises:
        KeyError: when there is no figure of that name.
    """
    if figure == "timeline":
        return _timeline(state, state.timeline_step if step is None else step)
    return _TABLES[figure](state)


def _limited(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    return Table(columns, list(rows[:MAX_ROWS]), max(0, len(rows) - MAX_ROWS))


def _loss(state: RunState) -> Table:
    rows = [
        (f"{x:,.0f}", f"rank {rank}" if len(state.loss) > 1 else "training", significant(y, 4), "")
        for rank, series in state.loss.items()
        for x, y in list(zip(series.x, series.y, strict=True))[:: -max(1, len(series) // 40)]
    ]
    tests = [(f"{e.step:,}", "test", significant(e.loss, 4), f"{e.accuracy:.2%}") for e in state.evaluations]
    return _limited(("step", "of", "loss", "accuracy"), tests[::-1] + rows)


def _timeline(state: RunState, step: int | None) -> Table:
    """The chart's spans with the chart's zero, each copy once, and what the host did for this step."""
    devices = theming.lanes(state)
    shown = window(state, step, devices) if step is not None else []
    first = min((span.start_ns for span in shown), default=0)
    host = [span for span in state.spans.get(step, []) if span.device not in devices] if step is not None else []
    spans = sorted([*host, *(span for span in shown if not received(span))], key=lambda span: span.start_ns)
    rows = [
        (
            span.device,
            span.kind,
            span.name,
            duration(span.start_ns - first) if span.start_ns >= first else EARLIER,
            duration(span.duration_ns),
            human_bytes(span.bytes) if span.bytes else "",
        )
        for span in spans
    ]
    return _limited(("device", "kind", "what", "start", "takes", "bytes"), rows)


def _busy(state: RunState) -> Table:
    rows = []
    for device in theming.lanes(state):
        shares = state.shares(device)
        rows.append((device, *(f"{shares.get(kind, 0.0):.1%}" for kind in ORDER)))
    return _limited(
        ("device", *(theming.kind_style(kind, "light").label for kind in ORDER)), rows if state.totals else []
    )


def _memory(state: RunState) -> Table:
    """What is in use now, and of the step that was traced last what its peak was made of."""
    columns: tuple[str, ...] = ("device", "in use", "peak", "capacity")
    if state.memory_traces:
        columns += ("step", "peak of the step", *PURPOSES)
    rows = []
    for device, used in state.memory.items():
        if not len(used.allocated):
            continue
        row = (owner(device), human_bytes(used.allocated.y[-1]), human_bytes(used.peak), human_bytes(used.capacity))
        if state.memory_traces:
            row += _of_step(state.memory_traces.get(device))
        rows.append(row)
    return _limited(columns, rows)


def _of_step(trace: MemoryTraced | None) -> tuple[str, ...]:
    if trace is None:
        return ("",) * (2 + len(PURPOSES))
    sizes = peak_of(list(points_of(trace)))[1]
    return (f"{trace.step:,}", human_bytes(sum(sizes.values())), *(human_bytes(sizes[each]) for each in PURPOSES))


def _graph(state: RunState) -> Table:
    if state.graph is None:
        return Table(("layer", "device", "parameters", "forward", "output", "crosses to"), [])
    goes: dict[str, list[str]] = {}
    for edge in state.graph.edges:
        if edge.crosses:
            both = f"{edge.target}: {edge.forward_bytes:,} B forward, {edge.backward_bytes:,} B back"
            goes.setdefault(edge.source, []).append(both)
    rows = [
        (
            node.name,
            node.device,
            f"{node.parameters:,}",
            f"{human_count(node.forward_flops)}FLOP" if node.forward_flops else "",
            " × ".join(map(str, node.output_shape)),
            "; ".join(goes.get(node.name, [])),
        )
        for node in state.graph.nodes
    ]
    return _limited(("layer", "device", "parameters", "forward", "output", "crosses to"), rows)


_TABLES = {"loss": _loss, "busy": _busy, "memory": _memory, "placement_graph": _graph}
