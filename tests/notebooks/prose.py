"""The numbers in the course's prose, and what they are held against: what cells print, and the entries of numbers.toml.

A *claim* is a number with a unit, a decimal point or a thousands separator: a cell must have printed it, in a unit of
the same kind, to the rounding with which it is written. Any other number is a count, such as "4 parts", and must stand
in the notebook's code or in what it prints.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

SCALES: dict[str, tuple[str, float]] = {
    "ns": ("time", 1e-9),
    "µs": ("time", 1e-6),
    "ms": ("time", 1e-3),
    "s": ("time", 1.0),
    "seconds": ("time", 1.0),
    "bytes": ("bytes", 1.0),
    "kB": ("bytes", 1e3),
    "MB": ("bytes", 1e6),
    "GB": ("bytes", 1e9),
    "GB/s": ("rate", 1.0),
    "%": ("share", 1.0),
    "times": ("times", 1.0),
}
"""Unit -> what it measures, and how much it is."""

_PLAIN_DIGITS = 4
"""A number that was printed without its unit must have so many to stand for one with a unit: 3 is of anything."""

_UNIT = "|".join(sorted(map(re.escape, SCALES), key=len, reverse=True))
_NUMBER = re.compile(
    r"(?<![\w.,^-])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    rf"(?:(?=\s?(?:{_UNIT})(?![\w/]))\s?(?P<unit>{_UNIT})|(?![\w⁻⁰¹²³⁴-⁹]))"
)
_IN_A_LIST = re.compile(r",?\s*(?:and|or|to|–|against)?\s*")

_BLOCKS = re.compile(r"^```.*?^```|\$\$.*?\$\$|^#{1,3} .*?$|^\s*\d+\. ", re.DOTALL | re.MULTILINE)
_NO_PROSE = re.compile(
    r"`[^`]*`"  # code
    r"|\$[^$]+\$"  # formulas
    r"|<https?://[^>]*>|\]\([^)]*\)"  # where links lead
    r"|\*\*Time[.:]\*\* [^.]*"  # another test holds it
    r"|\b(?:0\d|\d\d-\w+)\b"  # notebooks and exercises
    r"|\b(?:19|20)\d\d\b(?=[),.]| to )"  # years
)


@dataclass(frozen=True)
class Number:
    """A number as it is written in a text."""

    digits: str
    unit: str
    start: int
    end: int

    @property
    def value(self) -> float:
        return float(self.digits.replace(",", ""))

    @property
    def decimals(self) -> int:
        return len(self.digits.partition(".")[2])

    @property
    def claims(self) -> bool:
        return "," in self.digits or "." in self.digits or self.unit not in ("", "times")

    def is_about(self, value: float) -> bool:
        """Whether it is this value, rounded as it is written."""
        return abs(value - self.value) <= 0.5 * 10.0**-self.decimals * (1 + 1e-9)

    def agrees_with(self, printed: Number) -> bool:
        """Whether this number of the prose is what was printed, which must be at least as exact."""
        value, precision = printed.value, 10.0**-printed.decimals
        if self.unit and printed.unit:
            (kind, scale), (printed_kind, printed_scale) = SCALES[self.unit], SCALES[printed.unit]
            if kind != printed_kind:
                return False
            value, precision = value * printed_scale / scale, precision * printed_scale / scale
        elif self.unit and len(printed.digits) < _PLAIN_DIGITS:
            return False
        return precision <= 10.0**-self.decimals * (1 + 1e-9) and self.is_about(value)


@dataclass(frozen=True)
class Entry:
    """What numbers.toml says of a fragment of prose."""

    where: str
    text: str
    expressions: tuple[str, ...] | None
    """Python in the notebook's variables, one for each number of the fragment; None where a reason is given."""
    because: str


def readable(markdown: str) -> str:
    """The sentences of a text on one line, without blocks of code, formulas and headings."""
    return " ".join(_BLOCKS.sub(" ", markdown).split())


def numbers(text: str) -> list[Number]:
    """Those of the prose of a readable text, in order. In a list, "50, 66 and 79%", all have the last one's unit."""
    hidden = [match.span() for match in _NO_PROSE.finditer(text)]
    found = [
        Number(match["digits"], match["unit"] or "", match.start(), match.end())
        for match in _NUMBER.finditer(text)
        if not any(start <= match.start() < end for start, end in hidden)
    ]
    return _with_units_of_lists(found, text)


def _with_units_of_lists(found: list[Number], text: str) -> list[Number]:
    out: list[Number] = []
    for number in reversed(found):
        following = out[-1] if out else None
        between = text[number.end : following.start] if following else ""
        if following and following.unit and not number.unit and _IN_A_LIST.fullmatch(between):
            number = replace(number, unit=following.unit)
        out.append(number)
    return out[::-1]


def printed(outputs: Iterable[str]) -> list[Number]:
    """The numbers in what cells print."""
    return [number for text in outputs for number in _all(re.sub(r"\x1b\[\d+m", "", text))]


def _all(text: str) -> Iterator[Number]:
    for match in _NUMBER.finditer(text):
        yield Number(match["digits"], match["unit"] or "", match.start(), match.end())


def covered(text: str, entries: Iterable[Entry]) -> Iterator[tuple[Entry, list[Number]]]:
    """The entries whose fragment is in a readable text, each with the numbers in it."""
    found = numbers(text)
    for entry in entries:
        fragment = " ".join(entry.text.split())
        at = text.find(fragment)
        while at >= 0:
            yield entry, [number for number in found if at <= number.start and number.end <= at + len(fragment)]
            at = text.find(fragment, at + 1)


def unsupported(text: str, said: Collection[Number], counts: Collection[str]) -> list[Number]:
    """The numbers of a readable text for which nothing was printed.

    Args:
        said: what cells print.
        counts: the numbers in code and outputs, as they are written.
    """
    return [number for number in numbers(text) if not supported(number, said, counts)]


def supported(number: Number, said: Collection[Number], counts: Collection[str]) -> bool:
    if number.claims:
        return any(number.agrees_with(other) for other in said)
    return number.digits in counts
