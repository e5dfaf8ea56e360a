"""One axis: what it shows from where to where, and its ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PADDING = 0.05
"""Of the range, beyond points at its ends."""


class Scale:
    """Values of one axis to shares 0 … 1 of its length.

    Args:
        axis: as the layout has it.
        values: all that is drawn along it; needed where the axis has no range of its own.
        padded: whether there is room beyond the values.
    """

    def __init__(self, axis: Mapping[str, Any], values: Iterable[float | None], padded: bool) -> None:
        self.axis = axis
        self.log = axis.get("type") == "log"
        self.low, self.high = self._ends([value for value in values if value is not None], padded)

    def _ends(self, values: Sequence[float], padded: bool) -> tuple[float, float]:
        if self.axis.get("range"):
            low, high = self.axis["range"]
            return float(low), float(high)
        options = self.axis.get("autorangeoptions") or {}
        finite = [self._on(value) for value in values if math.isfinite(value) and (value > 0 or not self.log)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        room = PADDING * (high - low) if padded else 0.0
        if not self.log and self.axis.get("rangemode") == "tozero":
            low, high = min(0.0, low), max(0.0, high)
            low, high = low - (room if low < 0 else 0), high + (room or PADDING * (high - low))
        else:
            low, high = low - room, high + room
        for included in options.get("include", ()):
            low, high = min(low, included), max(high, included)
        low, high = max(low, options.get("clipmin", low)), min(high, options.get("clipmax", high))
        return (low, high) if low != high else (low - 0.5, high + 0.5)

    def _on(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def share(self, value: float) -> float:
        """Where it is between the axis's ends; of a logarithmic axis NaN for what is not above 0."""
        if self.log and value <= 0:
            return math.nan
        return (self._on(value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """(value, text), only what is within the range."""
        axis = self.axis
        if axis.get("tickvals") is not None:
            values = list(axis["tickvals"])
            texts = list(axis["ticktext"]) if axis.get("ticktext") is not None else [self.shown(v) for v in values]
            pairs = list(zip(values, texts, strict=True))
        else:
            pairs = [(value, self.shown(value)) for value in (self._decades() if self.log else self._round())]
        return [(value, said) for value, said in pairs if -1e-9 <= self.share(value) <= 1 + 1e-9]

    def _round(self) -> list[float]:
        low, high = sorted((self.low, self.high))
        wanted = max(2, int(self.axis.get("nticks") or 6))
        rough = (high - low) / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
        if self.axis.get("tickformat") == ",d":
            step = max(1.0, step)
        first = math.ceil(low / step - 1e-9)
        return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]

    def _decades(self) -> list[float]:
        low, high = sorted((self.low, self.high))
        within = (1, 2, 5) if high - low < 2 else (1,)
        return [f * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for f in within]

    def shown(self, value: float) -> str:
        form = self.axis.get("tickformat")
        if form == ".0%":
            said = f"{value:.0%}"
        elif abs(value) >= 1000 and value == round(value):
            said = f"{value:,.0f}"
        else:
            said = f"{round(value, 10):.6g}"
        return said + str(self.axis.get("ticksuffix") or "")
