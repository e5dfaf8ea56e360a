"""The programs in docs/examples, on small inputs."""

from __future__ import annotations

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

from lab import vgpu
from lab.vgpu import profiles
from tests.benchmarks import split_curve

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_a_split_resnet50_is_slower_than_a_whole_one_and_a_pipelined_one_faster() -> None:
    # Operations cost their FLOPs and little else, as with large batches, although these are small.
    t4 = profiles.get("t4")
    hardware = dataclasses.replace(
        t4, peak_tflops={"float32": 0.1}, memory_gb_per_s=1e5, issue_us=0.1, launch_us=0.1, link_latency_us=1.0
    )
    vgpu.enable(devices=2, hardware=hardware)
    program = runpy.run_path(str(EXAMPLES / "resnet50_split.py"))
    times = program["curve"](batch=4, image=32, classes=4, split_sizes=[2])
    assert list(times) == ["one GPU", "two GPUs", "split 2"]
    # Two equal stages in two parts would take 3/4 of the time; these two are not quite equal.
    assert 0.7 < times["split 2"] / times["one GPU"] < 0.9
    assert 1.0 < times["two GPUs"] / times["one GPU"] < 1.1


def test_the_picture_is_of_the_times_in_the_docs() -> None:
    times = split_curve.read(EXAMPLES / "resnet50_split_t4.txt")
    page = (EXAMPLES.parent / "virtual-gpus.md").read_text(encoding="utf-8")
    for name in ("one GPU", "two GPUs", "split 60", "split 20", "split 8", "split 1"):
        assert f"| {times[name]:.0f} ms |" in page
    best = min(times, key=lambda name: times[name])
    assert best == "split 8"
    assert f"{times['one GPU'] / times[best] - 1:.0%} faster than one" in page
    assert f"| {times['one GPU'] / times['split 20'] - 1:.0%} faster than one" in page
    assert f"{times['two GPUs'] / times['one GPU'] - 1:.0%} slower" in page
    curve = split_curve.figure(times).data[0]
    assert list(curve.y) == [ms for name, ms in times.items() if name.startswith("split")]


def test_ranks_end_with_the_same_weights_and_the_step_is_that_of_the_page() -> None:
    program = [sys.executable, str(EXAMPLES / "ddp_ranks.py")]
    printed = subprocess.run(program, capture_output=True, text=True, timeout=240, check=True).stdout
    first, second, profile = printed.split("\n", 2)
    assert first.removeprefix("rank 0") == second.removeprefix("rank 1")
    assert profile.strip() in (EXAMPLES.parent / "virtual-gpus.md").read_text(encoding="utf-8")
    # By hand: a ring of two sends all of the gradients once each way, over PCIe 3 with 5 us.
    size = 4 * (1024 * 1024 + 1024 + 1024 * 10 + 10)
    assert f"{size / 15.75e3 + 2 * 5:.0f} µs" in profile


def test_sharded_nets_have_the_losses_of_one_process_and_carry_what_their_weights_weigh() -> None:
    program = [sys.executable, str(EXAMPLES / "sharded_steps.py")]
    printed = subprocess.run(program, capture_output=True, text=True, timeout=280, check=True).stdout
    losses = {
        line.partition(":")[0]: line.partition("losses ")[2][:23] for line in printed.splitlines() if ": " in line
    }
    assert list(losses) == ["CPU", "fully sharded", "tensor parallel", "both"]
    assert len(set(losses.values())) == 1
    # By hand: a block has a norm and two layers, and of the last layer's 10 rows each of 4 ranks has room for 3.
    block = 2 * 256 + 2 * 256 * 1024 + 1024 + 256
    shard = 4 * (4 * block // 4 + 3 * 257)
    assert f"9 x all_gather, {shard + 4 * block:,} bytes" in printed  # forward, and the blocks again in backward
    assert f"5 x reduce_scatter, {shard:,} bytes" in printed
    # A block sums its output forward and its input's gradient backward: 64 samples of 256 numbers.
    assert f"8 x all_reduce, {8 * 4 * 64 * 256:,} bytes" in printed
