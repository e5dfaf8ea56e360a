"""What a figure's traces cover along an axis, and how stacked ones stand on each other."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

Trace = dict[str, Any]


def along(traces: list[Trace], axis: str, layout: dict[str, Any]) -> tuple[list[float | None], bool]:
    """All values that an axis `x`, `y2` … must show, and whether it has room beyond them."""
    values: list[float | None] = []
    padded = False
    which = axis[0]
    for trace, (low, high) in zip(traces, reach(traces, layout), strict=True):
        if trace.get(f"{which}axis", which) != axis:
            continue
        if which == ("x" if trace.get("orientation") == "h" else "y") and low:
            values += [*low, *high]
        elif trace["type"] == "bar":
            half = (trace.get("width") or 0.8) / 2
            values += [value + sign * half for value in trace[which] for sign in (-1, 1)]
        else:
            values += list(trace[which])
        padded = padded or (trace["type"] == "scatter" and "markers" in trace.get("mode", ""))
    return values, padded


def reach(traces: list[Trace], layout: dict[str, Any]) -> list[tuple[list[float], list[float]]]:
    """For each trace from where to where its bars, or its area, go; empty for others."""
    stacked = layout.get("barmode") == "stack"
    heights: dict[Any, float] = defaultdict(float)
    found = []
    for trace in traces:
        if trace["type"] == "bar":
            level = trace.get("orientation") == "h"
            lengths, places = (trace["x"], trace["y"]) if level else (trace["y"], trace["x"])
            base = list(trace.get("base") or [0.0] * len(lengths))
            if stacked and "base" not in trace:
                keys = [(trace.get("xaxis"), trace.get("yaxis"), place) for place in places]
                base = [heights[key] for key in keys]
                for key, length in zip(keys, lengths, strict=True):
                    heights[key] += length or 0.0
            found.append((base, [start + (length or 0.0) for start, length in zip(base, lengths, strict=True)]))
        elif trace.get("stackgroup"):
            group = (trace["stackgroup"], trace.get("yaxis"))
            keys = [(group, index) for index in range(len(trace["y"]))]
            base = [heights[key] for key in keys]
            for key, value in zip(keys, trace["y"], strict=True):
                heights[key] += value or 0.0
            found.append((base, [heights[key] for key in keys]))
        else:
            found.append(([], []))
    return found
