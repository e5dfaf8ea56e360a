"""Modelled times against the roofline worked out by hand, and the profiles' own figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import lab
from lab import vgpu
from lab.events import Span
from lab.vgpu import profiles
from lab.vgpu.links import LinkModel
from lab.vgpu.roofline import Roofline

A100 = profiles.get("a100")
aten = torch.ops.aten


def test_a_matrix_product_is_bound_by_its_flops() -> None:
    n = 4096
    a = torch.empty(n, n, device="meta")
    expected_ns = 1_000 + 2 * n**3 / 19.5e12 * 1e9
    measured = Roofline(A100).duration_ns(torch.ops.aten.mm.default, (a, a), a)
    assert measured == pytest.approx(expected_ns, abs=1)


def test_a_matrix_product_in_bfloat16_runs_at_its_own_rate() -> None:
    n = 4096
    a = torch.empty(n, n, device="meta", dtype=torch.bfloat16)
    expected_ns = 1_000 + 2 * n**3 / 312e12 * 1e9
    assert Roofline(A100).duration_ns(torch.ops.aten.mm.default, (a, a), a) == pytest.approx(expected_ns, abs=1)


def test_an_addition_is_bound_by_its_bytes() -> None:
    a = torch.empty(10_000_000, device="meta")
    expected_ns = 1_000 + 3 * 40_000_000 / 2039e9 * 1e9
    assert Roofline(A100).duration_ns(torch.ops.aten.add.Tensor, (a, a), a) == pytest.approx(expected_ns, abs=1)


def test_a_small_operation_is_all_launch() -> None:
    a = torch.empty(1, device="meta")
    assert Roofline(A100).duration_ns(torch.ops.aten.add.Tensor, (a, a), a) == 1_000


MEGA = 1_000_000


def floats(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


@pytest.mark.parametrize(
    ("run", "mega_floats"),
    [
        (lambda: (aten.add_.Tensor, (floats(MEGA), floats(MEGA)), floats(MEGA)), 3),  # both read, one written
        (lambda: (aten.copy_.default, (floats(MEGA), floats(MEGA)), floats(MEGA)), 2),  # one read, one written
        (lambda: (aten.zero_.default, (floats(MEGA),), floats(MEGA)), 1),
        (lambda: (aten.zeros_like.default, (floats(MEGA),), floats(MEGA)), 1),
        (lambda: (aten._foreach_add_.List, ([floats(MEGA)] * 2, [floats(MEGA)] * 2), None), 6),
        (
            lambda: (aten.mul.Tensor, (floats(1, 1000).expand(1000, 1000), floats(1000, 1000)), floats(1000, 1000)),
            2.001,
        ),
        # 2,000 rows of 500 out of a table of ten million: the rows read and written, and indices of 8 bytes.
        (
            lambda: (
                aten.embedding.default,
                (floats(20_000, 500), torch.empty(2000, device="meta", dtype=torch.int64)),
                floats(2000, 500),
            ),
            2.004,
        ),
        # The input read for its mean and variance, read again, and written.
        (lambda: (aten.native_batch_norm.default, (floats(100, 10, 1000),), (floats(100, 10, 1000),)), 3),
        (lambda: (aten.native_batch_norm_backward.default, (floats(MEGA), floats(MEGA)), (floats(MEGA),)), 5),
    ],
    ids=["add_", "copy_", "zero_", "zeros_like", "foreach", "expanded", "embedding", "batch norm", "its backward"],
)
def test_bytes_are_counted_as_they_are_moved(run: Callable[[], tuple[Any, Any, Any]], mega_floats: float) -> None:
    expected_ns = 1_000 + mega_floats * 4_000_000 / 2039e9 * 1e9
    assert Roofline(A100).duration_ns(*run()) == pytest.approx(expected_ns, abs=1)


def test_attention_counts_its_products_forward_and_backward() -> None:
    batch, heads, length, width = 2, 8, 1024, 64
    product_ns = 2 * batch * heads * length**2 * width / 19.5e12 * 1e9
    qkv = floats(batch, heads, length, width)
    forward = aten._scaled_dot_product_flash_attention_for_cpu.default
    backward = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
    model = Roofline(A100)
    # Queries with keys, and the weights with values; backward the first again, and two products for each.
    took = model.duration_ns(forward, (qkv, qkv, qkv), (qkv, floats(batch, heads, length)))
    assert took == pytest.approx(1_000 + 2 * product_ns, abs=1)
    took = model.duration_ns(backward, (qkv, qkv, qkv, qkv, qkv, floats(batch, heads, length)), (qkv, qkv, qkv))
    assert took == pytest.approx(1_000 + 5 * product_ns, abs=1)


def test_a_convolutions_backward_counts_what_it_computes() -> None:
    x, weight, out = floats(8, 64, 32, 32), floats(128, 64, 3, 3), floats(8, 128, 32, 32)
    forward_ns = 2 * 8 * 128 * 32 * 32 * 64 * 9 / 19.5e12 * 1e9
    args = (out, x, weight, [128], [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    backward, model = aten.convolution_backward.default, Roofline(A100)
    both = model.duration_ns(backward, (*args, [True, True, False]), (x, weight, None))
    assert both == pytest.approx(1_000 + 2 * forward_ns, rel=1e-3)
    # The first layer of a net needs no gradient of its input.
    one = model.duration_ns(backward, (*args, [False, True, False]), (None, weight, None))
    assert one == pytest.approx(1_000 + forward_ns, rel=1e-3)


def test_an_operation_takes_its_modelled_time_on_the_clock() -> None:
    machine = vgpu.enable(devices=1, hardware="a100")
    a = torch.ones(1000, 1000, device="vgpu:0")
    machine.clock.synchronize()
    before = machine.clock.now_ns
    a @ a
    # Issued in 5 us; 2 GFLOP at 19.5 TFLOP/s and 1 us of launch after that.
    assert machine.clock.now_ns - before == 5_000 + 1_000 + round(2e9 / 19.5e12 * 1e9)


def test_the_host_has_a_link_of_its_own() -> None:
    machine = vgpu.enable(devices=2, hardware="h100")
    size = 1_000_000
    assert machine.clock.topology.route(0, 1).link.duration_ns(size) == 5_000 + round(size / 450)
    assert machine.clock.topology.route(-1, 0).link.duration_ns(size) == 5_000 + round(size / 63)


def test_a_link_of_ones_own_leaves_the_hosts_alone() -> None:
    machine = vgpu.enable(devices=2, hardware="h100", link=LinkModel(1.0, 0))
    assert machine.clock.topology.route(0, 1).link.duration_ns(100) == 100
    assert machine.clock.topology.route(-1, 0).link.bytes_per_ns == 63


@pytest.mark.parametrize("name", profiles.names())
def test_profiles_are_complete_and_say_where_they_come_from(name: str) -> None:
    profile = profiles.get(name)
    units = ("_us", "_gb", "_gb_per_s")
    figures = [getattr(profile, field) for field in profile.__dataclass_fields__ if field.endswith(units)]
    assert len(figures) == 7
    assert all(figure > 0 for figure in (*figures, *profile.peak_tflops.values(), profile.speed))
    assert {"float64", "float32", "bfloat16", "float16"} == set(profile.peak_tflops)
    assert len(profile.source) > 40
    assert profile.fictional == ("fictional" in profile.title)
    assert profile.timing == ("measured" if profile.fictional else "modelled")


def test_a_modelled_run_has_the_same_timeline_twice() -> None:
    experiment = lab.Experiment(strategy="model_parallel", hardware="a100", microbatches=4, steps=4)
    lanes = []
    for _ in range(2):
        with lab.start(experiment) as run:
            lanes.append([event for event in run if isinstance(event, Span)])
    assert lanes[0] == lanes[1]
    assert {span.kind for span in lanes[0]} >= {"forward", "backward", "transfer", "optimizer", "wait"}
