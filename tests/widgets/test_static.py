"""What the page's own files become on their way to the browser."""

from __future__ import annotations

import re

from widgets.figures import PALETTES
from widgets.web import static


def test_all_type_grows_in_projector_mode() -> None:
    sheets = static.css()
    sizes = re.findall(r"(?<=[;{ ])((?:font-size|font|[\w-]*text-size): [^;}]*)", sheets)
    assert len(sizes) > 30
    assert [size for size in sizes if "px" in size and "var(--lab-type)" not in size] == []
    assert "12.5px * var(--lab-type)" in sheets
    assert "--lab-type: 1;" in static.head()


def test_projector_mode_knows_what_is_soft() -> None:
    """Charts have their colours as values: the soft ones are found by that of the theme."""
    for palette in PALETTES.values():
        assert f"--lab-quiet:{palette.soft}" in static.css()
