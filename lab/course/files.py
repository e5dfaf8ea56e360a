"""The course's files: where they lie, and how they are copied without ever losing what a student wrote.

A copy remembers, in `.parallel-lab.json` beside it, what each file was when it was copied. A file that is still that is
brought up to date; one that has been changed since, or was there before, is kept. What the notebooks link to in `docs/`
comes along, so that a link leads somewhere in both places.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError

RECORD = ".parallel-lab.json"
_LINK = re.compile(rb"\]\(\.\./(docs/[^)#]+)")
"""In a notebook, to a file of the documentation, which lies beside the notebooks' folder."""
_BESIDE = re.compile(rb"\]\(([\w./-]+)\)")
"""In the documentation, to a file of its own."""


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


def content(notebook: Path) -> bytes:
    """The notebook as it is in a copy of the course, which has `docs/` inside."""
    return re.sub(rb"\]\(\.\./docs/", b"](docs/", notebook.read_bytes())


def companions() -> list[str]:
    """What the notebooks link to, `docs/...`, and what those files link to."""
    home = folder().parent
    found = list(dict.fromkeys(link.decode() for each in notebooks() for link in _LINK.findall(each.read_bytes())))
    for name in found:  # grows meanwhile
        if name.endswith(".md"):
            links = [str(Path(name).parent / link.decode()) for link in _BESIDE.findall((home / name).read_bytes())]
            found += [link for link in dict.fromkeys(links) if link not in found and (home / link).is_file()]
    return found


def bring_companions(target: Path) -> None:
    """Writes what the notebooks link to below that folder.

    Raises:
        OSError: when it cannot be written to.
    """
    for name in companions():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((folder().parent / name).read_bytes())


def copy(target: Path) -> Copied:
    """Copies the course into a folder, which is made where there is none.

    Raises:
        LabError: when the folder cannot be written to, or is the course's own.
    """
    refuse_own(target)
    copied, beside = Copied(), Copied()
    try:
        target.mkdir(parents=True, exist_ok=True)
        before = read_record(target)
        record = dict(before)
        for source in notebooks():
            _copy(source.name, content(source), target, before, record, copied)
        for name in companions():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            _copy(name, (folder().parent / name).read_bytes(), target, before, record, beside)
        write_record(target, record)
    except OSError as error:
        raise LabError(f"cannot copy the course to {target}: {error.strerror or error}") from error
    copied.kept += beside.kept
    return copied


def refuse_own(target: Path) -> None:
    """Nothing is copied onto the course itself.

    Raises:
        LabError: for its own folder.
    """
    if target.resolve() == folder().resolve():
        raise LabError(f"{target} is where the course itself lies: copy it to another folder with --dir")


def _copy(
    name: str, content: bytes, target: Path, before: dict[str, str], record: dict[str, str], copied: Copied
) -> None:
    place, new = target / name, digest(content)
    if not place.exists():
        copied.new.append(name)
    else:
        there = digest(place.read_bytes())
        if there == new:
            copied.same.append(name)
            record[name] = new
            return
        if before.get(name) != there:
            copied.kept.append(name)
            return
        copied.updated.append(name)
    write(place, content)
    record[name] = new


def read_record(target: Path) -> dict[str, str]:
    """File -> digest of what was copied there. One that cannot be read counts as none: everything is then kept."""
    try:
        found = json.loads((target / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}


def write_record(target: Path, record: dict[str, str]) -> None:
    write(target / RECORD, json.dumps(record, indent=2).encode())


def write(place: Path, content: bytes, make_room: Callable[[], object] = bool) -> None:
    """All or nothing: a full disk or a power cut leaves the file that was there.

    Args:
        make_room: called when all of the new file is on the disk, and the one that was there is as it was.
    """
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".copying-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        make_room()
        Path(name).replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def digest(content: bytes) -> str:
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
        yield f"Kept {name}, which you have changed."
    numbers = [name[:2] for name in copied.kept if name.endswith(".ipynb")]
    if numbers:
        again = " ".join(f"--reset {number}" for number in numbers)
        command = f"parallel-lab notebooks --dir {shlex.quote(str(target))} {again}"
        yield f"`{command}` brings the course's own, and keeps yours beside it."
