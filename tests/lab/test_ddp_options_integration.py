"""DistributedDataParallel's options in real runs: what each changes, and what it must not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lab
from lab.events import BucketsBuilt, ParametersSummed
from tests.lab.group_runs import fresh, losses, plain_losses, run, spans

pytestmark = pytest.mark.usefixtures("no_leaks")

STEPS = 4
BATCH = 32
MLP = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias")
NUMBERS = {"fc1": (256, 784), "fc2": (128, 256), "fc3": (10, 128)}
"""The shapes of the MLP's weights."""


class Branched(nn.Module):
    """One of its layers is never used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.used, self.spare = nn.Linear(784, 10), nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x.flatten(1))


def mlp(**fields):
    return run(**{"net": "mlp", "world_size": 2, "steps": STEPS, "batch_size": BATCH, **fields})


def checksums(events):
    return {(event.step, event.rank): event.sums for event in events if isinstance(event, ParametersSummed)}


def test_small_buckets_are_under_way_while_backward_computes() -> None:
    """fc3 and fc2 fill 136,744 bytes, more than the cap; so they go while fc1, the largest layer, is computed."""
    events = mlp(bucket_cap_mb=0.1, steps=6, batch_size=512)
    first, last = [event for event in events if isinstance(event, BucketsBuilt)]
    assert sum(bucket.bytes for bucket in first.buckets) == 940_584
    assert (first.step, last.step) == (0, 1)  # laid out anew in the order in which gradients came
    assert [(set(bucket.parameters), bucket.bytes) for bucket in last.buckets] == [
        (set(MLP[2:]), 4 * (128 * 256 + 128 + 10 * 128 + 10)),
        (set(MLP[:2]), 4 * (256 * 784 + 256)),
    ]
    for step in range(2, 6):
        for rank in range(2):
            buckets = [span for span in spans(events, "collective", step) if span.rank == rank]
            assert sorted(span.name for span in buckets) == ["bucket 0", "bucket 1"]
            begin = min(span.start_ns for span in buckets)
            backward_ends = max(span.end_ns for span in spans(events, "backward", step) if span.rank == rank)
            assert begin < backward_ends


def test_the_default_layout_is_the_one_of_ddp_itself() -> None:
    """ResNet-18's last layer, batch norm and convolution are more than the 1 MB with which PyTorch fills the first
    bucket. A cap that is given would hold for the first bucket as well."""
    events = run(net="resnet18", data="shapes", world_size=2, steps=2, batch_size=4)
    last = [event for event in events if isinstance(event, BucketsBuilt)][-1]
    assert last.buckets[0].bytes == 4 * (10 + 10 * 512 + 2 * 512 + 512 * 512 * 9)


def test_no_rank_leaves_an_all_reduce_before_all_have_come() -> None:
    """The ranks' clocks are one: what cannot be otherwise in the world is so on the timeline."""
    events = mlp(bucket_cap_mb=0.1, steps=8)
    for step in range(1, 8):
        for name in ("bucket 0", "bucket 1"):
            of_all = [span for span in spans(events, "collective", step) if span.name == name]
            assert {span.rank for span in of_all} == {0, 1}
            assert max(span.start_ns for span in of_all) <= min(span.end_ns for span in of_all)


def test_options_that_save_memory_or_time_change_no_parameter() -> None:
    plain = checksums(mlp())
    assert len(plain) == 2 * STEPS
    assert checksums(mlp(gradient_as_bucket_view=True)) == plain
    assert checksums(mlp(static_graph=True)) == plain
    assert checksums(mlp(find_unused_parameters=True)) == plain


@pytest.mark.parametrize("option", ["find_unused_parameters", "static_graph"])
def test_a_layer_that_is_never_used(option: str) -> None:
    fields = {"net": "own:Branched", "world_size": 2, "steps": STEPS, "batch_size": BATCH, option: True}
    assert losses(run(Branched(), **fields)) == pytest.approx(plain_losses(Branched(), "mnist", STEPS, BATCH), rel=1e-5)


@pytest.mark.parametrize("devices", ["cpu", "vgpu:0,vgpu:1"])
def test_an_unused_layer_is_named_before_it_does_harm(devices: str) -> None:
    experiment = lab.Experiment(
        net="own:Branched", strategy="ddp", world_size=2, devices=devices, steps=STEPS, batch_size=BATCH
    )
    with lab.start(experiment, net=Branched()) as started:
        assert not [event for event in started if isinstance(event, ParametersSummed)]
        failure = started.state.failure
    assert "at step 0 does not depend on spare.weight and spare.bias" in failure.cause
    assert "find_unused_parameters=True" in failure.advice


def test_accumulated_gradients_are_synchronised_once_a_step() -> None:
    events = mlp(microbatches=4, dtype="float64")
    assert losses(events) == pytest.approx(
        plain_losses(fresh("mlp", dtype=torch.float64), "mnist", STEPS, BATCH), rel=1e-12
    )
    for step in range(STEPS):
        for kind in ("forward", "backward"):
            assert {span.microbatch for span in spans(events, kind, step)} == {0, 1, 2, 3}
        for rank in range(2):
            [bucket] = [span for span in spans(events, "collective", step) if span.rank == rank]
            parts = [span for span in spans(events, "backward", step) if span.rank == rank and span.microbatch < 3]
            assert bucket.start_ns >= max(span.end_ns for span in parts)
            assert bucket.bytes == 2 * 940_584


def test_half_precision_halves_the_bytes_and_costs_some_digits() -> None:
    events = mlp(compression="fp16")
    assert {span.bytes for span in spans(events, "collective")} == {940_584 // 2}
    expected = plain_losses(fresh("mlp"), "mnist", STEPS, BATCH)
    assert losses(events) != pytest.approx(expected, rel=1e-9)
    assert losses(events) == pytest.approx(expected, rel=1e-3)


def test_powersgd_sends_two_thin_matrices_for_each_weight() -> None:
    """Of rank 1: rows + columns numbers for a weight; biases go whole. The first two steps are not compressed."""
    events = mlp(compression="powersgd")
    compressed = 4 * sum(rows + columns + rows for rows, columns in NUMBERS.values())
    assert compressed == 4 * (256 + 784 + 256 + 128 + 256 + 128 + 10 + 128 + 10)
    for step, size in enumerate([940_584, 940_584, compressed, compressed]):
        assert {span.bytes for span in spans(events, "collective", step)} == {size}
    expected = plain_losses(fresh("mlp"), "mnist", STEPS, BATCH)
    assert losses(events)[:3] == pytest.approx(expected[:3], rel=1e-5)  # the third is computed before its update
    assert losses(events)[3] == pytest.approx(expected[3], rel=0.05)
    assert losses(events)[3] != pytest.approx(expected[3], rel=1e-5)


def test_compressed_gradients_still_keep_the_ranks_equal() -> None:
    for compression in ("fp16", "powersgd"):
        sums = checksums(mlp(compression=compression))
        assert all(sums[step, 0] == sums[step, 1] for step in range(STEPS))
