"""The course's files: where they lie, and how they are copied without ever losing what a student wrote.

A copy remembers, in `.parallel-lab.json` beside it, what each file was when it was copied. A file that is still that is
brought up to date; one that has been changed since, or was there before, is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError

RECORD = ".parallel-lab.json"


@dataclass(slots=True)
class Copied:
    """What copying did, by file name."""

    new: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    """Not edited since the last copy, and newer in the course."""
    same: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Edited by the reader, and left alone."""


def folder() -> Path:
    """Where the course's notebooks are: inside the installed package, or in the checkout that it is installed from.

    Raises:
        LabError: when they are in neither.
    """
    package = Path(__file__).parent
    for place in (package / "notebooks", package.parents[1] / "notebooks"):
        if any(place.glob("[0-9][0-9]-*.ipynb")):
            return place
    raise LabError(f"the course's notebooks are not where they should be, in {package / 'notebooks'}: install it again")


def notebooks() -> list[Path]:
    """The course in its order."""
    return sorted(folder().glob("[0-9][0-9]-*.ipynb"))


def copy(target: Path) -> Copied:
    """Copies the course into a folder, which is made where there is none.

    Raises:
        LabError: when the folder cannot be written to, or is the course's own.
    """
    if target.resolve() == folder().resolve():
        raise LabError(f"{target} is where the course itself lies: copy it to another folder with --dir")
    copied = Copied()
    try:
        target.mkdir(parents=True, exist_ok=True)
        before = _record(target)
        record = dict(before)
        for source in notebooks():
            _copy(source, target / source.name, before, record, copied)
        _write(target / RECORD, json.dumps(record, indent=2).encode())
    except OSError as error:
        raise LabError(f"cannot copy the course to {target}: {error.strerror or error}") from error
    return copied


def _copy(source: Path, place: Path, before: dict[str, str], record: dict[str, str], copied: Copied) -> None:
    content = source.read_bytes()
    digest = _digest(content)
    if not place.exists():
        copied.new.append(source.name)
    else:
        there = _digest(place.read_bytes())
        if there == digest:
            copied.same.append(source.name)
            record[source.name] = digest
            return
        if before.get(source.name) != there:
            copied.kept.append(source.name)
            return
        copied.updated.append(source.name)
    _write(place, content)
    record[source.name] = digest


def _record(target: Path) -> dict[str, str]:
    """File -> digest of what was copied there. One that cannot be read counts as none: everything is then kept."""
    try:
        found = json.loads((target / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}


def _write(place: Path, content: bytes) -> None:
    """All or nothing: a full disk or a power cut leaves the file that was there."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".copying-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def told(copied: Copied, target: Path) -> Iterable[str]:
    """What was done, line by line, for a terminal."""
    done = [
        f"{len(names)} {word}"
        for names, word in ((copied.new, "new"), (copied.updated, "brought up to date"), (copied.same, "unchanged"))
        if names
    ]
    if done:
        yield f"The course is in {target}: {', '.join(done)}."
    for name in copied.kept:
        yield f"Kept {name}, which you have changed; rename it and run this again to have the course's own beside it."
