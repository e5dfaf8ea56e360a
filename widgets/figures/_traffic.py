"""Who sends how many bytes to whom in one step: a row per sender, a column per receiver.

Copies between devices are measured one by one. What ranks bring to a collective is measured too, but not on which way
it goes: it is drawn as a ring carries it, in which each rank sends to the next one. In an all-reduce each of n ranks
sends 2 (n-1)/n of what it brings (`lab.vgpu.rings.sent_bytes`, with the source). Gloo does so, and so does the
simulated clock. Cells of a ring have a sign.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from lab.events import Span
from lab.state import RunState
from lab.vgpu import rings
from widgets.figures import _theme as theming
from widgets.figures import words
from widgets.figures._theme import Spec, Theme
from widgets.figures._units import human_bytes

ROW, TALLEST = 44, 460
RING_SIGN = "○"
NUMBERS = 10
"""With more devices, cells are too narrow for their numbers, which hovering says."""


@dataclass(slots=True)
class Flow:
    """What went from one device to another."""

    bytes: int = 0
    times: int = 0
    """Copies, or collectives."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """One step's bytes."""

    copies: dict[tuple[str, str], Flow]
    """(source, target) -> what was copied."""
    brought: dict[str, Flow]
    """Device of a rank -> what it brought to collectives."""
    rings: dict[tuple[str, str], Flow]
    """(source, target) -> what rings carry of that."""


def measured(state: RunState, step: int | None) -> Traffic:
    """The traffic of `step`, or of the last complete one when it is None."""
    step = state.timeline_step if step is None else step
    found = Traffic(defaultdict(Flow), defaultdict(Flow), defaultdict(Flow))
    spans = [] if step is None else state.spans.get(step, [])
    for span in spans:
        if span.kind == "transfer" and span.peer:
            _add(found.copies[span.device, span.peer], span.bytes)
        elif span.kind == "collective":
            _add(found.brought[span.device], span.bytes)
    for together in _collectives(spans):
        if len(together) < max(2, state.world_size):
            continue
        for index, (span, following) in enumerate(zip(together, [*together[1:], together[0]], strict=True)):
            sent = rings.sent_bytes(span.name, span.bytes, len(together))[index]
            if sent:
                _add(found.rings[span.device, following.device], sent)
    return found


def _add(flow: Flow, size: int) -> None:
    flow.bytes += size
    flow.times += 1


def _collectives(spans: list[Span]) -> list[list[Span]]:
    """The parts of each collective, by rank. The n-th of a name is the same one everywhere (`lab.timing.meetings`)."""
    counts: dict[tuple[int, str], int] = defaultdict(int)
    groups: dict[tuple[str, int], list[Span]] = defaultdict(list)
    for span in sorted((span for span in spans if span.kind == "collective"), key=lambda span: span.start_ns):
        name = span.name.partition(" (")[0]
        groups[name, counts[span.rank, name]].append(span)
        counts[span.rank, name] += 1
    return [sorted(group, key=lambda span: span.rank) for group in groups.values()]


