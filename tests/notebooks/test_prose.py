"""What counts as a number of prose, and what supports it."""

from __future__ import annotations

import pytest

from tests.notebooks import numbers_table, prose
from tests.notebooks.prose import Entry


def found(text: str) -> list[tuple[str, str]]:
    return [(number.digits, number.unit) for number in prose.numbers(prose.readable(text))]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("A step takes 10.20 ms, of 64 images.", [("10.20", "ms"), ("64", "")]),
        ("waiting 50, 66 and 79% of 1,234,567 bytes", [("50", "%"), ("66", "%"), ("79", "%"), ("1,234,567", "bytes")]),
        ("30 to 40%; 10.73 ms against 10.20 ms", [("30", "%"), ("40", "%"), ("10.73", "ms"), ("10.20", "ms")]),
        ("1 GB/s, 815 kB, 3 s, 5 steps", [("1", "GB/s"), ("815", "kB"), ("3", "s"), ("5", "")]),
        ("1. Once.\n2. Of conv1's 28 × 28 places.", [("28", ""), ("28", "")]),
        ("In **05** and `at[3]`, see <https://x.org/2104.04473> or [it](../7.md), by $m = 8$.", []),
        ("## 3. A straggler\n\n```\nF 1 2\n```\n\n$$\\frac{1}{2}$$", []),
        ("Li et al. (2018), *ASHA*; Chen (2016).", []),
        ("**Time:** 25 minutes. Then 7.", [("7", "")]),
    ],
)
def test_numbers_of_prose_are_found_with_their_units(text: str, numbers: list[tuple[str, str]]) -> None:
    assert found(text) == numbers


@pytest.mark.parametrize(
    ("said", "printed", "holds"),
    [
        ("118.5 ms", "118.51 ms a step", True),
        ("118 ms", "118.51 ms a step", False),
        ("119 ms", "118.51 ms a step", True),
        ("132 ms", "118.51 ms a step", False),
        ("10.20 ms", "10.2 ms", False),  # The cell says less than the sentence.
        ("815 kB", "814,900 bytes", True),
        ("0.82 MB", "814,900 bytes", False),
        ("66%", "66.00 ms", False),
        ("66%", "waits 66%", True),
        ("87,360", "87360", True),
        ("87,360 bytes", "87360", True),
        ("3 s", "3 ranks", False),
        ("0.38", "data 0.38 ms", True),
        ("1.58 times", "1.58 times as fast", True),
        ("4 parts", "", True),  # A count: the code has it.
        ("5 parts", "5.2 MB", False),
    ],
)
def test_a_number_holds_where_a_cell_printed_it_as_exactly(said: str, printed: str, holds: bool) -> None:
    assert (prose.unsupported(said, prose.printed([printed]), {"4"}) == []) is holds


def test_an_entry_covers_the_numbers_of_its_fragment_only() -> None:
    text = prose.readable("It is 7 × 16 =\n112 GB, and 5 GB\nbeside it.")
    entry = Entry("08", "7 × 16 = 112 GB", ("7", "16", "7 * 16"), "")
    ((_, numbers),) = prose.covered(text, [entry, Entry("08", "not there: 3", None, "a reason")])
    assert [number.digits for number in numbers] == ["7", "16", "112"]
    assert [number.is_about(value) for number, value in zip(numbers, (7.4, 16, 113), strict=True)] == [
        True,
        True,
        False,
    ]


def test_every_reason_is_given() -> None:
    entries = [entry for number in range(10) for entry in numbers_table.entries(f"{number:02d}")]
    assert len(entries) == numbers_table.FILE.read_text(encoding="utf-8").count("[[number]]")
    assert all(entry.expressions or len(entry.because) > 10 for entry in entries)
