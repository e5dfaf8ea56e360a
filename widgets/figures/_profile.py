"""A profile of virtual GPUs: what every device and stream did, and what its memory was used for meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lab.events import PURPOSES, Span
from lab.vgpu.memory_record import MemoryPoint
from lab.vgpu.recording import Recording, corners
from widgets.figures import _theme as theming
from widgets.figures._bars import MAX_BARS, occupying
from widgets.figures._purposes import area
from widgets.figures._table import Table
from widgets.figures._theme import Spec, Theme
from widgets.figures._timeline import drawn, height_of
from widgets.figures._units import byte_unit, duration, human_bytes, time_unit

TIMELINE, MEMORY = "Device timeline", "Memory by purpose"
AXIS = "time since the profile began, {symbol} (simulated)"
DEVICE_AXIS = "time since the profile began, as the device comes to it, {symbol} (simulated)"
"""The host takes memory and gives it back when it issues an operation, as on CUDA, and is ahead of its devices: over
its time, a step's memory would be over before the device has begun. See `lab.vgpu.memory_times`."""
NOTHING = "Nothing ran on a virtual GPU in this time"
FINE_BARS = 32
"""On a lane; with more than that, layers are shown as the part of the net that they belong to."""
MAX_POINTS = 1_500
"""Of all areas of the memory figure together."""
ROW = 150


def timeline(profile: Recording, theme: Theme = "light", window_ms: tuple[float, float] | None = None) -> Spec:
    """A lane per device, and one more for each further stream that it used; only from when to when, if asked."""
    begin_ns, end_ns = (0, profile.length_ns) if window_ms is None else (round(at * 1e6) for at in window_ms)
    lanes = _lanes(profile)
    spans = [
        span
        for span in occupying([*_work(profile), *_copies(profile), *_collectives(profile)], lanes)
        if span.end_ns > begin_ns and span.start_ns < end_ns
    ]
    if not spans:
        return theming.empty(theme, TIMELINE, height_of(lanes), NOTHING)
    turns = sorted(_turns(spans, end_ns - begin_ns), key=lambda span: span.start_ns)
    title = f"{TIMELINE} · {profile.hardware} · {theming.clock_name('virtual')}"
    if len(turns) > MAX_BARS:
        end_ns = turns[MAX_BARS].start_ns
        turns = turns[:MAX_BARS]
        title += f" · the first {duration(end_ns - begin_ns)} of {duration(profile.length_ns)}"
    since = f"{duration(begin_ns)} into the profile" if begin_ns else "the profile began"
    axis = f"time since {since}, {{symbol}} (simulated)"
    cut = [replace(span, start_ns=max(span.start_ns, begin_ns), end_ns=min(span.end_ns, end_ns)) for span in turns]
    return drawn(cut, lanes, theme, title, axis, begin_ns)


def table(profile: Recording) -> Table:
    """What each device did, and what its memory was used for when it held most."""
    rows = []
    for device in profile.devices:
        use = profile.use(device)
        peak = max(profile.memory_of(device), key=lambda point: point.total, default=None)
        sizes = [human_bytes(peak.by_purpose[purpose]) if peak else "" for purpose in PURPOSES]
        times = (duration(use.busy_ns), duration(use.copying_ns), duration(use.idle_ns))
        rows.append((device, *times, f"{use.operations:,}", human_bytes(use.peak_bytes), *sizes))
    return Table(("device", "busy", "copying", "idle", "operations", "peak memory", *PURPOSES), rows)


def _lanes(profile: Recording) -> list[str]:
    used = {(device, 0) for device in profile.devices} | {(span.device, span.stream) for span in profile.spans}
    for copy in profile.transfers:
        used |= {(copy.source, copy.source_stream), (copy.target, copy.target_stream)}
    used |= {(each.device, each.stream) for each in profile.collectives}
    return [
        _lane(device, stream)
        for device in profile.devices
        for stream in sorted(stream for name, stream in used if name == device)
    ]


def _lane(device: str, stream: int) -> str:
    return f"{device} stream {stream}" if stream else device