def traffic(state: RunState, theme: Theme = "light", step: int | None = None) -> Spec:
    """Bytes of one step in each cell; the darker, the more."""
    step = state.timeline_step if step is None else step
    devices = theming.lanes(state)
    height = _height(len(devices))
    if step is None or step not in state.spans:
        reason = words.NO_RUN if state.started is None else words.FIRST_COMPLETE_STEP
        return theming.empty(theme, words.TITLES["traffic"], height, reason)
    found = measured(state, step)
    title = f"{words.TITLES['traffic']} · {words.OF_STEP.format(step=step)}"
    pairs = found.copies.keys() | found.rings.keys()
    if not pairs:
        return theming.empty(theme, title, height, words.NO_TRAFFIC)
    # The host is no device of the run, and yet batches may come from it.
    others = sorted({name for pair in pairs for name in pair} - set(devices))
    senders = [*(name for name in others if any(pair[0] == name for pair in pairs)), *devices]
    receivers = [*devices, *(name for name in others if any(pair[1] == name for pair in pairs))]
    figure = theming.base(
        theme,
        title + (f" · {RING_SIGN} {words.AS_RING}" if found.rings else ""),
        _height(len(senders)),
        meta={"step": step},
        margin={"l": 8, "r": 8, "t": 62, "b": 8},
        xaxis={
            **_axis(receivers, theme),
            "side": "top",
            "title": {"text": words.TO, "standoff": 2},
            "range": [-0.5, len(receivers) - 0.5],
        },
        yaxis={**_axis(senders, theme), "title": {"text": words.FROM}, "range": [len(senders) - 0.5, -0.5]},
    )
    cells = [[_bytes(found, (source, target)) for target in receivers] for source in senders]
    numbers = len(receivers) <= NUMBERS
    figure["data"] = [
        {
            "type": "heatmap",
            "x": list(range(len(receivers))),
            "y": list(range(len(senders))),
            "z": [[size or None for size in row] for row in cells],
            "zmin": 0,
            "zmax": max(max(row) for row in cells),
            "xgap": 3,
            "ygap": 3,
            "showscale": False,
            "colorscale": _SCALES[theme],
            "text": [[_cell(found, (s, t)) if numbers else "" for t in receivers] for s in senders],
            "texttemplate": "%{text}",
            "textfont": {"size": 11, "color": theming.PALETTES[theme].ink},
            "customdata": [[_about(found, (source, target)) for target in receivers] for source in senders],
            "hovertemplate": "%{customdata}<extra></extra>",
            "hoverongaps": False,
        }
    ]
    figure["layout"]["shapes"] = [
        _place(x, y, theme) for x in range(len(receivers)) for y in range(len(senders)) if not cells[y][x]
    ]
    return figure


_SCALES = {"light": [[0, "#e2f4ec"], [1, "#6fcfae"]], "dark": [[0, "#1d3b36"], [1, "#0f7257"]]}
"""So pale, or so dark, that the number in a cell keeps a contrast of 4.5."""


def _height(rows: int) -> int:
    return 96 + min(TALLEST, ROW * max(2, rows))


def _bytes(found: Traffic, pair: tuple[str, str]) -> int:
    return sum(flows[pair].bytes for flows in (found.copies, found.rings) if pair in flows)


def _cell(found: Traffic, pair: tuple[str, str]) -> str:
    size = _bytes(found, pair)
    sign = f"{RING_SIGN} " if pair in found.rings else ""
    return f"{sign}{human_bytes(size)}" if size else ""


def _about(found: Traffic, pair: tuple[str, str]) -> str:
    source, target = pair
    lines = [f"<b>{source} → {target}</b>"]
    if pair in found.copies:
        flow = found.copies[pair]
        lines.append(words.IN_COPIES.format(size=human_bytes(flow.bytes), count=flow.times))
    if pair in found.rings:
        flow, brought = found.rings[pair], found.brought[source]
        lines.append(words.IN_RINGS.format(size=human_bytes(flow.bytes), count=flow.times))
        lines.append(words.BROUGHT.format(device=source, size=human_bytes(brought.bytes)))
    return "<br>".join(lines)


def _axis(names: list[str], theme: Theme) -> dict[str, Any]:
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [name.replace(" · ", "<br>") for name in names],
        "showgrid": False,
        "fixedrange": True,
        "tickfont": {"size": 11, "color": theming.PALETTES[theme].ink},
    }


def _place(x: int, y: int, theme: Theme) -> dict[str, Any]:
    """An empty cell."""
    return {
        "type": "rect",
        "x0": x - 0.48,
        "x1": x + 0.48,
        "y0": y - 0.46,
        "y1": y + 0.46,
        "fillcolor": theming.PALETTES[theme].track,
        "line": {"width": 0},
        "layer": "below",
    }
