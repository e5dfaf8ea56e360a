"""Figures painted without a browser: what is drawn is where it should be, and all of it."""

from __future__ import annotations

import json
import math
from typing import Any
from xml.etree import ElementTree

import pytest

from lab.state import RunState
from tests.widgets import events_factory as factory
from widgets import figures, plain
from widgets.figures import CurveSet, picture
from widgets.figures.picture.scale import Scale
from widgets.figures.picture.svg import width_of

SVG = "{http://www.w3.org/2000/svg}"
STATE = factory.folded(factory.events(steps=20))


def painted(spec: dict[str, Any], width: int = 760) -> ElementTree.Element:
    return ElementTree.fromstring(picture.svg(json.loads(json.dumps(plain.finite(spec))), width))


def words(drawn: ElementTree.Element) -> list[str]:
    return ["".join(each.itertext()) for each in drawn.iter(f"{SVG}text")]


def bars(*lengths: float, **layout: Any) -> dict[str, Any]:
    """Horizontal bars one below the other."""
    places = list(range(len(lengths)))
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": list(lengths),
        "y": places,
        "name": "a",
        "marker": {"color": "#123456"},
    }
    base = {"title": {"text": "Bars"}, "height": 300, "xaxis": {"range": [0, 10]}, "yaxis": {"range": [2.5, -0.5]}}
    return {"data": [trace], "layout": {**base, **layout}}


def rects(drawn: ElementTree.Element, fill: str) -> list[dict[str, float]]:
    found = [each.attrib for each in drawn.iter(f"{SVG}rect") if each.get("fill") == fill]
    return [{key: float(each[key]) for key in ("x", "y", "width", "height")} for each in found]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", figures.FIGURES)
@pytest.mark.parametrize("state", [STATE, RunState()], ids=["a run", "nothing yet"])
def test_every_figure_can_be_painted(state: RunState, name: str, theme: figures.Theme) -> None:
    spec = figures.spec(state, name, theme)
    drawn = painted(spec)
    said = words(drawn)
    assert spec["layout"]["title"]["text"] in said
    shown = [t for t in spec["data"] if t.get("showlegend", True) and spec["layout"]["showlegend"] and t.get("name")]
    assert {trace["name"] for trace in shown} <= set(said)
    numbers = [float(value) for each in drawn.iter() for key, value in each.items() if key in ("x", "y", "width")]
    assert all(map(math.isfinite, numbers))


@pytest.mark.parametrize("width", [420, 760, 1200])
@pytest.mark.parametrize("name", figures.FIGURES)
def test_no_word_leaves_the_picture(name: str, width: int) -> None:
    drawn = painted(figures.spec(STATE, name), width)
    for each in drawn.iter(f"{SVG}text"):
        if each.get("transform"):
            continue
        wide = width_of("".join(each.itertext()), float(each.attrib["font-size"]))
        x = float(each.attrib["x"])
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[each.get("text-anchor", "start")]
        # Titles, which Plotly lets leave it as well, are as long as they are.
        if float(each.attrib["y"]) > 25:
            assert left >= -6, "".join(each.itertext())
            assert left + wide <= width + 20, "".join(each.itertext())


def test_bars_are_as_long_as_their_numbers() -> None:
    first, second, third = rects(painted(bars(2, 4, 10)), "#123456")
    assert second["width"] == pytest.approx(2 * first["width"], abs=0.05)
    assert third["width"] == pytest.approx(5 * first["width"], abs=0.05)
    assert first["x"] == second["x"] == third["x"]
    assert first["y"] < second["y"] < third["y"]
    assert second["y"] - first["y"] == pytest.approx(third["y"] - second["y"], abs=0.05)


def test_stacked_bars_stand_one_behind_the_other() -> None:
    spec = bars(2, 4, barmode="stack")
    spec["data"].append({**spec["data"][0], "x": [3, 1], "marker": {"color": "#654321"}})
    drawn = painted(spec)
    below, above = rects(drawn, "#123456"), rects(drawn, "#654321")
    for one, other in zip(below, above, strict=True):
        assert other["x"] == pytest.approx(one["x"] + one["width"], abs=0.05)
    assert above[0]["width"] == pytest.approx(1.5 * below[0]["width"], abs=0.05)


def test_a_curve_goes_through_its_points_and_leaves_gaps() -> None:
    drawn = painted(figures.curves_spec(CurveSet("C", [0, 1, 2, 3], {"a": [0.0, 1.0, math.nan, 4.0]}), "light"))
    marks = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in drawn.iter(f"{SVG}circle")]
    (x0, y0), (x1, y1), (x3, y3) = marks
    assert x1 - x0 == pytest.approx((x3 - x0) / 3, abs=0.05)
    assert y0 - y1 == pytest.approx((y0 - y3) / 4, abs=0.05)
    (path,) = [each.attrib["d"] for each in drawn.iter(f"{SVG}path")]
    assert path.count("M") == 2


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    scale = Scale({"type": "log"}, [1, 10, 1000], padded=False)
    assert [scale.share(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [text for _, text in scale.ticks()] == ["1", "10", "100", "1,000"]
    assert math.isnan(scale.share(0))


@pytest.mark.parametrize(
    ("axis", "values", "expected"),
    [
        ({"nticks": 5}, [0, 10], ["0", "2", "4", "6", "8", "10"]),
        ({"tickvals": [0, 0.5, 1], "tickformat": ".0%", "range": [0, 1]}, [], ["0%", "50%", "100%"]),
        ({"range": [2.5, -0.5], "tickvals": [0, 1, 9], "ticktext": ["a", "b", "c"]}, [], ["a", "b"]),
        ({"tickformat": ",d", "nticks": 6}, [0, 2], ["0", "1", "2"]),
        ({"ticksuffix": " MB", "nticks": 2}, [0, 2000], ["0 MB", "1,000 MB", "2,000 MB"]),
    ],
)
def test_ticks_are_round_and_within(axis: dict[str, Any], values: list[float], expected: list[str]) -> None:
    assert [text for _, text in Scale(axis, values, padded=False).ticks()] == expected


def test_names_are_no_markup() -> None:
    spec = bars(5, title={"text": "<b>a</b> < b & <script>c</script>"})
    drawn = painted(spec)
    assert "a < b & <script>c</script>" in words(drawn)
    assert [each.tag for each in drawn.iter() if "script" in each.tag] == []


def test_an_address_holds_the_picture() -> None:
    import base64

    document = picture.svg(bars(1))
    kind, _, code = picture.data_address(document).partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(code).decode() == document
