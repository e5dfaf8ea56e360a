"""Elements of an SVG: text with its few tags, hatches, dashes, marker symbols."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from typing import Any

_TAG = re.compile(r"<(/?)(b|i|span)([^>]*)>")
_STYLE = re.compile(r"(font-size|color):\s*([^;\"']+)")
_BREAK = re.compile(r"<br\s*/?>")
_NARROW, _WIDE = set("iljtfrI.,:;|!'()[] ·"), set("mwMW@%—θ∇→⇄≈")
LINE = 1.3
"""Height of a line of text, in font sizes."""
DASHES = {
    "dash": "9,5",
    "dot": "2,4",
    "dashdot": "9,4,2,4",
    "longdash": "14,6",
    "longdashdot": "14,5,2,5",
}


def element(name: str, inside: str = "", **attributes: Any) -> str:
    """`element("rect", x=1, stroke_width=2)`; what is None is left out."""
    written = "".join(
        f' {key.replace("_", "-")}="{html.escape(_short(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>"


def _short(value: Any) -> str:
    return f"{round(value, 2):.10g}" if isinstance(value, (int, float)) else str(value)


def lines_of(source: str) -> list[str]:
    return _BREAK.split(source)


def width_of(source: str, size: float) -> float:
    """About how wide the text is, in pixels: no font is at hand to measure it."""
    return max((_width(html.unescape(_TAG.sub("", line))) * size for line in lines_of(source)), default=0.0)


def _width(line: str) -> float:
    return sum(
        0.31 if char in _NARROW else 0.92 if char in _WIDE or ord(char) > 0x2E80 else 0.66 if char.isupper() else 0.56
        for char in line
    )


def text(
    source: str,
    x: float,
    y: float,
    font: Mapping[str, Any],
    *,
    anchor: str = "start",
    weight: int | None = None,
    angle: float = 0,
) -> str:
    """Text with the tags that labels of figures have; `y` is the first line's base line."""
    size = font.get("size", 12)
    runs = []
    for number, line in enumerate(lines_of(source)):
        place = {"x": x, "dy": size * LINE} if number else {}
        runs.append(element("tspan", _tagged(line), **place) if place else _tagged(line))
    turned = f"rotate({_short(angle)} {_short(x)} {_short(y)})" if angle else None
    return element(
        "text",
        "".join(runs),
        x=x,
        y=y,
        fill=font.get("color"),
        font_size=size,
        text_anchor=anchor,
        font_weight=weight,
        transform=turned,
        xml__space=None,
    )


def _tagged(line: str) -> str:
    """Bold, italic and coloured parts as tspans; everything else as it is."""
    out, at, opened = [], 0, 0
    for tag in _TAG.finditer(line):
        out.append(html.escape(html.unescape(line[at : tag.start()]), quote=False))
        at = tag.end()
        closes, name, rest = tag.groups()
        if closes:
            if opened:
                out.append("</tspan>")
                opened -= 1
            continue
        style = {"b": {"font_weight": 700}, "i": {"font_style": "italic"}}.get(name, {})
        style |= {("fill" if key == "color" else "font_size"): value.strip() for key, value in _STYLE.findall(rest)}
        out.append(element("tspan", "\0", **style).partition("\0")[0])
        opened += 1
    out.append(html.escape(html.unescape(line[at:]), quote=False))
    return "".join(out) + "</tspan>" * opened


class Hatches:
    """The patterns that a picture needs, each defined once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], str] = {}

    def fill(self, color: str, pattern: Mapping[str, Any] | None, shape: str | None = None) -> str:
        """What `fill` is: the colour, or a pattern over it."""
        shape = shape if shape is not None else str((pattern or {}).get("shape") or "")
        if not pattern or not shape:
            return color
        key = (color, shape, str(pattern.get("fgcolor", "#ffffff80")))
        # Ids are the document's where an SVG stands in a page: the same pattern has the same one everywhere.
        name = self._known.setdefault(key, "h" + re.sub(r"\W", "", "".join(map(str, map(ord, shape))) + color + key[2]))
        return f"url(#{name})"

    def defined(self) -> str:
        return "".join(_pattern(name, *key) for key, name in self._known.items())


def _pattern(name: str, color: str, shape: str, foreground: str) -> str:
    lines = {
        "/": "M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2",
        "\\": "M-1,5 l2,2 M0,0 l6,6 M5,-1 l2,2",
        "x": "M0,0 l6,6 M0,6 l6,-6",
        "-": "M0,3 h6",
        "|": "M3,0 v6",
        "+": "M0,3 h6 M3,0 v6",
    }
    ground = element("rect", width=6, height=6, fill=color)
    if shape in lines:
        sign = element("path", d=lines[shape], stroke=foreground, stroke_width=1, fill="none")
    else:
        sign = element("circle", cx=3, cy=3, r=1.2, fill=foreground)
    return element("pattern", ground + sign, id=name, width=6, height=6, patternUnits="userSpaceOnUse")


def dashed(dash: str | None) -> str | None:
    """Plotly's name of a dash, or its `8px,3px`, as SVG writes it."""
    return DASHES.get(dash or "", None if dash in (None, "", "solid") else str(dash).replace("px", ""))


def symbol(name: str, x: float, y: float, size: float, **look: Any) -> str:
    """A marker; sizes are diameters."""
    r = size / 2
    turns = {
        "diamond": (4, 0.0, 1.15),
        "square": (4, 45.0, 1.25),
        "triangle-up": (3, 0.0, 1.25),
        "triangle-down": (3, 180.0, 1.25),
        "hexagon": (6, 0.0, 1.1),
    }
    if name in turns:
        corners, first, far = turns[name]
        angles = [math.radians(first + 360 * each / corners) for each in range(corners)]
        points = " ".join(f"{x + far * r * math.sin(a):.1f},{y - far * r * math.cos(a):.1f}" for a in angles)
        return element("polygon", points=points, **look)
    if name in ("cross", "x"):
        turned = f"rotate(45 {x:.1f} {y:.1f})" if name == "x" else None
        thin = r / 2.4
        bars = (
            f"M{x - r:.1f},{y - thin:.1f} h{2 * r:.1f} v{2 * thin:.1f} h{-2 * r:.1f} z "
            f"M{x - thin:.1f},{y - r:.1f} h{2 * thin:.1f} v{2 * r:.1f} h{-2 * thin:.1f} z"
        )
        return element("path", d=bars, transform=turned, **look)
    if name == "star":
        angles = [(math.radians(36 * each), 1.2 if each % 2 == 0 else 0.5) for each in range(10)]
        points = " ".join(f"{x + f * r * math.sin(a):.1f},{y - f * r * math.cos(a):.1f}" for a, f in angles)
        return element("polygon", points=points, **look)
    return element("circle", cx=x, cy=y, r=r, **look)
