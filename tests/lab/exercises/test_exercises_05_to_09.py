"""Answers to the exercises of notebooks 05 to 09: wrong in the ways in which students are, and what they are told.

The right answers are tested with their notebooks.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint_sequential

from lab import course, vgpu
from lab.exercises import check


def told(name: str, *answer: object) -> str:
    verdict = check(name, *answer)
    assert verdict.outcome == "wrong", verdict
    return verdict.sentence


def test_accumulating_means_without_a_weight_is_named() -> None:
    def summed(net, loss_function, x, y, parts):
        for part, target in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            loss_function(net(part), target).backward()

    def averaged(net, loss_function, x, y, parts):
        for part, target in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            (loss_function(net(part), target) / parts).backward()

    def last_only(net, loss_function, x, y, parts):
        for part, target in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            net.zero_grad()
            loss_function(net(part), target).backward()

    assert "4 times that of the whole batch" in told("05-accumulate", summed)
    assert "parts of [3, 3, 2, 2], your gradient is not that of all 10" in told("05-accumulate", averaged)
    assert "not that of all 12" in told("05-accumulate", last_only)


def test_accumulating_at_once_or_not_at_all_is_named() -> None:
    def whole(net, loss_function, x, y, parts):
        loss_function(net(x), y).backward()

    def forgets(net, loss_function, x, y, parts):
        part = len(x) // parts
        for index in range(parts):
            mine = slice(index * part, (index + 1) * part)
            (loss_function(net(x[mine]), y[mine]) / parts).backward()

    assert "saves no memory" in told("05-accumulate", whole)
    assert "of 10 samples in 4 parts, your losses saw 8" in told("05-accumulate", forgets)
    assert "no gradient" in told("05-accumulate", lambda *arguments: None)


def test_groups_of_other_layers_and_lost_devices_are_named() -> None:
    def by_rank(replicas, stages):
        return [[copy * stages + stage for stage in range(stages)] for copy in range(replicas)]

    assert "do not hold the same layers" in told("06-groups", by_rank)
    assert "device 1 is in 0 groups" in told("06-groups", lambda replicas, stages: [[0, 2]])
    assert "one group for each stage" in told("06-groups", lambda r, s: [[device] for device in range(r * s)])
    assert "a list of lists" in told("06-groups", lambda replicas, stages: 3)


def test_a_checkpoint_without_the_optimizer_or_the_step_is_named() -> None:
    def save(path, net, optimizer, step):
        torch.save({"net": net.state_dict(), "step": step}, path)

    def load(path, net, optimizer):
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        return saved["step"]

    def nothing(path, net, optimizer):
        return 3

    assert "has a memory of the steps before" in told("07-resume", save, load)
    assert "has a memory of the steps before" in told("07-resume", save, nothing)
    assert "the step to go on with, 3; yours returns 0" in told("07-resume", save, lambda *arguments: 0)
    assert "no file" in told("07-resume", lambda *arguments: None, load)


def test_a_step_that_does_not_fit_or_leaves_samples_out_is_named() -> None:
    def whole(net, x, y):
        nn.functional.mse_loss(net(x.to("vgpu:0")), y.to("vgpu:0")).backward()

    def first_half(net, x, y):
        whole(net, x[:256], y[:256])

    def summed(net, x, y):
        for start in range(0, 512, 128):
            whole(net, x[start : start + 128], y[start : start + 128])

    assert "out of memory" in told("08-fits", whole)
    assert "All samples have to count" in told("08-fits", first_half)
    assert "about 4 times as large" in told("08-fits", summed)


def test_a_step_with_checkpoints_fits_and_the_readers_devices_are_back() -> None:
    def recomputed(net, x, y):
        output = checkpoint_sequential(net, 4, x.to("vgpu:0"), use_reentrant=False)
        nn.functional.mse_loss(output, y.to("vgpu:0")).backward()

    mine = vgpu.enable(devices=3)
    assert check("08-fits", recomputed).passed
    assert vgpu.current() is mine


def test_a_lopsided_or_incomplete_assignment_is_named() -> None:
    def in_turn(minutes, devices):
        return [list(range(len(minutes)))[device::devices] for device in range(devices)]

    assert "the last device is done after 7 minutes; 5 can be reached" in told("09-assign", in_turn)
    assert "lists for 1 devices" in told("09-assign", lambda minutes, devices: [list(range(len(minutes)))])
    assert "run 0 is there 0 times" in told("09-assign", lambda minutes, devices: [[] for _ in range(devices)])


@pytest.mark.parametrize("name", ["05-accumulate", "06-groups", "08-fits", "09-assign"])
def test_a_function_that_is_not_written_yet_is_blank(name: str) -> None:
    assert check(name, lambda *arguments: ...).outcome == "blank"


def test_the_time_of_a_program_on_virtual_gpus_is_their_clocks() -> None:
    devices = course.devices(2, "virtual", timing="modelled")
    x = torch.zeros(250_000, device=devices[0])

    # 1 MB at 1 GB/s, 20 µs of latency and 5 µs until the host has issued it.
    assert course.milliseconds(lambda: x.to(devices[1]), devices) == pytest.approx(1.025, abs=0.03)
    assert course.milliseconds(lambda: x.to(devices[1]), devices, times=3) == pytest.approx(1.025, abs=0.03)
    assert course.milliseconds(lambda: None, ["cpu"]) < 1000
