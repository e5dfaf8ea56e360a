"""Figures of your own numbers and of profiles, drawn by hand and compared with what went in."""

from __future__ import annotations

import json
import math

import pytest

torch = pytest.importorskip("torch")

from lab import vgpu  # noqa: E402
from widgets.notebook import Curves, ProfileMemory, ProfileTimeline  # noqa: E402


def drawn(widget: Curves | ProfileTimeline | ProfileMemory) -> dict:
    return json.loads(widget.figure)


def test_every_line_is_drawn_with_its_own_values() -> None:
    curves = Curves("Step time", [1, 2, 4], {"measured": [9.0, 6.0, 5.0], "ideal": [9.0, math.nan, 3.0]}, "parts", "ms")

    measured, ideal = drawn(curves)["data"]
    assert (measured["name"], measured["x"], measured["y"]) == ("measured", [1, 2, 4], [9.0, 6.0, 5.0])
    assert ideal["y"] == [9.0, None, 3.0], "what is not known is a gap"
    looks = [(line["line"]["dash"], line["marker"]["symbol"]) for line in (measured, ideal)]
    assert looks[0] != looks[1], "told apart without colour"


def test_the_theme_of_the_notebook_changes_the_colours_and_the_table_opens() -> None:
    curves = Curves("Loss", [1, 2], {"a": [0.5, 0.25]}, "step")
    light = drawn(curves)["data"][0]["line"]["color"]

    curves.theme, curves.numbers = "dark", True

    assert drawn(curves)["data"][0]["line"]["color"] != light
    assert drawn(curves)["table"] == {"columns": ["step", "a"], "rows": [["1", "0.5000"], ["2", "0.2500"]], "note": ""}


def test_a_line_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="'b' has 1 points, but x has 2"):
        Curves("Loss", [1, 2], {"a": [1, 2], "b": [1]})


def test_where_a_notebook_is_only_read_the_numbers_stand() -> None:
    page = Curves("Loss <1>", [1], {"a": [0.5]}, "step")._repr_mimebundle_()[0]["text/html"]

    assert "<caption>Loss &lt;1&gt;</caption>" in page
    assert "<td>0.5000</td>" in page


def test_a_profile_is_drawn_with_its_memory_and_its_table() -> None:
    vgpu.enable(devices=2, hardware="classroom", timing="modelled")
    with vgpu.profile() as profile:
        x = torch.zeros(250_000, device="vgpu:0")  # 1 MB
        y = x.to("vgpu:1")
        torch.vgpu.synchronize("vgpu:1")
    del x, y

    timeline, memory = ProfileTimeline(profile), ProfileMemory(profile)

    assert any(bar["type"] == "bar" for bar in drawn(timeline)["data"])
    assert {area["name"] for area in drawn(memory)["data"]} >= {"other"}
    timeline.numbers = True
    rows = drawn(timeline)["table"]["rows"]
    assert [row[0] for row in rows] == ["vgpu:0", "vgpu:1"]
    assert rows[0][5] == "1.0 MB"
    assert rows[1][2] == "1.02 ms", "20 µs and 1 MB at 1 GB/s"
