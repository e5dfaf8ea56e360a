"""Amounts as people write them: `87,360`, `1.234,5`, `12.5 %`, `5 ms`, `about 90 of 100`, and how they are shown again.

    read("87 kB", "bytes").value     # 87000.0
    shown(87000.0, "bytes")          # '87,000 bytes'

What a comma or a point means is told by the digits around it (ISO 80000-1 allows either as the decimal sign, and thin
spaces between groups of three): three digits after a single comma are a group, any other number of them are decimals;
of two different signs the last one is the decimal one; a single point is always a decimal point. What could have been
meant otherwise is noted, so that a face can say so.
"""

from __future__ import annotations

import math
import numbers
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

from lab.errors import LabError, listed
from lab.insight import units

Reason: TypeAlias = Literal["nothing", "no_number", "several", "groups", "kind", "unit", "range"]
MOST_CHARACTERS = 80
MOST_EXPONENT = 30
MOST_BASE = 1000
"""Of a power such as 2^16."""
FULL_BELOW = 1e21
"""Counts up to here are shown with all their digits."""
EXACT_DIGITS = 12
ROUNDED_DIGITS = 4
MOST_DECIMALS = 8
"""Of a number that is shown exactly; one with more is rounded."""

_PLAIN = r"(?:\d+(?:(?:[.,'_]| (?=\d{3}(?!\d)))\d+)*[.]?|[.,]\d+)"
_POWER = r"(?:(?:e| ?[x×*·] ?10 ?(?:\^|\*\*)) ?(?P<ten>[+-]?\d+)| ?(?:\^|\*\*) ?(?P<power>[+-]?\d+))"
_NUMBER = re.compile(rf"(?P<sign>[+-]?) ?(?P<whole>{_PLAIN}){_POWER}?", re.IGNORECASE)
_MIXED = re.compile(r"(?P<sign>[+-]?) ?(?:(?P<whole>\d+) )?(?P<above>\d+) ?/ ?(?P<below>\d+)")
_OF = re.compile(r"(?:out )?of (?P<all>\d+)\b|/ ?(?P<over>\d+)$")
_BESIDE = re.compile(r" (?:an?|per|each|every|in|of|as)(?: \w+)+$")
"""What says of what an amount is: `5 ms a step`, `38 % of the time`, `1.7 times as long`."""
_DIGITS = re.compile(r"\d(?:[\d.,'_]*\d)?")
_ABOUT = re.compile(
    r"(?:[~≈∼=]|约|大约|(?:about|approximately|approx\b\.?|around|roughly|nearly|almost|circa|ca\b\.?|maybe|perhaps|some)(?![a-z]))"
    r"\s*",
    re.IGNORECASE,
)
_SIGNS = str.maketrans({**dict.fromkeys("−‒–—﹣", "-"), **dict.fromkeys("’‘ʼ´`", "'"), "⁄": "/", "٫": ".", "٬": "'"})
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")


