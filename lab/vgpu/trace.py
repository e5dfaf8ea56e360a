"""A recording as a trace that Perfetto and chrome://tracing open.

The format is Google's "Trace Event Format" (JSON object form; times are microseconds):
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

    process   one per virtual GPU, and one for the host
    thread    one per stream; on the host, one for issuing and one per stream with which it exchanged bytes
    X         an operation, a copy (at both its ends), a collective, the host's issuing and waiting
    s, f      an arrow from where a copy is sent to where it arrives
    C         memory by what it is used for
    M         names and the order of rows
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.vgpu.recording import OpSpan, Recording, Transfer, corners

HOST = "cpu"
ISSUING = (HOST, "issues operations")
"""The host's own track."""

Event = dict[str, Any]
_Track = tuple[str, str]
"""The device, and which of its rows."""


def write(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Writes the trace to a file."""
    about = {
        "clock": "simulated: nanoseconds of the virtual clock since the profile began",
        "hardware": recording.hardware,
        "notes": recording.notes,
    }
    # Plain ASCII and no NaN: every reader of JSON takes it.
    text = json.dumps({"traceEvents": events(recording), "displayTimeUnit": "ns", "otherData": about}, allow_nan=False)
    Path(path).write_text(text, encoding="ascii")


def events(recording: Recording) -> list[Event]:
    """The trace's events: names first, then everything else by time."""
    rows = _Rows(recording)
    timed = [*_host(recording, rows), *_operations(recording, rows), *_copies(recording, rows)]
    timed += [*_collectives(recording, rows), *_memory(recording, rows)]
    timed.sort(key=lambda event: event["ts"])
    return [*rows.names(), *timed]


class _Rows:
    """Numbers for processes and threads. Perfetto keeps 0 for itself, so they begin at 1, and no number comes twice."""

    def __init__(self, recording: Recording) -> None:
        self._processes = {device: number for number, device in enumerate((HOST, *recording.devices), 1)}
        tracks = {ISSUING, *((device, _stream(0)) for device in recording.devices)}
        tracks |= {(span.device, _stream(span.stream)) for span in recording.spans}
        tracks |= {track for copy in recording.transfers for track in ends(copy)}
        tracks |= {(each.device, _stream(each.stream)) for each in recording.collectives}
        # The host's own row comes first, then streams by their numbers.
        order = sorted(tracks, key=lambda track: (self._processes[track[0]], track != ISSUING, len(track[1]), track[1]))
        self._threads = {track: number for number, track in enumerate(order, 1)}
        self._hardware = recording.hardware

    def of(self, track: _Track) -> Event:
        return {"pid": self._processes[track[0]], "tid": self._threads[track]}

    def process(self, device: str) -> int:
        return self._processes[device]

    def names(self) -> Iterator[Event]:
        for device, pid in self._processes.items():
            title = "host" if device == HOST else f"{device}, {self._hardware}"
            for name, args in (
                ("process_name", {"name": title}),
                ("process_labels", {"labels": "simulated"}),
                ("process_sort_index", {"sort_index": pid}),
            ):
                yield {"ph": "M", "name": name, "pid": pid, "tid": 0, "args": args}
        for (device, title), tid in self._threads.items():
            about = {"ph": "M", "pid": self._processes[device], "tid": tid}
            yield {**about, "name": "thread_name", "args": {"name": title}}
            yield {**about, "name": "thread_sort_index", "args": {"sort_index": tid}}


def ends(copy: Transfer) -> tuple[_Track, _Track]:
    """The rows on which a copy is sent and received. On the host each stream of a device has a row of its own, because
    copies with several may be under way at once."""
    sent, received = (copy.source, _stream(copy.source_stream)), (copy.target, _stream(copy.target_stream))
    if copy.source == HOST:
        sent = (HOST, f"copies with {copy.target} {_stream(copy.target_stream)}")
    if copy.target == HOST:
        received = (HOST, f"copies with {copy.source} {_stream(copy.source_stream)}")
    return sent, received


def _stream(number: int) -> str:
    return f"stream {number}"


def _slice(row: Event, name: str, category: str, start_ns: int, end_ns: int, **args: Any) -> Event:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        **row,
        "ts": start_ns / 1000,
        "dur": (end_ns - start_ns) / 1000,
        "args": args,
    }


def _operations(recording: Recording, rows: _Rows) -> Iterator[Event]:
    for span in recording.spans:
        about: Event = {"layer": span.layer, "node": span.node, "FLOPs": span.flops, "bytes": span.bytes}
        yield _slice(
            rows.of((span.device, _stream(span.stream))),
            f"{span.layer} {span.name}".strip(),
            span.kind,
            span.start_ns,
            span.end_ns,
            **{name: value for name, value in about.items() if value},
        )


def _copies(recording: Recording, rows: _Rows) -> Iterator[Event]:
    for number, copy in enumerate(recording.transfers, 1):
        sent, received = (rows.of(track) for track in ends(copy))
        for row in (sent, received):
            yield _slice(row, copy.name, "transfer", copy.start_ns, copy.end_ns, bytes=copy.bytes)
        arrow = {"name": "transfer", "cat": "transfer", "id": number}
        # An end is bound to the slice around it on its row, so it lies inside, and not on the next slice's beginning.
        inside_ns = max(copy.start_ns, copy.end_ns - 1)
        yield {"ph": "s", **arrow, **sent, "ts": copy.start_ns / 1000}
        yield {"ph": "f", "bp": "e", **arrow, **received, "ts": inside_ns / 1000}


def _collectives(recording: Recording, rows: _Rows) -> Iterator[Event]:
    """On the device's communication stream: for whom it waited, and then what travelled."""
    for each in recording.collectives:
        row = rows.of((each.device, _stream(each.stream)))
        if each.start_ns > each.ready_ns:
            yield _slice(row, f"waits for rank {each.last_rank}", "wait", each.ready_ns, each.start_ns)
        yield _slice(row, each.name, "collective", each.start_ns, each.end_ns, bytes=each.bytes)


def _host(recording: Recording, rows: _Rows) -> Iterator[Event]:
    """What the host issued and when; between, it waited for a device."""
    row = rows.of(ISSUING)
    done: list[OpSpan | Transfer] = sorted((*recording.spans, *recording.transfers), key=lambda each: each.issued_ns)
    now_ns = 0
    for each in done:
        begun_ns = max(now_ns, each.issued_ns - recording.issue_ns)
        if begun_ns > now_ns:
            yield _slice(row, "waits", "wait", now_ns, begun_ns)
        yield _slice(row, each.name, "issue", begun_ns, max(begun_ns, each.issued_ns))
        now_ns = max(begun_ns, each.issued_ns)
    if recording.host_ns > now_ns:
        yield _slice(row, "waits", "wait", now_ns, recording.host_ns)


def _memory(recording: Recording, rows: _Rows) -> Iterator[Event]:
    for device in recording.devices:
        for point in corners(recording.memory_while_running(device)):
            yield {
                "ph": "C",
                "name": "memory (bytes)",
                "pid": rows.process(device),
                "tid": 0,
                "ts": point.at_ns / 1000,
                "args": dict(point.by_purpose),
            }
