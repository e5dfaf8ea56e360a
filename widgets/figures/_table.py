"""The numbers behind each figure as rows, for the table beside it."""

from __future__ import annotations

from dataclasses import dataclass

from lab.events import PURPOSES, MemoryTraced
from lab.state import SERIES_POINTS, RunState, Series
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._bars import received, window
from widgets.figures._breakdown import PARTS, rows_of
from widgets.figures._buckets import carried
from widgets.figures._busy import ORDER
from widgets.figures._memory import owner
from widgets.figures._purposes import peak_of, points_of
from widgets.figures._traffic import measured
from widgets.figures._units import duration, human_bytes, human_count, significant

MAX_ROWS = 200
LOSS_ROWS = 40
"""Of each curve."""


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left_out: int = 0
    """Rows past the limit."""


def table(state: RunState, figure: str, step: int | None = None, whole: bool = False) -> Table:
    """The rows of the figure of that name (`FIGURES`).

    Args:
        step: of the figures that show one step (`OF_STEP`).
        whole: every row there is, for a file; on a screen, too many are left out.

    Raises:
        KeyError: when there is no figure of that name.
    """
    if figure in _OF_STEP:
        found = _OF_STEP[figure](state, state.timeline_step if step is None else step)
    elif figure == "loss":
        found = _loss(state, SERIES_POINTS if whole else LOSS_ROWS)
    else:
        found = _TABLES[figure](state)
    return found if whole else Table(found.columns, found.rows[:MAX_ROWS], max(0, len(found.rows) - MAX_ROWS))


def _loss(state: RunState, points: int) -> Table:
    rows = [
        (f"{x:,.0f}", name, significant(y, 4), "")
        for name, series in _curves(state)
        for x, y in list(zip(series.x, series.y, strict=True))[:: -max(1, len(series) // points)]
    ]
    tests = [(f"{e.step:,}", words.TEST, significant(e.loss, 4), f"{e.accuracy:.2%}") for e in state.evaluations]
    return Table(words.COLUMNS["loss"], tests[::-1] + rows)


def _curves(state: RunState) -> list[tuple[str, Series]]:
    if len(state.loss) <= 1:
        return [(words.TRAINING, state.mean_loss)]
    return [
        (words.MEAN_OF_RANKS, state.mean_loss),
        *((f"rank {rank}", state.loss[rank]) for rank in sorted(state.loss)),
    ]


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
            words.KINDS[span.kind],
            span.name,
            duration(span.start_ns - first) if span.start_ns >= first else words.EARLIER,
            duration(span.duration_ns),
            human_bytes(span.bytes) if span.bytes else "",
        )
        for span in spans
    ]
    return Table(words.COLUMNS["timeline"], rows)


def _busy(state: RunState) -> Table:
    rows = []
    for device in theming.lanes(state):
        shares = state.shares(device)
        rows.append((device, *(f"{shares.get(kind, 0.0):.1%}" for kind in ORDER)))
    columns = (words.DEVICE, *(words.KINDS[kind] for kind in ORDER))
    return Table(columns, rows if state.totals else [])


def _memory(state: RunState) -> Table:
    """What is in use now, and of the step that was traced last what its peak was made of."""
    columns: tuple[str, ...] = words.COLUMNS["memory"]
    if state.memory_traces:
        columns += (*words.COLUMNS["memory_of_step"], *(words.PURPOSES[each] for each in PURPOSES))
    rows = []
    for device, used in state.memory.items():
        if not len(used.allocated):
            continue
        row = (owner(device), human_bytes(used.allocated.y[-1]), human_bytes(used.peak), human_bytes(used.capacity))
        if state.memory_traces:
            row += _of_step(state.memory_traces.get(device))
        rows.append(row)
    return Table(columns, rows)


def _of_step(trace: MemoryTraced | None) -> tuple[str, ...]:
    if trace is None:
        return ("",) * (2 + len(PURPOSES))
    sizes = peak_of(list(points_of(trace)))[1]
    return (f"{trace.step:,}", human_bytes(sum(sizes.values())), *(human_bytes(sizes[each]) for each in PURPOSES))


def _graph(state: RunState) -> Table:
    if state.graph is None:
        return Table(words.COLUMNS["placement_graph"], [])
    goes: dict[str, list[str]] = {}
    for edge in state.graph.edges:
        if edge.crosses:
            both = words.BOTH_WAYS.format(to=edge.target, forward=edge.forward_bytes, back=edge.backward_bytes)
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
    return Table(words.COLUMNS["placement_graph"], rows)


def _breakdown(state: RunState) -> Table:
    rows = [(name, *(f"{getattr(spent, part.field):.1%}" for part in PARTS)) for name, spent in rows_of(state)]
    return Table((words.RANK_AND_DEVICE, *(part.label for part in PARTS)), rows)


def _buckets(state: RunState, step: int | None) -> Table:
    times = carried(state, step)
    rows = []
    for layout in state.layouts:
        for bucket in layout.buckets:
            went = times.get(bucket.index) if layout is state.layouts[-1] else None
            took = (duration(went.moving_ns), duration(went.waited_ns)) if went else ("", "")
            names = ", ".join(bucket.parameters)
            rows.append((f"{layout.step:,}", str(bucket.index), human_bytes(bucket.bytes), *took, names))
    since, bucket, size, moved, waited, names = words.COLUMNS["buckets"]
    if step is not None and times:
        moved = f"{moved} ({words.OF_STEP.format(step=step)})"
    return Table((since, bucket, size, moved, waited, names), rows)


def _traffic(state: RunState, step: int | None) -> Table:
    """The step's bytes beside those of the whole run, where these are known."""
    found = measured(state, step)
    rows = []
    for pair in sorted(found.copies.keys() | state.traffic.keys()):
        flow, whole = found.copies.get(pair), state.traffic.get(pair)
        of_step = (human_bytes(flow.bytes), str(flow.times)) if flow else ("", "")
        of_run = (human_bytes(whole.bytes), f"{whole.transfers:,}") if whole else ("", "")
        rows.append((*pair, words.COPIES, *of_step, *of_run))
    for device, flow in found.brought.items():
        rows.append((device, words.ALL_RANKS, words.BROUGHT_THERE, human_bytes(flow.bytes), str(flow.times), "", ""))
    for pair, flow in found.rings.items():
        rows.append((*pair, words.AS_RINGS, human_bytes(flow.bytes), str(flow.times), "", ""))
    return Table(words.COLUMNS["traffic"], rows)


_TABLES = {"busy": _busy, "breakdown": _breakdown, "memory": _memory, "placement_graph": _graph}
_OF_STEP = {"timeline": _timeline, "buckets": _buckets, "traffic": _traffic}
