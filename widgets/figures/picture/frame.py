"""Where everything stands: the axes' boxes, what surrounds them, and the legend."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from widgets.figures._theme import Spec
from widgets.figures.picture.extent import along
from widgets.figures.picture.scale import Scale
from widgets.figures.picture.svg import LINE, Hatches, dashed, element, lines_of, symbol, text, width_of

_AXIS = re.compile(r"([xy])axis(\d*)")
TITLE_ROOM = 34
TICK = 4
GAP = 6
LEGEND_ROW = 20


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in pixels."""

    left: float
    top: float
    width: float
    height: float

    def wider(self, by: float) -> dict[str, float]:
        """An SVG rectangle that is taller by so much at both ends: lines at the edge keep their whole width."""
        return {"x": self.left, "y": self.top - by, "width": self.width, "height": self.height + 2 * by}


class Frame:
    """The axes of a figure, and where a value of them is on the picture."""

    def __init__(self, figure: Spec, width: int) -> None:
        self.data: list[dict[str, Any]] = figure["data"]
        self.layout: dict[str, Any] = figure["layout"]
        self.width = width
        axes = {f"{m[1]}{m[2]}": axis for key, axis in self.layout.items() if (m := _AXIS.fullmatch(key))}
        self.scales = {name: Scale(axis, *along(self.data, name, self.layout)) for name, axis in axes.items()}
        self._items = self._legend_items()
        self._rows = self._legend_rows()
        self.height = float(self.layout.get("height") or 300)
        self.left_edge, self._area = self._inner()
        self.boxes = {
            f"c{x}{y}": Box(left, top, right - left, bottom - top)
            for x, y in self._pairs()
            for left, right in [self._ends(x)]
            for bottom, top in [self._ends(y)]
        }

    # -- places --------------------------------------------------------------------------------------------------------

    def x(self, value: float, axis: str = "x") -> float:
        left, right = self._ends(axis)
        return left + self.scales[axis].share(value) * (right - left)

    def y(self, value: float, axis: str = "y") -> float:
        bottom, top = self._ends(axis)
        return bottom + self.scales[axis].share(value) * (top - bottom)

    def paper(self, x: float, y: float) -> tuple[float, float]:
        return self._area.left + x * self._area.width, self._area.top + (1 - y) * self._area.height

    def clip(self, trace: dict[str, Any]) -> str:
        return f"url(#c{trace.get('xaxis', 'x')}{trace.get('yaxis', 'y')})"

    def _ends(self, axis: str) -> tuple[float, float]:
        low, high = self._domain(axis)
        if axis.startswith("x"):
            return self.paper(low, 0)[0], self.paper(high, 0)[0]
        return self.paper(0, low)[1], self.paper(0, high)[1]

    def _domain(self, axis: str) -> tuple[float, float]:
        own = self.scales[axis].axis.get("domain")
        grid = self.layout.get("grid")
        if own or not grid or axis.startswith("x"):
            low, high = own or (0.0, 1.0)
            return float(low), float(high)
        step = 1 / (grid["rows"] - grid.get("ygap", 0.1))
        top = 1 - step * (int(axis[1:] or 1) - 1)
        return top - step * (1 - grid.get("ygap", 0.1)), top

    def _pairs(self) -> list[tuple[str, str]]:
        found = [(trace.get("xaxis", "x"), trace.get("yaxis", "y")) for trace in self.data]
        return list(dict.fromkeys([*found, ("x", "y")]))

    def _visible(self, axis: str) -> bool:
        return self.scales[axis].axis.get("visible", True) is not False

    def _inner(self) -> tuple[float, Box]:
        """The plotting area: what the margins and the words around the axes leave."""
        margin = {"l": 8, "r": 8, "t": 36, "b": 8, **(self.layout.get("margin") or {})}
        left = right = bottom = top = 0.0
        for name, scale in self.scales.items():
            if not self._visible(name):
                continue
            size = (scale.axis.get("tickfont") or {}).get("size", 11)
            titled = 16 if (scale.axis.get("title") or {}).get("text") else 0
            shown = scale.axis.get("showticklabels", True)
            if name.startswith("y"):
                room = max((width_of(said, size) for _, said in scale.ticks()), default=0.0) if shown else 0.0
                if self._side_domain(scale) == 0:
                    left = max(left, room + GAP + titled)
            else:
                rows = max((len(lines_of(said)) for _, said in scale.ticks()), default=1) if shown else 0
                room = rows * size * LINE + TICK + titled
                if scale.axis.get("side") == "top":
                    top = max(top, room)
                else:
                    bottom = max(bottom, room)
                    last = max((width_of(said, size) for _, said in scale.ticks()[-1:]), default=0.0)
                    right = max(right, last / 2 - 4)
        legend = len(self._rows) * LEGEND_ROW + (GAP if self._rows else 0)
        above = max(margin["t"], TITLE_ROOM) + top
        box = Box(
            margin["l"] + left,
            above,
            self.width - margin["l"] - left - max(margin["r"], right),
            max(40.0, self.height - above - max(margin["b"], 8) - bottom - legend),
        )
        return float(margin["l"]), box

    def _side_domain(self, scale: Scale) -> float:
        anchor = str(scale.axis.get("anchor") or "x")
        other = self.scales.get(anchor)
        return float((other.axis.get("domain") or (0, 1))[0]) if other else 0.0

    # -- what is drawn of it ------------------------------------------------------------------------------------------

    def grid(self) -> str:
        lines = []
        for x, y in self._pairs():
            box = self.boxes[f"c{x}{y}"]
            look = {"stroke_width": 1}
            for name in (x, y):
                axis = self.scales[name].axis
                if not self._visible(name) or axis.get("showgrid") is False:
                    continue
                for value, _ in self.scales[name].ticks():
                    at = self.x(value, name) if name.startswith("x") else self.y(value, name)
                    ends = (
                        {"x1": at, "x2": at, "y1": box.top, "y2": box.top + box.height}
                        if name.startswith("x")
                        else {"x1": box.left, "x2": box.left + box.width, "y1": at, "y2": at}
                    )
                    lines.append(element("line", stroke=axis.get("gridcolor"), **ends, **look))
        return "".join(lines)

    def axes(self) -> str:
        drawn = []
        for name, scale in self.scales.items():
            if self._visible(name):
                drawn += self._upright(name, scale) if name.startswith("y") else self._level(name, scale)
        return "".join(drawn)

    def _upright(self, name: str, scale: Scale) -> list[str]:
        anchor = str(scale.axis.get("anchor") or "x")
        left = self._ends(anchor if anchor in self.scales else "x")[0]
        font = scale.axis.get("tickfont") or {}
        drawn, widest = [], 0.0
        if scale.axis.get("showticklabels", True):
            for value, said in scale.ticks():
                rise = (len(lines_of(said)) - 1) * font.get("size", 11) * LINE / 2
                at = self.y(value, name) + font.get("size", 11) * 0.36 - rise
                drawn.append(text(said.rstrip(), left - GAP, at, font, anchor="end"))
                widest = max(widest, width_of(said, font.get("size", 11)))
        title = scale.axis.get("title") or {}
        if title.get("text"):
            bottom, top = self._ends(name)
            x, y = left - GAP - widest - 8, (bottom + top) / 2
            drawn.append(text(title["text"], x, y, title.get("font", {}), anchor="middle", angle=-90))
        return drawn

    def _level(self, name: str, scale: Scale) -> list[str]:
        anchor = str(scale.axis.get("anchor") or "y")
        on_top = scale.axis.get("side") == "top"
        low, high = self._ends(anchor if anchor in self.scales else "y")
        if not scale.axis.get("anchor") and not on_top:
            low = max(self._ends(y)[0] for x, y in self._pairs() if x == name) if self.data else low
        font = scale.axis.get("tickfont") or {}
        size = font.get("size", 11)
        drawn, rows = [], 0
        if scale.axis.get("showticklabels", True):
            for value, said in scale.ticks():
                lines = len(lines_of(said))
                rows = max(rows, lines)
                at = high - TICK - 3 - (lines - 1) * size * LINE if on_top else low + TICK + size
                x, half = self.x(value, name), width_of(said, size) / 2
                x = max(half + 1, min(self.width - half - 1, x))
                drawn.append(text(said, x, at, font, anchor="middle"))
        if scale.axis.get("ticks") == "outside":
            look = {"stroke": scale.axis.get("tickcolor"), "stroke_width": 1}
            places = [self.x(value, name) for value, _ in scale.ticks()]
            drawn += [element("line", x1=x, x2=x, y1=low, y2=low + TICK, **look) for x in places]
        title = scale.axis.get("title") or {}
        if title.get("text"):
            left, right = self._ends(name)
            beyond = TICK + rows * size * LINE
            at = high - beyond - 6 if on_top else low + beyond + 12
            drawn.append(text(title["text"], (left + right) / 2, at, title.get("font", {}), anchor="middle"))
        return drawn

    # -- the legend --------------------------------------------------------------------------------------------------

    def _legend_items(self) -> list[dict[str, Any]]:
        if not self.layout.get("showlegend"):
            return []
        items = {}
        for trace in self.data:
            if trace.get("showlegend", True) and trace.get("name"):
                items.setdefault(trace.get("legendgroup") or (trace["name"], len(items)), trace)
        return list(items.values())

    def _legend_rows(self) -> list[list[tuple[float, dict[str, Any]]]]:
        rows: list[list[tuple[float, dict[str, Any]]]] = []
        at, size = 0.0, (self.layout.get("legend", {}).get("font") or {}).get("size", 11)
        for item in self._items:
            wide = 34 + width_of(item["name"], size) + 14
            if not rows or at + wide > self.width - 16:
                rows.append([])
                at = 0.0
            rows[-1].append((at, item))
            at += wide
        return rows

    def legend(self, hatches: Hatches) -> str:
        font = self.layout.get("legend", {}).get("font") or {}
        drawn = []
        for number, row in enumerate(self._rows):
            y = self.height - LEGEND_ROW * (len(self._rows) - number) + 8
            for at, item in row:
                x = self.left_edge + at
                drawn += [_sign(item, x, y, hatches), text(item["name"], x + 34, y + 4, font)]
        return "".join(drawn)


