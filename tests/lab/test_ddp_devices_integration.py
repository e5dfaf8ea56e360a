"""DDP between virtual GPUs: one for each rank, and several that hold the layers of a replica."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import pytest
import torch

from lab.events import DeviceTotals, GroupJoined, Placed, RunFinished, Span
from tests.lab.group_runs import fresh, losses, plain_losses, run, spans

pytestmark = pytest.mark.usefixtures("no_leaks")

STEPS = 4
BATCH = 32
PLACED = {
    "devices": "vgpu:0,vgpu:1,vgpu:2,vgpu:3",
    "world_size": 2,
    "placement": {"conv*": "vgpu:0", "*": "vgpu:1"},
}
CONV_BYTES, FC_BYTES = 4 * (260 + 5_020), 4 * (16_050 + 510)


def train(**fields: Any):
    return run(**{"steps": STEPS, "batch_size": BATCH, "timing": "modelled", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"devices": "vgpu:0,vgpu:1"},
        {"devices": "vgpu:0,vgpu:1", "microbatches": 4},
        PLACED,
        {**PLACED, "microbatches": 4},
        {**PLACED, "microbatches": 4, "static_graph": True},
        {**PLACED, "microbatches": 2, "gradient_as_bucket_view": True, "bucket_cap_mb": 0.01},
    ],
    ids=["one each", "accumulated", "placed", "pipelined", "static", "views"],
)
def test_the_losses_are_those_of_one_process(fields: dict[str, Any]) -> None:
    events = train(**fields, dtype="float64")
    expected = plain_losses(fresh("net", dtype=torch.float64), "mnist", STEPS, BATCH)
    assert losses(events) == pytest.approx(expected, rel=1e-12)


def timeline(events: list[Any]) -> list[tuple[Any, ...]]:
    """Everything on the virtual GPUs, with its times."""
    return sorted(
        (s.device, s.step, s.kind, s.name, s.start_ns, s.end_ns, s.bytes, s.microbatch)
        for s in events
        if isinstance(s, Span) and s.device.startswith("vgpu")
    )


@pytest.mark.parametrize("fields", [{"devices": "vgpu:0,vgpu:1", "bucket_cap_mb": 0.02}, {**PLACED, "microbatches": 2}])
def test_modelled_times_are_the_same_in_every_run_and_on_every_rank(fields: dict[str, Any]) -> None:
    first = timeline(train(**fields))
    assert timeline(train(**fields)) == first
    # Ranks do the same on devices of the same kind, and their clocks are one.
    ranks = defaultdict(list)
    for device, *rest in first:
        own = int(device[5:])
        per_rank = 1 if len(fields["devices"]) < 20 else 2
        rest[2] = "device" if rest[2].startswith("vgpu") or "→" in rest[2] else rest[2]
        ranks[own // per_rank].append((own % per_rank, *rest))
    assert sorted(ranks[0]) == sorted(ranks[1])
    assert {row[2] for row in first} >= {"forward", "backward", "collective", "optimizer"}


def test_a_buckets_span_lasts_what_its_ring_takes() -> None:
    link = {"bandwidth_gb_per_s": 2.0, "latency_us": 5.0}
    events = train(devices="vgpu:0,vgpu:1", link=link, bucket_cap_mb=0.02)
    found = spans(events, "collective", 2)
    assert {span.name for span in found} >= {"bucket 0", "bucket 1"}
    assert sum(span.bytes for span in found if span.device == "vgpu:0") == CONV_BYTES + FC_BYTES
    for span in found:
        # Two ranks: 2 steps of half the bytes each, at 2 bytes per nanosecond, and 2 latencies of 5 µs.
        assert span.end_ns - span.start_ns == 10_000 + round(span.bytes / 2)
    # The same moment on both ranks, whatever their devices did before.
    assert {(s.name, s.start_ns, s.end_ns) for s in found if s.rank == 0} == {
        (s.name, s.start_ns, s.end_ns) for s in found if s.rank == 1
    }
    # The first one is under way while the convolutions' gradients are computed, and the update waits for the last.
    backward_ends = max(span.end_ns for span in spans(events, "backward", 2))
    assert min(span.start_ns for span in found) < backward_ends
    assert min(span.start_ns for span in spans(events, "optimizer", 2)) >= max(span.end_ns for span in found)


def test_each_device_of_a_replica_averages_its_own_layers() -> None:
    events = train(**PLACED, microbatches=2)
    [placed] = [event for event in events if isinstance(event, Placed)]
    assert placed.layers["conv1"] == "vgpu:0"
    sizes = {(span.device, span.rank): span.bytes for span in spans(events, "collective", 2)}
    assert sizes == {
        ("vgpu:0", 0): CONV_BYTES,
        ("vgpu:1", 0): FC_BYTES,
        ("vgpu:2", 1): CONV_BYTES,
        ("vgpu:3", 1): FC_BYTES,
    }
    assert {span.microbatch for span in spans(events, "backward", 2)} == {0, 1}
    crossing = [span for span in spans(events, "transfer", 2) if span.device.startswith("vgpu")]
    assert {(span.device, span.peer) for span in crossing} == {
        ("vgpu:0", "vgpu:1"),
        ("vgpu:1", "vgpu:0"),
        ("vgpu:2", "vgpu:3"),
        ("vgpu:3", "vgpu:2"),
    }


def test_the_device_totals_are_the_sums_of_the_spans() -> None:
    events = train(devices="vgpu:0,vgpu:1", bucket_cap_mb=0.02)
    [finished] = [event for event in events if isinstance(event, RunFinished)]
    for device in ("vgpu:0", "vgpu:1"):
        own = [event for event in events if isinstance(event, Span) and device in (event.device, event.peer)]
        by_kind = defaultdict(int)
        for span in own:
            by_kind[span.kind] += span.end_ns - span.start_ns
        total: DeviceTotals = finished.totals[device]
        assert total.busy_ns == by_kind["forward"] + by_kind["backward"] + by_kind["optimizer"]
        assert (total.transfer_ns, total.collective_ns) == (by_kind["transfer"], by_kind["collective"])
        # Nanosecond by nanosecond would be slow; in pieces between all the times there are, it is exact.
        cuts = sorted({0, *(time for span in own for time in (span.start_ns, span.end_ns))})
        hidden = 0
        for start, end in itertools.pairwise(cuts):
            kinds = {span.kind for span in own if span.start_ns <= start and end <= span.end_ns}
            hidden += (end - start) * ("collective" in kinds and bool(kinds & {"forward", "backward", "optimizer"}))
        assert total.hidden_ns == hidden
        assert hidden > 0


def test_the_group_is_told_of_the_backend_of_virtual_gpus() -> None:
    [joined] = [event for event in train(devices="vgpu:0,vgpu:1", steps=1) if isinstance(event, GroupJoined)]
    assert joined.backend == "cpu:gloo,vgpu:vgloo"
