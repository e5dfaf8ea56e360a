"""What is seen of an answer while it runs: devices of results, refused calls, and activations that are kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lab import vgpu
from lab.exercises.watching import Activations, Operations, kept_bytes

NET = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
X_BYTES, TANH_BYTES, LOSS_BYTES = 4 * 4, 4 * 5, 4 * 3
"""Of one sample: what the two layers, tanh and the sum of squares keep for their gradients."""


def loss(samples: int) -> torch.Tensor:
    return (NET(torch.ones(samples, 4)) ** 2).sum()


def test_activations_are_counted_and_parameters_are_not() -> None:
    # Tanh's result is kept twice, as its own and as the second layer's input.
    assert kept_bytes(lambda: loss(6).backward()) == 6 * (X_BYTES + 2 * TANH_BYTES + LOSS_BYTES)


def test_what_backward_has_freed_counts_no_more_and_a_kept_graph_does() -> None:
    one = kept_bytes(lambda: loss(1).backward())

    def in_turn(keep: bool) -> None:
        for _ in range(4):
            part = loss(1)
            part.backward(retain_graph=keep)

    assert kept_bytes(lambda: in_turn(keep=False)) == one
    assert kept_bytes(lambda: in_turn(keep=True)) == 2 * one
    assert kept_bytes(lambda: sum(loss(1) for _ in range(4)).backward()) == 4 * one


def test_nothing_is_kept_without_gradients() -> None:
    watch = Activations()
    with watch.watched(), torch.no_grad():
        loss(3)
    assert watch.peak_bytes == 0


def test_results_are_seen_where_they_are_and_refusals_though_they_are_caught() -> None:
    vgpu.enable(devices=2)
    layer = nn.Linear(3, 2).to("vgpu:1")
    with Operations() as watch:
        layer(torch.ones(1, 3).to("vgpu:1"))
        torch.ones(1, 3) @ torch.ones(3, 1)
        with pytest.raises(RuntimeError):
            layer(torch.ones(1, 3, device="vgpu:0"))
    assert watch.of_layers() == [torch.device("vgpu:1"), torch.device("cpu")]
    assert len(watch.refused) == 1
    assert "vgpu:0" in watch.refused[0]
