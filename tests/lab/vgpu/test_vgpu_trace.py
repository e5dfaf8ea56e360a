"""Saved traces, held against the rules of the Trace Event Format by a checker that knows nothing of how they are made.

The rules are those of "Trace Event Format" (Google, JSON object form), and what Perfetto needs besides: it shows no
slice that overlaps another of its thread without being inside it, and no arrow whose ends lie in no slice.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lab import vgpu
from lab.vgpu.observer import Collective
from lab.vgpu.recording import Recording
from tests.lab.vgpu.by_hand import HARDWARE, ISSUE_NS, LATENCY_NS, LAUNCH_NS

REQUIRED = {
    "X": {"name": str, "cat": str, "ts": float, "dur": float, "pid": int, "tid": int},
    "s": {"name": str, "cat": str, "id": int, "ts": float, "pid": int, "tid": int},
    "f": {"name": str, "cat": str, "id": int, "ts": float, "pid": int, "tid": int, "bp": str},
    "C": {"name": str, "ts": float, "pid": int, "args": dict},
    "M": {"name": str, "pid": int, "args": dict},
}
METADATA = {
    "process_name": "name",
    "process_labels": "labels",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON number")


def faults(text: str) -> list[str]:
    """Everything that is wrong with a trace."""
    trace = json.loads(text, parse_constant=refuse)
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events = trace["traceEvents"]
    found = [f"{missing} in {event}" for event in events for missing in _missing(event)]
    if found:
        return found
    timed = [event for event in events if event["ph"] != "M"]
    if [event["ts"] for event in timed] != sorted(event["ts"] for event in timed):
        found.append("events are not in the order of time")
    return [*found, *_names(events), *_overlaps(events), *_flows(events)]


def _missing(event: dict[str, Any]) -> Iterator[str]:
    if event.get("ph") not in REQUIRED:
        yield "an unknown phase"
        return
    for field, kind in REQUIRED[event["ph"]].items():
        value = event.get(field)
        right = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not right or isinstance(value, bool) or value == "":
            yield f"{field}={value!r}"
        if kind is float and right and not (math.isfinite(value) and value >= 0):
            yield f"{field}={value!r}"
    if event["ph"] == "C":
        if not event["args"]:
            yield "no series"
        yield from (f"series {name}" for name, value in event["args"].items() if type(value) not in (int, float))
    if event["ph"] == "M" and METADATA.get(event["name"]) not in event["args"]:
        yield "metadata without its value"


def _names(events: list[dict[str, Any]]) -> Iterator[str]:
    processes = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    threads = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    if len(set(processes.values())) < len(processes):
        yield "two processes have one name"
    if len({tid for _, tid in threads}) < len(threads) or 0 in {*processes, *(tid for _, tid in threads)}:
        yield "a thread's number comes twice, or is Perfetto's own 0"
    for event in events:
        if event["pid"] not in processes:
            yield f"a process without a name in {event}"
        if event["ph"] in "Xsf" and (event["pid"], event["tid"]) not in threads:
            yield f"a thread without a name in {event}"


def _rows(events: list[dict[str, Any]]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """The slices of each thread, in nanoseconds."""
    rows = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            start = round(event["ts"] * 1000)
            rows[event["pid"], event["tid"]].append((start, start + round(event["dur"] * 1000)))
    return rows


def _overlaps(events: list[dict[str, Any]]) -> Iterator[str]:
    for row, slices in _rows(events).items():
        open_until: list[int] = []
        for start, end in sorted(slices, key=lambda each: (each[0], -each[1])):
            while open_until and open_until[-1] <= start:
                open_until.pop()
            if open_until and end > open_until[-1]:
                yield f"slices overlap on {row} at {start}"
            open_until.append(end)


def _flows(events: list[dict[str, Any]]) -> Iterator[str]:
    rows = _rows(events)
    ends = defaultdict(list)
    for event in events:
        if event["ph"] in "sf":
            ends[event["cat"], event["name"], event["id"]].append(event)
            at = round(event["ts"] * 1000)
            if not any(start <= at <= end for start, end in rows[event["pid"], event["tid"]]):
                yield f"an arrow's end in no slice: {event}"
    for name, pair in ends.items():
        if sorted(event["ph"] for event in pair) != ["f", "s"]:
            yield f"arrow {name} has not one beginning and one end"
        elif max(pair, key=lambda event: event["ph"])["ts"] > min(pair, key=lambda event: event["ph"])["ts"]:
            yield f"arrow {name} ends before it begins"


def saved(profile: Recording, folder: Path) -> str:
    profile.save(folder / "trace.json")
    return (folder / "trace.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pipeline() -> Recording:
    """Two steps over two devices in microbatches, with copies on side streams, optimizer and host."""
    vgpu.enable(devices=2, hardware="t4")
    first, second = nn.Linear(64, 64).to("vgpu:0"), nn.Linear(64, 8).to("vgpu:1")
    optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()])
    batch = torch.randn(32, 64)
    with vgpu.profile() as p:
        for _ in range(2):
            side = torch.vgpu.Stream()
            with torch.vgpu.stream(side):
                there = batch.to("vgpu:0", non_blocking=True)
            torch.vgpu.current_stream().wait_stream(side)
            loss = torch.cat([second(first(part).to("vgpu:1")) for part in there.split(8)]).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
    return p


def test_a_trace_keeps_the_formats_rules(pipeline: Recording, tmp_path: Path) -> None:
    assert faults(saved(pipeline, tmp_path)) == []


def test_a_measured_trace_keeps_them_too(tmp_path: Path) -> None:
    vgpu.enable(devices=3, hardware="classroom")
    with vgpu.profile() as p:
        x = torch.randn(100, 100).to("vgpu:0")
        for index in (1, 2, 0):
            x = (x @ x).to(f"vgpu:{index}")
        x.cpu()
    assert faults(saved(p, tmp_path)) == []


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda events: events.reverse(), "order of time"),
        (lambda events: events.remove(next(e for e in events if e["ph"] == "f")), "not one beginning and one end"),
        (lambda events: next(e for e in events if e["ph"] == "s").update(ts=0.5), "in no slice"),
        (lambda events: next(e for e in events if e["ph"] == "X").update(dur=5.001), "slices overlap"),
        (lambda events: next(e for e in events if e["ph"] == "X").pop("tid"), "tid=None"),
        (lambda events: next(e for e in events if e["ph"] == "C").update(args={"a": "1"}), "series a"),
        (lambda events: events.pop(0), "process without a name"),
    ],
)
def test_the_checker_finds_what_is_wrong(pipeline: Recording, tmp_path: Path, spoil: Any, fault: str) -> None:
    trace = json.loads(saved(pipeline, tmp_path))
    spoil(trace["traceEvents"])
    assert any(fault in found for found in faults(json.dumps(trace)))


def by_phase(trace: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


def test_every_operation_copy_and_wait_is_in_it(tmp_path: Path) -> None:
    vgpu.enable(devices=2, hardware=HARDWARE)
    x = torch.zeros(1_000, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        x.to("vgpu:1").mul_(2)
        torch.vgpu.synchronize("vgpu:1")
        x.add_(1)
    trace = json.loads(saved(p, tmp_path))
    rows = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in by_phase(trace, "M")
        if event["name"] == "thread_name"
    }
    hosts = {event["pid"]: event["args"]["name"] for event in by_phase(trace, "M") if event["name"] == "process_name"}
    slices = sorted(
        (hosts[event["pid"]], rows[event["pid"], event["tid"]], event["name"], event["ts"], event["dur"])
        for event in by_phase(trace, "X")
    )
    issue, work, copy = ISSUE_NS / 1000, (LAUNCH_NS + 8_000) / 1000, (LATENCY_NS + 4_000) / 1000
    waited = issue + copy + work
    gpu = ", a GPU to count with"
    assert slices == [
        ("host", "issues operations", "add_", waited, issue),
        ("host", "issues operations", "mul_", issue, issue),
        ("host", "issues operations", "vgpu:0 → vgpu:1", 0, issue),
        ("host", "issues operations", "waits", 2 * issue, waited - 2 * issue),
        (f"vgpu:0{gpu}", "stream 0", "add_", waited + issue, work),
        (f"vgpu:0{gpu}", "stream 0", "vgpu:0 → vgpu:1", issue, copy),
        (f"vgpu:1{gpu}", "stream 0", "mul_", issue + copy, work),
        (f"vgpu:1{gpu}", "stream 0", "vgpu:0 → vgpu:1", issue, copy),
    ]
    (start,), (end,) = by_phase(trace, "s"), by_phase(trace, "f")
    assert (hosts[start["pid"]], hosts[end["pid"]]) == (f"vgpu:0{gpu}", f"vgpu:1{gpu}")
    counts = {(hosts[event["pid"]], event["ts"]): sum(event["args"].values()) for event in by_phase(trace, "C")}
    assert counts == {
        (f"vgpu:0{gpu}", 0): 4_000,
        (f"vgpu:1{gpu}", 0): 0,
        (f"vgpu:1{gpu}", issue): 4_000,  # the copy is under way, and freed when mul_ has ended
        (f"vgpu:1{gpu}", waited): 0,
    }
    assert trace["otherData"]["clock"].startswith("simulated")


def test_a_collective_and_the_wait_before_it_are_on_the_communication_stream(tmp_path: Path) -> None:
    clock = vgpu.enable(devices=1, hardware=HARDWARE).clock
    with vgpu.profile() as p:
        communication = clock.stream(0, 3)
        # As the ranks agree on it: this one comes at 5 µs, the last one at 20 µs, and the bytes take 10 µs.
        clock.tell_collective(Collective(0, 3, "all_reduce", 4_000, 5_000, 20_000, 30_000, last_rank=1))
        communication.wait_until(30_000)
    use = p.use("vgpu:0")
    assert (use.busy_ns, use.copying_ns, use.idle_ns, p.length_ns) == (0, 10_000, 20_000, 30_000)
    trace = json.loads(saved(p, tmp_path))
    slices = [(event["cat"], event["name"], event["ts"], event["dur"]) for event in by_phase(trace, "X")]
    assert slices == [
        ("wait", "waits for rank 1", 5, 15),
        ("collective", "all_reduce", 20, 10),
    ]
    rows = [event["args"]["name"] for event in by_phase(trace, "M") if event["name"] == "thread_name"]
    assert "stream 3" in rows
    assert p.summary().splitlines()[-1].split() == [
        "vgpu:0",
        "all_reduce",
        "1",
        "4.0",
        "kB",
        "15.0",
        "µs",
        "10.0",
        "µs",
    ]


def test_layers_and_kinds_are_in_it(pipeline: Recording, tmp_path: Path) -> None:
    trace = json.loads(saved(pipeline, tmp_path))
    kinds = {event["cat"] for event in by_phase(trace, "X")}
    assert kinds == {"forward", "backward", "optimizer", "other", "transfer", "issue", "wait"}
    matmul = next(
        event for event in by_phase(trace, "X") if event["cat"] == "forward" and event["name"] == "Linear addmm"
    )
    assert matmul["args"]["FLOPs"] == 2 * 8 * 64 * 64
    assert matmul["args"]["layer"] == "Linear"
    purposes = {name for event in by_phase(trace, "C") for name in event["args"]}
    assert purposes == {"parameters", "gradients", "optimizer state", "activations", "other"}


def test_an_empty_profile_is_a_trace_too(tmp_path: Path) -> None:
    vgpu.enable(devices=1, hardware="t4")
    with vgpu.profile() as p:
        pass
    text = saved(p, tmp_path)
    assert faults(text) == []
    assert not by_phase(json.loads(text), "X")
