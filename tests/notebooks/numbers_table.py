"""numbers.toml: the numbers of the course's prose that no cell prints, each with an expression or a reason."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.notebooks.prose import Entry

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("numbers.toml")


def entries(where: str) -> list[Entry]:
    """Those of a notebook and its section of the teacher's notes."""
    found = []
    for row in tomllib.loads(FILE.read_text(encoding="utf-8"))["number"]:
        assert set(row) in ({"where", "text", "is"}, {"where", "text", "because"}), row
        if row["where"] == where:
            expressions = tuple(map(str, row["is"])) if "is" in row else None
            found.append(Entry(where, row["text"], expressions, row.get("because", "")))
    return found


def expressions(where: str) -> set[str]:
    return {expression for entry in entries(where) for expression in entry.expressions or ()}
