"""Figures of profiles of virtual GPUs: bars are the operations, areas the bytes."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest
import torch
from torch import nn

from lab import vgpu, views
from lab.vgpu.recording import Recording
from tests.lab.vgpu.by_hand import HARDWARE, ISSUE_NS, LATENCY_NS, LAUNCH_NS
from widgets import figures
from widgets.figures import _profile

US = 1_000


@pytest.fixture(scope="module")
def copied() -> Recording:
    """A copy of 4 kB to the second device, which doubles it twice."""
    vgpu.enable(devices=2, hardware=HARDWARE)
    x = torch.zeros(1_000, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        y = x.to("vgpu:1")
        with torch.no_grad():
            nn.Threshold(0.5, 0.0)(nn.Threshold(0.5, 0.0)(y))
    return p


def bars(figure: object) -> list[tuple[str, int, float, float]]:
    return sorted(
        (trace.name, lane, round(base, 6), round(width, 6))
        for trace in figure.data  # type: ignore[attr-defined]
        if trace.type == "bar"
        for lane, base, width in zip(trace.y, trace.base, trace.x, strict=True)
    )


def test_bars_are_copies_and_operations_on_the_lanes_of_their_devices(copied: Recording) -> None:
    copy, work, begun = LATENCY_NS + 4_000, LAUNCH_NS + 8_000, ISSUE_NS
    # Neighbours of one layer are one bar.
    assert bars(figures.profile_timeline(copied)) == [
        ("forward", 1, (begun + copy) / US, 2 * work / US),
        ("transfer", 0, begun / US, copy / US),
        ("transfer", 1, begun / US, copy / US),
    ]
    figure = figures.profile_timeline(copied)
    assert [name.strip() for name in figure.layout.yaxis.ticktext] == ["vgpu:0", "vgpu:1"]
    assert "simulated" in figure.layout.title.text
    assert "simulated" in figure.layout.xaxis.title.text
    assert [trace.name for trace in figure.data if trace.type == "scatter"] == ["transfers", "arrives"]


def test_a_window_cuts_what_reaches_out_of_it(copied: Recording) -> None:
    figure = figures.profile_timeline(copied, window_ms=(0.004, 0.012))
    assert bars(figure) == [("forward", 1, 5.0, 3.0), ("transfer", 0, 0.0, 5.0), ("transfer", 1, 0.0, 5.0)]
    assert figure.layout.xaxis.title.text == "time since 4.00 µs into the profile, µs (simulated)"
    empty = figures.profile_timeline(copied, window_ms=(1.0, 2.0))
    assert empty.layout.annotations[0].text == _profile.NOTHING


def test_every_stream_has_a_lane(copied: Recording) -> None:
    vgpu.enable(devices=2, hardware=HARDWARE)
    x = torch.zeros(1_000, device="vgpu:0")
    with vgpu.profile() as p:
        with torch.vgpu.stream(torch.vgpu.Stream()):
            x.to("cpu", non_blocking=True)
        x.mul_(2)
    figure = figures.profile_timeline(p)
    assert [name.strip() for name in figure.layout.yaxis.ticktext] == ["vgpu:0", "vgpu:0 stream 1", "vgpu:1"]
    assert {(name, lane) for name, lane, _, _ in bars(figure)} == {("transfer", 1), ("other", 0)}


def test_many_layers_are_drawn_by_the_part_that_holds_them() -> None:
    vgpu.enable(devices=1, hardware=HARDWARE)
    net = nn.ModuleDict({name: nn.Sequential(*(nn.ReLU() for _ in range(50))) for name in ("first", "second")})

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net["second"](self.net["first"](x))

    with vgpu.profile() as p, torch.no_grad():
        Both()(torch.zeros(1_000, device="vgpu:0"))
    assert len(p.spans) == 101
    names = {row[0] for trace in figures.profile_timeline(p).data for row in trace.customdata}
    assert names == {"other", "net.first", "net.second"}


def test_a_long_profile_stays_a_light_figure() -> None:
    vgpu.enable(devices=2, hardware=HARDWARE)
    x = torch.zeros(10, device="vgpu:0")
    with vgpu.profile() as p:
        for _ in range(1_000):
            x.mul_(2)
            x.to("vgpu:1").mul_(2)
    figure = figures.profile_timeline(p)
    assert sum(len(trace.x) for trace in figure.data) < 2_000
    assert " · the first " in figure.layout.title.text
    assert sum(len(trace.x) for trace in figures.profile_memory(p).data) < 2_000


def test_memory_is_stacked_by_purpose() -> None:
    vgpu.enable(devices=2, hardware=HARDWARE)
    net = nn.Linear(100, 100, bias=False).to("vgpu:0")
    x = torch.ones(10, 100, device="vgpu:0")
    with vgpu.profile() as p:
        net(x).sum().backward()
    figure = figures.profile_memory(p)
    areas = {trace.name: list(trace.y) for trace in figure.data}
    assert set(areas) == {"parameters", "gradients", "optimizer state", "activations", "other"}
    assert set(areas["parameters"]) == {40.0}  # kB
    assert (areas["gradients"][0], areas["gradients"][-1], max(areas["activations"])) == (0, 40.0, 4.004)
    assert {trace.stackgroup for trace in figure.data} == {"vgpu:0"}  # vgpu:1 holds nothing
    last = figure.data[0].x[-1]
    assert last == pytest.approx(p.length_ns / US)
    assert "as the device comes to it" in figure.layout.xaxis.title.text
    assert "simulated" in figure.layout.title.text


def test_memory_is_drawn_over_the_devices_time() -> None:
    vgpu.enable(devices=1, hardware=HARDWARE)
    x = torch.zeros(1_000, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        made = [x]
        for _ in range(20):
            made.append(made[-1] * 2)
        torch.vgpu.synchronize()
    (other,) = (trace for trace in figures.profile_memory(p).data if trace.name == "other")
    starts = [span.start_ns / US for span in p.spans]
    assert p.host_ns > 4 * max(span.issued_ns for span in p.spans)  # The host had issued all in a quarter of the time.
    assert list(other.x[1:-1]) == pytest.approx(starts)
    assert list(other.y[1:-1]) == pytest.approx([4.0 * (count + 2) for count in range(20)])


@pytest.mark.parametrize("draw", [figures.profile_timeline, figures.profile_memory])
def test_nothing_to_see_is_said(draw: object) -> None:
    vgpu.enable(devices=1, hardware=HARDWARE)
    with vgpu.profile() as p:
        pass
    assert draw(p).layout.annotations[0].text == _profile.NOTHING  # type: ignore[operator]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_profile_draws_itself(copied: Recording, theme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = EntryPoints(
        EntryPoint(name, f"widgets.figures:{name}", views.GROUP) for name in ("profile_timeline", "profile_memory")
    )
    monkeypatch.setattr(views, "entry_points", lambda **wanted: offered.select(**wanted))
    assert copied.timeline(theme=theme) == figures.profile_timeline(copied, theme)
    assert copied.memory_figure(theme=theme) == figures.profile_memory(copied, theme)