class AmountError(LabError):
    """What cannot be read as an amount. `reason` says why in a word, for faces that speak another language."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type[AmountError], tuple[Reason, str]]:
        return type(self), (self.reason, str(self))


@dataclass(frozen=True, slots=True)
class Amount:
    """What was read."""

    value: float
    """In the unit that was asked for."""
    otherwise: float | None = None
    """What the digits would be if their comma or point had its other meaning; None where there is no doubt."""


def read(written: Any, unit: str = "") -> Amount:
    """A text, or a number of any library, as an amount in `unit`.

    Args:
        written: a text is read as its writer means it; a number is taken as it is.
        unit: `ms`, `bytes`, `%`, `of 100`, `times`, ...; one that is not known here is a count of that word.

    Raises:
        AmountError: for nothing, words, several numbers, groups of digits that make no sense, a unit of another kind,
            or a value that is not finite.
    """
    if not isinstance(written, str):
        return Amount(_given(written, unit))
    text = _plain(written)
    if not text:
        raise AmountError("nothing", "give an answer first")
    if len(text) > MOST_CHARACTERS:
        raise AmountError("no_number", f"{text[:20] + '…'!r} is too long for a number: write it as {_example(unit)}")
    number = _number(text, written, unit)
    worth = _worth(number, written, unit)
    found = number.value * worth
    if worth != 1 and units.find(unit) == units.find("byte"):
        found = Fraction(round(found))  # there are no parts of a byte
    if abs(found) >= 10**MOST_EXPONENT:
        raise AmountError("range", f"{written!r} is out of range for an answer: write it as {_example(unit)}")
    return Amount(float(found), None if number.otherwise is None else float(number.otherwise * worth))


def shown(value: float, unit: str = "", digits: int = EXACT_DIGITS) -> str:
    """With its unit; the digits before the point are always all there, grouped: `87,360 bytes`, never `8.736e+04`.

    Args:
        digits: significant ones that are kept behind the point.
    """
    return f"{_digits(value, digits)} {unit}".rstrip()


def difference(value: float, unit: str = "") -> str:
    """With its sign, rounded: `+2 ms`, `-89,920 bytes`."""
    sign = "+" if value >= 0 else "-"
    return sign + shown(abs(value), unit, 3)


def _digits(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if abs(value) >= FULL_BELOW or size < -4:
        return f"{value:.{min(digits, ROUNDED_DIGITS)}g}"
    text = f"{value:,.{max(0, digits - 1 - size)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    endless = digits == EXACT_DIGITS and len(text.partition(".")[2]) > MOST_DECIMALS  # a third, for example
    return _digits(value, ROUNDED_DIGITS) if endless else text


def _given(value: Any, unit: str) -> float:
    """A number that is one already: of Python, numpy, or a tensor with one element."""
    if value is None:
        raise AmountError("nothing", "give an answer first")
    numel = getattr(value, "numel", None) or getattr(value, "size", None)
    count = numel() if callable(numel) else numel
    if isinstance(count, int) and count > 1:
        raise AmountError("several", f"there are {count:,} numbers in the answer: give one, in {unit or 'digits'}")
    found = value.item() if callable(getattr(value, "item", None)) else value
    if isinstance(found, bool) or not isinstance(found, numbers.Real | numbers.Number) or isinstance(found, complex):
        raise AmountError("no_number", f"{value!r} is no number: write it with digits, such as {_example(unit)}")
    number = float(found)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise AmountError("no_number", f"{value!r} is no number that can be compared: write one as {_example(unit)}")
    return number


def _plain(written: str) -> str:
    """With one sign for each meaning: ASCII digits, plain spaces, `-`, `'`; without `about` and a full stop."""
    text = _RAISED.sub(lambda raised: "^" + raised[0].translate(_SUPERSCRIPTS), written)
    text = "".join(
        f" {unicodedata.normalize('NFKC', each)} " if unicodedata.category(each) == "No" else each for each in text
    )
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = "".join(str(unicodedata.decimal(each, each)) for each in text)
    text = " ".join(text.split()).rstrip("?!").strip()
    while (about := _ABOUT.match(text)) is not None:
        text = text[about.end() :].strip()
    return text[:-1].rstrip() if text.endswith((".", ",")) else text


class _Number(NamedTuple):
    value: Fraction
    rest: str
    """What stands behind it."""
    otherwise: Fraction | None = None
    is_fraction: bool = False
    """Such as 1/3."""


def _number(text: str, written: str, unit: str) -> _Number:
    mixed = _MIXED.match(text)
    if mixed is not None:
        if re.search(r"\d", text[mixed.end() :]):
            _refuse_several(text, written)
        if not int(mixed["below"]):
            raise AmountError("no_number", f"{written!r} divides by nothing: write a number, such as {_example(unit)}")
        value = int(mixed["whole"] or 0) + Fraction(int(mixed["above"]), int(mixed["below"]))
        return _Number(-value if mixed["sign"] == "-" else value, text[mixed.end() :].strip(), is_fraction=True)
    found = _NUMBER.match(text)
    if found is None:
        if re.search(r"\d", text):
            raise AmountError("no_number", f"{written!r} does not begin with a number: write it as {_example(unit)}")
        raise AmountError("no_number", f"{written!r} is no number: write it with digits, such as {_example(unit)}")
    rest = text[found.end() :].strip()
    if re.search(r"\d", rest) and not _OF.fullmatch(rest):
        _refuse_several(text, written)
    if rest[:1] in ("'", "_", ",", "."):
        raise _groups(written)
    value, otherwise = _grouped(found["whole"].rstrip("."), written)
    sign = -1 if found["sign"] == "-" else 1
    raised = _raised(value, found, written, unit)
    return _Number(sign * raised, rest, None if otherwise is None or raised != value else sign * otherwise)


def _refuse_several(text: str, written: str) -> NoReturn:
    found = _DIGITS.findall(text)
    count = "two" if len(found) == 2 else "several"
    raise AmountError("several", f"{written!r} holds {count} numbers ({listed(found)}): write the one that you mean")


def _raised(value: Fraction, found: re.Match[str], written: str, unit: str) -> Fraction:
    """With an exponent: `1e6`, `8.7 × 10^4`; or to a power: `10^5`."""
    exponent = int(found["ten"] or found["power"] or 0)
    by_power = found["power"] is not None
    if abs(exponent) > MOST_EXPONENT or (by_power and (value > MOST_BASE or (not value and exponent < 0))):
        raise AmountError("range", f"{written!r} is out of range for an answer: write it as {_example(unit)}")
    return Fraction(value**exponent) if by_power else value * Fraction(10) ** exponent


def _grouped(digits: str, written: str) -> tuple[Fraction, Fraction | None]:
    """(the number, its other meaning or None) of digits with points, commas, spaces, apostrophes, underscores."""
    signs = {each for each in digits if not each.isdigit()}
    spaced = signs - {".", ","}
    if len(spaced) > 1:
        raise _groups(written)
    commas, points = digits.count(","), digits.count(".")
    decimal = ""
    if commas and points:
        decimal = max(",.", key=digits.rfind)
    elif commas + points == 1 and (spaced or points or not _group_comma(digits)):
        decimal = "," if commas else "."
    if decimal and digits.count(decimal) > 1:
        raise _groups(written)
    whole, _, part = digits.partition(decimal) if decimal else (digits, "", "")
    between = {each for each in whole if not each.isdigit()}
    if (part and not part.isdigit()) or len(between) > 1 or (between and not _in_groups(whole, *between)):
        raise _groups(written)
    value = Fraction(f"{re.sub('[^0-9]', '', whole) or '0'}.{part or '0'}")
    if commas + points == 1 and not spaced and re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", digits):
        plain = digits.replace(",", ".")
        return value, Fraction(plain) if not decimal else Fraction(plain.replace(".", ""))
    return value, None


def _group_comma(digits: str) -> bool:
    """Whether one comma parts thousands: `87,360`, but neither `0,250` nor `1234,567` nor `8,5`."""
    return re.fullmatch(r"[1-9]\d{0,2},\d{3}", digits) is not None


def _in_groups(whole: str, sign: str) -> bool:
    """In threes; with commas also the Indian way: `12,34,567`."""
    first, *groups = whole.split(sign)
    if not first or first.startswith("0") or len(first) > 3:
        return False
    threes = all(len(group) == 3 for group in groups)
    indian = sign == "," and len(first) <= 2 and len(groups[-1]) == 3 and all(len(each) == 2 for each in groups[:-1])
    return threes or indian


def _groups(written: str) -> AmountError:
    text = f"the groups of digits in {written!r} make no sense: write three in each, as in 1,234,567, or none"
    return AmountError("groups", text)


def _worth(number: _Number, written: str, unit: str) -> Fraction:
    """By what the number is to be multiplied to be in `unit`."""
    asked = units.find(unit)
    large, rest = units.multiplier(number.rest)
    if not rest:
        if number.is_fraction and asked is not None and asked.kind == units.SHARE:
            return large / asked.worth  # a third of the time is 33 %
        return Fraction(large)
    if _same_word(rest, unit):
        return Fraction(large)
    given = units.find(rest) or units.find(_BESIDE.sub("", rest))
    if given is None:
        raise AmountError("unit", _unknown(rest, written, unit))
    if asked is None or given.kind != asked.kind:
        kind = asked.kind if asked is not None else units.COUNT + (f" ({unit})" if unit else "")
        raise AmountError(
            "kind", f"{written!r} is {given.kind}, and this question asks for {kind}: write it as {_example(unit)}"
        )
    return large * given.worth / asked.worth


def _same_word(rest: str, unit: str) -> bool:
    """`image` and `Images` are one word."""
    one, other = rest.lower(), unit.lower()
    return bool(unit) and (one == other or (len(unit) > 3 and one.rstrip("s") == other.rstrip("s")))


def _unknown(rest: str, written: str, unit: str) -> str:
    if not unit:
        return f"{rest!r} in {written!r} is no unit that is known here: a plain number is asked for, such as 12.5"
    return f"{rest!r} in {written!r} is no unit that is known here: write it in {unit}, as in {_example(unit)}"


def _example(unit: str) -> str:
    return f"12.5 {unit}".rstrip() if units.find(unit) != units.find("byte") else f"12,500 {unit}"
