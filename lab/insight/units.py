"""The units that people write behind a number, and what each is worth: times, bytes, shares, ratios, and rates of them.

Decimal prefixes are powers of ten, as links and memories are sold; KiB, MiB, GiB are powers of two (IEC 80000-13).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

TIME = "a time"
BYTES = "an amount of bytes"
SHARE = "a share"
RATIO = "a number of times"
COUNT = "a count"
RATE = "{many} in {one}"


@dataclass(frozen=True, slots=True)
class Unit:
    """What kind of amount it is, and how many of that kind's first unit (second, byte, one) it is."""

    kind: str
    worth: Fraction


_SPELLINGS: Mapping[str, tuple[tuple[Fraction | int, str], ...]] = {
    TIME: (
        (1, "s sec secs second seconds 秒"),
        (Fraction(1, 10**3), "ms msec msecs millisecond milliseconds 毫秒"),
        (Fraction(1, 10**6), "us usec μs microsecond microseconds 微秒"),
        (Fraction(1, 10**9), "ns nsec nanosecond nanoseconds 纳秒"),
        (60, "min mins minute minutes 分钟"),
        (3600, "h hr hrs hour hours 小时"),
    ),
    BYTES: (
        (1, "b byte bytes 字节"),
        (10**3, "kb kbyte kbytes kilobyte kilobytes"),
        (10**6, "mb mbyte mbytes megabyte megabytes"),
        (10**9, "gb gbyte gbytes gigabyte gigabytes"),
        (10**12, "tb tbyte tbytes terabyte terabytes"),
        (2**10, "kib kibibyte kibibytes"),
        (2**20, "mib mebibyte mebibytes"),
        (2**30, "gib gibibyte gibibytes"),
        (2**40, "tib tebibyte tebibytes"),
        (Fraction(1, 8), "bit bits"),
        (Fraction(10**3, 8), "kbit kbits kilobit kilobits"),
        (Fraction(10**6, 8), "mbit mbits megabit megabits"),
        (Fraction(10**9, 8), "gbit gbits gigabit gigabits"),
    ),
    SHARE: (
        (Fraction(1, 100), "% percent per-cent pct 百分之"),
        (Fraction(1, 1000), "‰ permille"),
    ),
    RATIO: ((1, "times time x × fold -fold 倍"),),
}
_UNITS = MappingProxyType(
    {
        spelling: Unit(kind, Fraction(worth))
        for kind, rows in _SPELLINGS.items()
        for worth, spellings in rows
        for spelling in spellings.split()
    }
)
_PER_SECOND = {"kbps": "kbit/s", "mbps": "mbit/s", "gbps": "gbit/s"}
_MULTIPLIERS = MappingProxyType(
    {
        "k": 10**3, "thousand": 10**3, "千": 10**3, "万": 10**4,
        "M": 10**6, "million": 10**6, "millions": 10**6, "mio": 10**6, "mn": 10**6,
        "G": 10**9, "billion": 10**9, "billions": 10**9, "bn": 10**9,
    }
)  # fmt: skip
_OF = re.compile(r"(?:(?:out )?of|/) ?(\d+)")


def find(written: str) -> Unit | None:
    """The unit that is written; None where it is none that is known here. `of 100` is a share in hundredths."""
    words = " ".join(written.split())
    of = _OF.fullmatch(words)
    if of is not None and int(of[1]):
        return Unit(SHARE, Fraction(1, int(of[1])))
    name = words.lower().replace("µ", "μ")
    name = _PER_SECOND.get(name, name).replace("per cent", "per-cent")
    if name in _UNITS:
        return _UNITS[name]
    above, _, below = name.replace(" per ", "/").partition("/")
    many, one = _UNITS.get(above.strip()), _UNITS.get(below.strip())
    if many is None or one is None:
        return None
    return Unit(RATE.format(many=many.kind, one=one.kind), many.worth / one.worth)


def multiplier(written: str) -> tuple[int, str]:
    """(1,000, "bytes") for `thousand bytes`: what a word for a large number is worth, and what follows it."""
    first, _, rest = written.partition(" ")
    if first in _MULTIPLIERS:
        return _MULTIPLIERS[first], rest.strip()
    worth = _MULTIPLIERS.get(first.lower()) if len(first) > 1 else None
    return (worth, rest.strip()) if worth is not None else (1, written)
