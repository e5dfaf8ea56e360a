"""Calibration: what it writes can be used, and its figures follow from the times it measured."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from lab import cli, vgpu
from lab.errors import DeviceError
from lab.vgpu import calibration, profiles
from lab.vgpu.profiles import Profile


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    path = tmp_path_factory.mktemp("calibrated") / "mine.toml"
    return vgpu.calibrate("cpu", path), path


def test_the_file_holds_the_profile_and_can_be_enabled(written: tuple[Profile, Path]) -> None:
    profile, path = written
    assert profiles.find(path) == profile
    assert profile.name == "mine"
    assert "one thread" in profile.title
    machine = vgpu.enable(1, hardware=path)
    assert machine.model is not None
    a = torch.ones(1000, 1000, device="vgpu:0")
    machine.clock.synchronize()
    began = machine.clock.now_ns
    a @ a
    expected_ns = 1e3 * (profile.issue_us + profile.launch_us) + 2e9 / (profile.peak_tflops["float32"] * 1e3)
    assert machine.clock.now_ns - began == pytest.approx(expected_ns, abs=2)


def test_rates_are_those_of_a_processor_and_agree_with_a_product_timed_directly(written: tuple[Profile, Path]) -> None:
    profile, _ = written
    assert set(profile.peak_tflops) == {"float64", "float32", "bfloat16", "float16"}
    assert all(1e-5 < peak < 10 for peak in profile.peak_tflops.values())
    assert 0.5 < profile.memory_gb_per_s < 2000
    assert 0.1 < profile.host_link_gb_per_s < 2000
    assert 0 < profile.issue_us < profile.launch_us < 1000
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a = torch.rand(512, 512)
    took = []
    for _ in range(9):
        began = time.thread_time_ns()
        a @ a
        took.append(time.thread_time_ns() - began)
    torch.set_num_threads(threads)
    assert profile.peak_tflops["float32"] == pytest.approx(2 * 512**3 / statistics.median(took[1:]) / 1e3, rel=4)


class _ByTheBook:
    """A device of 8 TFLOP/s (products of 64), 100 GB/s, and a host link of 10 GB/s after 2 us."""

    device = torch.device("cpu")
    sizes = (32, 64)
    large = 1_000_000
    peer: float | None = None

    def __init__(self) -> None:
        self._times = iter([12e6 / 100, *[2 * 32**3 / 4e3, 2 * 64**3 / 8e3] * 4])

    def title(self) -> str:
        return "By the book"

    def memory_bytes(self) -> int:
        return 5 * 10**9

    def generation(self) -> tuple[tuple[int, int], int]:
        return (9, 0), 3

    def median_ns(self, work: Callable[[], object]) -> float:
        work()
        return next(self._times)

    def launch_ns(self) -> float:
        return 3000.0

    def issue_ns(self) -> float:
        return 500.0

    def host_copy_ns(self, elements: int) -> float:
        return 2000.0 + (0 if elements == 1 else elements * 4 / 10)

    def peer_copy_ns(self, elements: int) -> float | None:
        return self.peer


@pytest.mark.parametrize(("peer", "link"), [(None, 10.0), (2000.0 + 4e6 / 40, 40.0)])
def test_figures_follow_from_times(peer: float | None, link: float) -> None:
    bench: Any = _ByTheBook()
    bench.peer = peer
    profile = calibration._measured(bench, "book")
    assert profile.peak_tflops == dict.fromkeys(("float64", "float32", "bfloat16", "float16"), 8.0)
    assert (profile.memory_gb, profile.memory_gb_per_s) == (5.0, 100.0)
    assert (profile.launch_us, profile.issue_us, profile.link_latency_us) == (3.0, 0.5, 2.0)
    assert (profile.host_link_gb_per_s, profile.link_gb_per_s) == (10.0, link)
    assert (profile.compute_capability, profile.multiprocessors) == ((9, 0), 3)


def test_a_size_that_would_take_too_long_is_left_out() -> None:
    bench: Any = _ByTheBook()
    bench.sizes = (32, 64, 4096)
    bench._times = iter([2 * 32**3 / 2e-2, 2 * 64**3 / 4e-2])  # 40 MFLOP/s: the largest would take an hour
    assert calibration._peak_tflops(bench, torch.float32) == pytest.approx(4e-5)


def test_the_number_of_threads_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = []
        monkeypatch.setattr(calibration, "_measured", lambda bench, name: seen.append(torch.get_num_threads()))
        vgpu.calibrate()
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("device", "path", "said"),
    [
        ("vgpu:0", None, "'vgpu:0' cannot be measured; give cpu or a real GPU"),
        ("meta", None, "'meta' cannot be measured"),
        ("gpu", None, "'gpu' is not a device; give cpu or cuda:0"),
        (3.5, None, "3.5 is not a device"),
        ("cuda:99", None, "'cuda:99' is not on this machine"),
        ("cpu", "mine.json", r"'mine.json' does not end in \.toml"),
        ("cpu", "no/such/folder/mine.toml", "there is no folder 'no/such/folder' to write mine.toml to"),
    ],
)
def test_what_cannot_be_measured_or_written(device: Any, path: str | None, said: str) -> None:
    vgpu.enable(1)
    with pytest.raises(DeviceError, match=said):
        vgpu.calibrate(device, path)


def test_the_command_measures_and_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def measured(bench: object, name: str) -> Profile:
        return dataclasses.replace(profiles.get("t4"), name=name, title="This one")

    monkeypatch.setattr(calibration, "_measured", measured)
    path = tmp_path / "mine.toml"
    done = CliRunner().invoke(cli.app, ["calibrate", "--output", str(path)])
    assert done.exit_code == 0, done.output
    for said in ("This one", "8.1 TFLOP/s", "320 GB/s", f"--hardware {path}"):
        assert said in done.stdout
    assert profiles.find(path).title == "This one"
    refused = CliRunner().invoke(cli.app, ["calibrate", "--device", "tpu", "--output", str(path)])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "is not a device" in refused.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_gpu(tmp_path: Path) -> None:
    profile = vgpu.calibrate("cuda:0", tmp_path / "gpu.toml")
    assert profiles.find(tmp_path / "gpu.toml") == profile
    assert profile.peak_tflops["float16"] > profile.peak_tflops["float32"] > 0.1
    assert 10 < profile.memory_gb_per_s < 20_000
    assert profile.launch_us < profile.issue_us < 100
