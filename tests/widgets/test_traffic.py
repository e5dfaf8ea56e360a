"""The traffic matrix against bytes counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lab.events import DeviceInfo, RunStarted, Span, StepFinished
from lab.state import RunState
from tests.lab import rank_events
from tests.widgets import events_factory as factory
from widgets import figures

Cells = dict[tuple[str, str], float]


def cells(figure: dict[str, Any]) -> Cells:
    """(sender, receiver) -> bytes."""
    (matrix,) = figure["data"]
    senders, receivers = (figure["layout"][axis]["ticktext"] for axis in ("yaxis", "xaxis"))
    return {
        (sender, receiver): size
        for sender, row in zip(senders, matrix["z"], strict=True)
        for receiver, size in zip(receivers, row, strict=True)
        if size is not None
    }


def test_a_split_net_sends_its_activations_and_gets_their_gradients() -> None:
    state = factory.folded(factory.events(steps=50))
    # 64 samples of 10 channels of 12 x 12 float32 numbers, and as many gradients back.
    size = 64 * 10 * 12 * 12 * 4
    figure = figures.spec(state, "traffic")
    assert size == 368_640
    assert cells(figure) == {("vgpu:0", "vgpu:1"): size, ("vgpu:1", "vgpu:0"): size}
    assert figure["data"][0]["text"] == [["", "368.6 kB"], ["368.6 kB", ""]]
    assert "step 49" in figure["layout"]["title"]["text"]
    table = figures.table(state, "traffic")
    assert table.rows[0] == ("vgpu:0", "vgpu:1", "copies", "368.6 kB", "1", "18.4 MB", "50")


def test_microbatches_send_the_same_bytes_in_more_copies() -> None:
    figure = figures.spec(factory.folded(factory.events(steps=5, microbatches=4)), "traffic", step=3)
    assert set(cells(figure).values()) == {368_640}
    assert "368.6 kB, copies: 4" in figure["data"][0]["customdata"][0][1]


def test_two_ranks_send_each_other_what_they_bring() -> None:
    state = rank_events.folded(10)
    # 66,240 + 21,120 bytes in two buckets; 2 (n-1)/n is 1 for two ranks.
    figure = figures.spec(state, "traffic")
    first, second = "rank 0<br>cpu", "rank 1<br>cpu"
    assert cells(figure) == {(first, second): 87_360, (second, first): 87_360}
    assert figure["data"][0]["text"][0][1] == "○ 87.4 kB"
    assert "as a ring" in figure["layout"]["title"]["text"]
    brought = [row for row in figures.table(state, "traffic").rows if row[1] == "all ranks"]
    assert brought == [
        (name, "all ranks", "brought to all-reduces", "87.4 kB", "2", "", "") for name in rank_events.NAMES
    ]


def ring_of(ranks: int, size: int) -> RunState:
    state = rank_events.folded(0)
    names = [f"rank {rank} · cpu" for rank in range(ranks)]
    started = rank_events.started()
    devices = tuple(DeviceInfo(name, "CPU", 10**9, False, rank) for rank, name in enumerate(names))
    state.apply(RunStarted("r", {}, devices, "wall", started.data, "Net", 5, {}))
    assert state.group is not None
    state.apply(type(state.group)(ranks, "gloo", 1, ()))
    for rank, name in enumerate(names):
        state.apply(Span(name, rank, 0, "collective", "bucket 0", 10, 20, bytes=size))
        state.apply(StepFinished(0, rank, 1.0, 8, 1e-6, 30))
    return state


@pytest.mark.parametrize(("ranks", "sent"), [(2, 1_200), (3, 1_600), (4, 1_800)])
def test_a_ring_sends_to_the_next_rank(ranks: int, sent: int) -> None:
    # 1,200 bytes: 2 (n-1) pieces of 1,200 / n.
    found = cells(figures.spec(ring_of(ranks, 1_200), "traffic"))
    assert found == {(f"rank {rank}<br>cpu", f"rank {(rank + 1) % ranks}<br>cpu"): sent for rank in range(ranks)}


def test_the_host_has_a_row_only_where_it_sends() -> None:
    state = RunState()
    state.apply(factory.started())
    state.apply(Span("cpu", 0, 0, "transfer", "cpu → vgpu:1", 0, 10, bytes=1_024, peer="vgpu:1"))
    state.apply(StepFinished(0, 0, 1.0, 8, 1e-6, 10))
    figure = figures.spec(state, "traffic")
    assert cells(figure) == {("cpu", "vgpu:1"): 1_024}
    assert figure["layout"]["xaxis"]["ticktext"] == ["vgpu:0", "vgpu:1"]


def test_nothing_is_drawn_where_nothing_can_travel() -> None:
    one = RunState()
    one.apply(factory.started(devices=("cpu",), clock="wall"))
    assert "traffic" not in figures.applicable(one)
    assert "traffic" in figures.applicable(factory.folded(factory.events(steps=1)))
    still = RunState()
    still.apply(factory.started())
    still.apply(Span("vgpu:0", 0, 0, "forward", "conv1", 0, 10))
    still.apply(StepFinished(0, 0, 1.0, 8, 1e-6, 10))
    assert figures.spec(still, "traffic")["layout"]["annotations"][0]["text"] == "Nothing leaves its device"
