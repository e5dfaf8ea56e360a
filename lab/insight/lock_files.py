"""Where locked answers are kept: in the notebook's own file, and until that is saved in the user's state folder.

A notebook's file holds them in its outputs, so they go where it goes, and a copy without outputs has none. A kernel
that is restarted before a save would find nothing there; so a small file remembers them by the notebook's path.
It counts for that very file only: where a new one has been put at the path, what was remembered is of another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.insight.locks import MIME, Asked, from_json

FOLDER_VARIABLE = "PARALLEL_LAB_STATE"
MOST_ENTRIES = 1_000
"""Of one notebook that are remembered, the last ones."""


@dataclass(frozen=True, slots=True)
class Notebook:
    """What a notebook's file says of the questions in it."""

    asked: tuple[Asked, ...] = ()
    cells: frozenset[str] = frozenset()
    """The names of its cells."""
    sources: frozenset[str] = frozenset()
    """Digests of their sources."""


def digest(source: str) -> str:
    return hashlib.sha256(source.strip().encode()).hexdigest()[:16]


def in_notebook(path: Path | None) -> Notebook:
    """Reads the file as it was saved last; one that is not there or no notebook holds nothing."""
    book = _json(path) if path is not None else None
    code = [cell for cell in _listed(book, "cells") if cell.get("cell_type") == "code"]
    outputs = [output for cell in code for output in _listed(cell, "outputs")]
    found = [from_json(_joined(output["data"].get(MIME))) for output in outputs if isinstance(output.get("data"), dict)]
    return Notebook(
        tuple(each for each in found if each is not None),
        frozenset(str(cell["id"]) for cell in code if cell.get("id")),
        frozenset(digest(_text(cell.get("source"))) for cell in code),
    )


def remembered(path: Path) -> list[Asked]:
    """What the user's state folder holds of the notebook at that path."""
    book = _json(_place(path))
    if not isinstance(book, dict) or book.get("file") != _identity(path):
        return []
    found = map(from_json, _listed(book, "asked"))
    return [each for each in found if each is not None]


def remember(path: Path, asked: Asked) -> None:
    """Keeps a question, and its answer. Where the folder cannot be written to, the notebook's own file has to do."""
    anew = [each for each in remembered(path) if not _is_over(each, asked)]
    with contextlib.suppress(OSError):
        _write(path, [*anew, asked][-MOST_ENTRIES:])


def forget(path: Path) -> None:
    """Remembers nothing of the notebook at that path any more, as when a fresh copy is put there."""
    with contextlib.suppress(OSError):
        _place(path).unlink(missing_ok=True)


def folder() -> Path:
    """The folder named in the environment variable PARALLEL_LAB_STATE, or the user's own state folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_state_path("parallel-lab", appauthor=False)


def _is_over(each: Asked, now: Asked) -> bool:
    """Whether it does not count any more since somebody asked anew."""
    names = (each.question, each.cell, each.source, each.place)
    return names == (now.question, now.cell, now.source, now.place) and each.locked_s < now.began_s


def _write(path: Path, asked: Iterable[Asked]) -> None:
    place = _place(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    book = {"notebook": str(path), "file": _identity(path), "asked": [each.to_json() for each in asked]}
    part = place.with_name(f"{place.name}.{uuid.uuid4().hex}")
    try:
        part.write_text(json.dumps(book), encoding="utf-8")
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _place(path: Path) -> Path:
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    return folder() / "predictions" / f"{name}.json"


def _identity(path: Path) -> int | None:
    """Of the file itself, whatever is written into it; another file at the same path has another."""
    with contextlib.suppress(OSError):
        return path.stat().st_ino
    return None


def _json(path: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _listed(found: Any, name: str) -> list[dict[str, Any]]:
    """The objects in a list of that name."""
    several = found.get(name) if isinstance(found, dict) else None
    return [each for each in several if isinstance(each, dict)] if isinstance(several, list) else []


def _joined(found: Any) -> Any:
    """JSON in an output, which some writers keep as text."""
    if isinstance(found, list | str):
        with contextlib.suppress(ValueError):
            return json.loads(_text(found))
    return found


def _text(found: Any) -> str:
    """A notebook's text: one string, or its lines."""
    return "".join(map(str, found)) if isinstance(found, list) else str(found or "")
