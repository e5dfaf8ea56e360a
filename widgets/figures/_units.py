"""Numbers as people read them: times, bytes, counts."""

from __future__ import annotations

import math

_TIMES = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"), (1, "ns"))
_BYTES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_COUNTS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def time_unit(ns: float) -> tuple[int, str]:
    """(nanoseconds per unit, its symbol) for an axis that ends at `ns`."""
    return next((pair for pair in _TIMES if ns >= pair[0]), _TIMES[-1])


def duration(ns: float) -> str:
    """`1.27 ms`, with three significant digits."""
    unit, symbol = time_unit(abs(ns))
    return f"{significant(ns / unit)} {symbol}"


def byte_unit(count: float) -> tuple[float, str]:
    """(bytes per unit, its symbol) for an axis that ends at `count`."""
    return next((pair for pair in _BYTES if count >= pair[0]), (1, "B"))


def human_bytes(count: float) -> str:
    """`368.6 kB`: decimal units, as links and memories are sold."""
    unit, symbol = byte_unit(count)
    value = count / unit
    return f"{value:.0f} {symbol}" if unit == 1 or value >= 1000 else f"{value:.1f} {symbol}"


def human_count(count: float) -> str:
    """`5.0 k` and `41 M`, for parameters and FLOPs."""
    unit, symbol = next((pair for pair in _COUNTS if count >= pair[0]), (1, ""))
    return f"{significant(count / unit, 2)} {symbol}" if unit > 1 else f"{count:.0f} "


def significant(value: float, digits: int = 3) -> str:
    if value == 0 or not math.isfinite(value):
        return str(round(value)) if math.isfinite(value) else str(value)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def clock_time(seconds: float) -> str:
    """`9 s`, `3 min 20 s`, `2 h 5 min`: how long something still takes."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes + (rest >= 30)} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
