"""What people write as a number with a unit, and what is refused with a sentence that teaches."""

from __future__ import annotations

import decimal
import fractions
import math
import pickle

import numpy as np
import pytest
import torch

from lab.insight.amounts import AmountError, difference, read, shown


class TestCommasAndPoints:
    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ("87,360", 87360), ("1,234,567", 1234567), ("1,234.5", 1234.5), ("1,234,567.89", 1234567.89),
            ("1.234.567", 1234567), ("1.234,5", 1234.5), ("1.234.567,8", 1234567.8),
            ("8,5", 8.5), ("0,25", 0.25), ("0,250", 0.25), ("2,5", 2.5), ("1,2345", 1.2345), ("1234,567", 1234.567),
            ("87.360", 87.36), ("12.5", 12.5), (".5", 0.5), (",5", 0.5), ("5.", 5), ("007", 7),
            ("1 234 567", 1234567), ("1\u2009234\u2009567", 1234567), ("1\u202f234\u00a0567", 1234567),
            ("1'234'567", 1234567), ("1’234.5", 1234.5), ("87_360", 87360), ("1 234,5", 1234.5),
            ("1 234,567", 1234.567), ("1,23,456", 123456), ("12,34,567", 1234567),
        ],
    )  # fmt: skip
    def test_are_read_as_they_are_meant(self, written: str, value: float) -> None:
        assert read(written).value == value

    @pytest.mark.parametrize(("written", "other"), [("87,360", 87.36), ("87.360", 87360), ("-1,234", -1.234)])
    def test_what_could_be_meant_otherwise_is_said(self, written: str, other: float) -> None:
        assert read(written).otherwise == other

    @pytest.mark.parametrize("written", ["8,5", "0,250", "1,234,567", "1,234.5", "12.5", "1234,567", "87360", "1e3"])
    def test_where_there_is_no_doubt_nothing_is(self, written: str) -> None:
        assert read(written).otherwise is None

    @pytest.mark.parametrize(
        "written",
        ["1,2,3", "1.2.3", "1,23.4", "12,34,5", "1234,567,890", "1,234 567", "1'23", "1,234.567.8", "01,234,567"],
    )
    def test_groups_that_make_no_sense(self, written: str) -> None:
        with pytest.raises(AmountError, match=r"make no sense: write three in each, as in 1,234,567") as refused:
            read(written)
        assert refused.value.reason == "groups"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e6", 1e6), ("8.7×10^4", 87000), ("8.7 x 10^4", 87000), ("8.736E4", 87360), ("10³", 1000), ("10^5", 1e5),
        ("2^16", 65536), ("10⁻³", 0.001), ("-2", -2), ("+3", 3), ("−2", -2), ("－2", -2), ("~5", 5), ("≈ 5", 5),
        ("about 5", 5), ("approx. 5", 5), ("ca. 5", 5), ("约5", 5), ("5?", 5), ("= 5", 5), ("１２．５", 12.5), ("٣", 3),
        ("1/4", 0.25), ("½", 0.5), ("2½", 2.5), ("2 1/2", 2.5), ("-1/4", -0.25), ("5k", 5000), ("1.2 million", 1.2e6),
        ("87 thousand", 87000),
    ],
)  # fmt: skip
def test_the_other_ways_to_write_a_number(written: str, value: float) -> None:
    assert read(written).value == value