def _copies(profile: Recording) -> list[Span]:
    return [
        Span(
            _lane(copy.source, copy.source_stream),
            0,
            0,
            "transfer",
            copy.name,
            copy.start_ns,
            copy.end_ns,
            copy.bytes,
            peer=_lane(copy.target, copy.target_stream),
        )
        for copy in profile.transfers
    ]


def _collectives(profile: Recording) -> list[Span]:
    return [
        Span(_lane(each.device, each.stream), 0, 0, "collective", each.name, each.start_ns, each.end_ns, each.bytes)
        for each in profile.collectives
    ]


def _work(profile: Recording) -> list[Span]:
    """A bar for each operation on its lane, by the name of its layer; what belongs to none goes by its kind."""
    return [
        Span(_lane(span.device, span.stream), 0, 0, span.kind, span.layer or span.kind, span.start_ns, span.end_ns)
        for span in profile.spans
    ]


def _turns(spans: list[Span], length_ns: int) -> list[Span]:
    """Operations of one layer become one bar; where there are many, layers are cut down to the part that holds them."""
    turns = _joined(spans, length_ns)
    depth = max(span.name.count(".") + 1 for span in spans)
    while len(turns) > FINE_BARS * len({span.device for span in spans}) and depth > 1:
        depth -= 1
        short = [replace(span, name=".".join(span.name.split(".")[:depth])) for span in spans]
        turns = _joined(short, length_ns)
    return turns


def _joined(spans: list[Span], length_ns: int) -> list[Span]:
    """Neighbours on one lane with one name become one, unless the gap between them can be seen."""
    last: dict[str, Span] = {}
    out: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start_ns):
        before = last.get(span.device, span)
        joins = (before.kind, before.name) == (span.kind, span.name) and span.kind != "transfer"
        if joins and span.start_ns - before.end_ns <= length_ns // 200:
            last[span.device] = replace(before, end_ns=span.end_ns)
            continue
        if before is not span:
            out.append(before)
        last[span.device] = span
    return [*out, *last.values()]


def memory(profile: Recording, theme: Theme = "light") -> Spec:
    """A row per device: what its memory was used for while it worked, stacked."""
    every = {device: profile.memory_while_running(device) for device in profile.devices}
    points = {device: found for device, found in every.items() if any(point.total for point in found)}
    if not points:
        return theming.empty(theme, MEMORY, ROW + 70, NOTHING)
    end_ns = max(profile.length_ns, *(found[-1].at_ns for found in points.values())) or 1
    unit, symbol = time_unit(end_ns)
    highest = max(point.total for found in points.values() for point in found)
    scale, name = byte_unit(highest)
    figure = theming.base(
        theme,
        f"{MEMORY} · {profile.hardware} · {theming.clock_name('virtual')}",
        70 + ROW * len(points),
        showlegend=True,
        hovermode="closest",
        grid={"rows": len(points), "columns": 1, "pattern": "coupled", "ygap": 0.18},
        xaxis={
            "title": {"text": DEVICE_AXIS.format(symbol=symbol)},
            "range": [0, end_ns / unit],
            "showgrid": False,
            "nticks": 8,
        },
    )
    axis = figure["layout"]["yaxis"]
    for row, (device, found) in enumerate(points.items(), 1):
        number = "" if row == 1 else str(row)
        figure["layout"][f"yaxis{number}"] = {
            **axis,
            **theming.up_to(highest / scale * 1.05),
            "title": {**axis["title"], "text": device},
            "ticksuffix": f" {name}",
            "nticks": 4,
        }
        shown = _thinned(corners(found), MAX_POINTS // (len(PURPOSES) * len(points)))
        shown.append(found[-1]._replace(at_ns=end_ns))
        times = [point.at_ns / unit for point in shown]
        for purpose in PURPOSES:
            sizes = [point.by_purpose[purpose] for point in shown]
            figure["data"].append(area(device, purpose, number, times, sizes, scale, theme))
    return figure


def _thinned(points: Sequence[MemoryPoint], limit: int) -> list[MemoryPoint]:
    """At most `limit` points; of those that are left out, none held more than the one that stands for them."""
    every = -(-len(points) // limit)
    return [max(points[at : at + every], key=lambda point: point.total) for at in range(0, len(points), every)]
