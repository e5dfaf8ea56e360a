"""A recording as calm tables, in text and in HTML."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from lab.vgpu.memory import megabytes

if TYPE_CHECKING:
    from lab.vgpu.recording import Collective, Recording

Rows = list[tuple[str, ...]]
DEVICES = ("device", "busy", "copying", "idle", "operations", "FLOPs", "peak memory")
LINKS = ("from", "to", "transfers", "bytes", "under way")
COLLECTIVES = ("device", "collective", "times", "bytes", "waited for others", "under way")
NOTHING = "A profile that has recorded nothing yet: use it in a with statement."
_STYLE = "text-align:right;padding:2px 10px"


def as_text(recording: Recording) -> str:
    """Headline, tables and notes, one below the other."""
    if not recording.devices:
        return NOTHING
    parts = [_headline(recording), *(_text_table(*table) for table in _tables(recording)), *recording.notes]
    return "\n\n".join(parts)


def as_html(recording: Recording) -> str:
    """The same for a notebook, in the notebook's own colours."""
    if not recording.devices:
        return f"<p>{escape(NOTHING)}</p>"
    parts = [_headline(recording), *recording.notes]
    headline, *notes = (f"<p>{escape(part)}</p>" for part in parts)
    return "".join((headline, *(_html_table(*table) for table in _tables(recording)), *notes))


def duration(ns: float) -> str:
    """`1.27 ms`: three digits or more."""
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= size:
            return f"{ns / size:,.{2 if ns < 10 * size else 1 if ns < 100 * size else 0}f} {unit}"
    return f"{ns:.0f} ns"


def count(value: float) -> str:
    """`41.2 G`, for FLOPs."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:,.1f} {prefix}"
    return f"{value:.0f}"


def _headline(recording: Recording) -> str:
    return (
        f"Profile of {duration(recording.length_ns)} on the virtual clock (simulated), "
        f"{len(recording.devices)} x {recording.hardware}"
    )


def _tables(recording: Recording) -> list[tuple[Sequence[str], Rows]]:
    whole = recording.length_ns or 1
    devices: Rows = []
    for device in recording.devices:
        use = recording.use(device)
        times = (f"{duration(ns)} ({ns / whole:.0%})" for ns in (use.busy_ns, use.copying_ns, use.idle_ns))
        devices.append((device, *times, f"{use.operations:,}", count(use.flops), megabytes(use.peak_bytes)))
    links: Rows = [
        (link.source, link.target, f"{link.transfers:,}", megabytes(link.bytes), duration(link.busy_ns))
        for link in recording.links()
    ]
    together: dict[tuple[str, str], list[Collective]] = defaultdict(list)
    for each in recording.collectives:
        together[each.device, each.name].append(each)
    collectives: Rows = [
        (
            device,
            name,
            f"{len(own):,}",
            megabytes(sum(each.bytes for each in own)),
            duration(sum(each.start_ns - each.ready_ns for each in own)),
            duration(sum(each.end_ns - each.start_ns for each in own)),
        )
        for (device, name), own in together.items()
    ]
    return [table for table in ((DEVICES, devices), (LINKS, links), (COLLECTIVES, collectives)) if table[1]]


def _text_table(titles: Sequence[str], rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [titles, *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    )


def _html_table(titles: Sequence[str], rows: Rows) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f'<{tag} style="{_STYLE}">{escape(cell)}</{tag}>' for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', titles)}</thead><tbody>{body}</tbody></table>"