@pytest.mark.parametrize(
    ("written", "unit", "value"),
    [
        ("12.5 %", "%", 12.5), ("12.5%", "%", 12.5), ("５％", "%", 5), ("40 percent", "%", 40), ("1/4", "%", 25),
        ("38 of 100", "%", 38), ("38% of the time", "%", 38), ("0.38", "%", 0.38),
        ("5 ms", "ms", 5), ("0.005 s", "ms", 5), ("5000 us", "ms", 5), ("5000µs", "ms", 5), ("5000 μs", "ms", 5),
        ("5 ms a step", "ms", 5), ("2 min", "s", 120),
        ("87 kB", "bytes", 87000), ("0.085 MiB", "bytes", 89129), ("1.5 MB", "bytes", 1.5e6),
        ("87 KiB", "bytes", 89088),
        ("87,360 bytes", "bytes", 87360), ("87,5 kB", "bytes", 87500), ("2000 kB", "MB", 2), ("16 Mbit", "MB", 2),
        ("1.7x", "times", 1.7), ("1.7 times", "times", 1.7), ("1.7 times as long", "times", 1.7), ("1.8 ×", "×", 1.8),
        ("90 of 100", "of 100", 90), ("90/100", "of 100", 90), ("9 out of 10", "of 100", 90), ("90 %", "of 100", 90),
        ("90", "of 100", 90), ("10 GB/s", "GB/s", 10), ("80 Gbps", "GB/s", 10), ("5 images", "images", 5),
        ("1 step", "steps", 1),
    ],
)  # fmt: skip
def test_units_are_turned_into_the_one_that_is_asked_for(written: str, unit: str, value: float) -> None:
    assert read(written, unit).value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("written", "unit", "reason", "sentence"),
    [
        ("", "ms", "nothing", "give an answer first"),
        ("  ", "", "nothing", "give an answer first"),
        (None, "", "nothing", "give an answer first"),
        ("soon", "ms", "no_number", "'soon' is no number: write it with digits, such as 12.5 ms"),
        ("nan", "", "no_number", "'nan' is no number"),
        ("-inf", "", "no_number", "'-inf' is no number"),
        (math.nan, "", "no_number", "nan is no number that can be compared"),
        (True, "", "no_number", "True is no number"),
        ([1], "", "no_number", r"\[1\] is no number"),
        (1j, "", "no_number", "1j is no number"),
        ("<5", "", "no_number", "does not begin with a number"),
        ("5/0", "", "no_number", "divides by nothing"),
        ("9" * 200, "", "no_number", "is too long"),
        ("1;2", "", "several", r"holds two numbers \(1 and 2\): write the one that you mean"),
        ("5 10", "", "several", r"\(5 and 10\)"),
        ("5-10 ms", "ms", "several", "two numbers"),
        ("5 to 10", "ms", "several", "two numbers"),
        ("1/2/3", "", "several", "1, 2 and 3"),
        (torch.ones(3), "ms", "several", "there are 3 numbers in the answer"),
        ("5 GB", "ms", "kind", "'5 GB' is an amount of bytes, and this question asks for a time: write it as 12.5 ms"),
        ("5 ms", "bytes", "kind", "asks for an amount of bytes: write it as 12,500 bytes"),
        ("170 %", "times", "kind", "is a share, and this question asks for a number of times"),
        ("5 ms", "", "kind", "asks for a count"),
        ("5 GB", "GB/s", "kind", "asks for an amount of bytes in a time"),
        ("5 apples", "ms", "unit", "'apples' in '5 apples' is no unit that is known here: write it in ms"),
        ("5 m", "ms", "unit", "'m' in '5 m' is no unit"),
        ("1e999", "", "range", "out of range"),
        ("1e999999999", "", "range", "out of range"),
        ("999999999^30", "", "range", "out of range"),
        ("0^-1", "", "range", "out of range"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_what_to_do(written: object, unit: str, reason: str, sentence: str) -> None:
    with pytest.raises(AmountError, match=sentence) as refused:
        read(written, unit)
    assert refused.value.reason == reason
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.reason, str(again)) == (reason, str(refused.value))


@pytest.mark.parametrize(
    "given",
    [2.5, np.float32(2.5), torch.tensor(2.5), torch.tensor([2.5]), np.array(2.5), decimal.Decimal("2.5"),
     fractions.Fraction(5, 2)],
)  # fmt: skip
def test_a_number_is_taken_as_it_is(given: object) -> None:
    assert read(given, "ms").value == 2.5


@pytest.mark.parametrize("given", [7, np.int64(7), torch.tensor(7)])
def test_so_is_a_whole_one(given: object) -> None:
    assert read(given, "bytes").value == 7.0


@pytest.mark.parametrize(
    ("value", "exact", "rounded"),
    [
        (87360.0, "87,360 bytes", "87,360 bytes"), (1234567.0, "1,234,567 bytes", "1,234,567 bytes"),
        (177280.25, "177,280.25 bytes", "177,280 bytes"), (43.27182, "43.27182 bytes", "43.27 bytes"),
        (8.0, "8 bytes", "8 bytes"), (0.0, "0 bytes", "0 bytes"), (-2.5, "-2.5 bytes", "-2.5 bytes"),
        (1e15, "1,000,000,000,000,000 bytes", "1,000,000,000,000,000 bytes"), (100 / 3, "33.33 bytes", "33.33 bytes"),
    ],
)  # fmt: skip
def test_counts_are_shown_in_full(value: float, exact: str, rounded: str) -> None:
    assert (shown(value, "bytes"), shown(value, "bytes", 4)) == (exact, rounded)


def test_differences_have_a_sign() -> None:
    assert difference(2.0, "ms") == "+2 ms"
    assert difference(-89_920.0, "bytes") == "-89,920 bytes"
    assert difference(0.123456, "") == "+0.123"


@pytest.mark.parametrize("value", [0.5, 12.5, 87360, 1234.5, 1234567, 0.001, 99.99])
@pytest.mark.parametrize("unit", ["ms", "bytes", "%", "times", "of 100", ""])
def test_what_is_shown_can_be_typed_again(value: float, unit: str) -> None:
    assert read(shown(value, unit), unit).value == value