def _sign(trace: dict[str, Any], x: float, y: float, hatches: Hatches) -> str:
    """What stands for the trace in the legend."""
    marker, line = trace.get("marker") or {}, trace.get("line") or {}
    if trace["type"] == "bar" or trace.get("stackgroup"):
        pattern = marker.get("pattern") or trace.get("fillpattern")
        color = trace.get("fillcolor") or marker.get("color")
        color = color if isinstance(color, str) else "#888888"
        shape = (pattern or {}).get("shape")
        fill = hatches.fill(color, pattern) if isinstance(shape, str) else color
        return element("rect", x=x + 8, y=y - 6, width=18, height=12, rx=2, fill=fill)
    drawn = ""
    if "lines" in trace.get("mode", "lines"):
        look = {"stroke": line.get("color"), "stroke_width": min(4, line.get("width", 2))}
        drawn = element("line", x1=x, x2=x + 28, y1=y, y2=y, stroke_dasharray=dashed(line.get("dash")), **look)
    if "markers" in trace.get("mode", ""):
        edge = marker.get("line") or {}
        look = {"fill": marker.get("color"), "stroke": edge.get("color"), "stroke_width": edge.get("width")}
        opacity = marker.get("opacity")
        if opacity != 0:
            look["fill_opacity"] = opacity
            drawn += symbol(marker.get("symbol", "circle"), x + 14, y, min(9, max(6, marker.get("size", 6))), **look)
    return element("g", drawn, opacity=trace.get("opacity")) if drawn else ""
