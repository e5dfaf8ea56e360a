"""Amounts of memory as people write them: `"40GB"`, `"512 MB"`, `"1.5 GiB"`, or a number of bytes."""

from __future__ import annotations

import re
from typing import Any

from lab.errors import DeviceError

UNITS = {
    "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
"""Unit in lower case -> bytes: powers of 1000, and with an i of 1024."""
LARGEST = 10**13

_WRITTEN = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
_HOW = "give bytes as a whole number, or text such as '40GB', '512MB' or '1.5GiB'"


def parse(value: Any, what: str = "memory") -> int:
    """Bytes.

    Args:
        value: a whole number of bytes, or text with a unit; `4e9` counts as whole.
        what: the name of the setting, for the error.

    Raises:
        DeviceError: what is wrong with it.
    """
    if isinstance(value, str):
        match = _WRITTEN.fullmatch(value)
        if match is None:
            raise DeviceError(f"{what}={value!r} is not an amount of memory; {_HOW}")
        unit = match[2].lower()
        if unit not in UNITS:
            wrong = f"has an unknown unit, {match[2]!r}" if unit else "has no unit"
            raise DeviceError(f"{what}={value!r} {wrong}; the units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB")
        size = float(match[1]) * UNITS[unit]
    elif isinstance(value, bool) or not (hasattr(value, "__index__") or isinstance(value, float)):
        raise DeviceError(f"{what}={value!r} is not an amount of memory; {_HOW}")
    else:
        size = value
    if not 1 <= size <= LARGEST:
        raise DeviceError(f"{what}={value!r} is not possible; a virtual GPU has from 1 byte to 10 TB")
    if isinstance(value, float) and not value.is_integer():
        raise DeviceError(f"{what}={value!r} is not a whole number of bytes; {_HOW}")
    return round(size)
