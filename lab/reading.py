"""Reads the text files that people write: whatever is wrong with one is said in a sentence."""

from __future__ import annotations

import codecs
import json
import os
import select
import stat
import sys
from pathlib import Path
from typing import Any, NoReturn

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_BYTES = 4_000_000
"""No file of settings is longer."""
PIPE_SECONDS = 5.0
"""For which a pipe's writer may keep its reader waiting."""
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""What some editors put before the text, and how the text is encoded then."""


class UnreadableError(ValueError):
    """A file that cannot be read, or text that means nothing; the text says why."""


def text_of(path: Path) -> str:
    """The text of a file, or of a pipe: UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        UnreadableError: with the reason.
    """
    try:
        content = _content(path.expanduser())
    except (OSError, ValueError, RuntimeError) as error:  # a path may be no path at all, or of a user who is not here
        raise UnreadableError(getattr(error, "strerror", None) or str(error)) from None
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableError("it is not UTF-8 text") from None


def _content(path: Path) -> bytes:
    # A pipe that nobody writes to would be waited for when it is opened.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb", buffering=0) as file:
        kind = os.fstat(file.fileno()).st_mode
        if not stat.S_ISFIFO(kind) and hasattr(os, "set_blocking"):
            os.set_blocking(file.fileno(), True)
        parts, left = [], MOST_BYTES + 1
        while left:
            if stat.S_ISFIFO(kind):
                _wait_for_writer(file.fileno())
            part = file.read(left)
            if not part:
                break
            parts.append(part)
            left -= len(part)
    if not left:
        raise UnreadableError(f"it is longer than {MOST_BYTES:,} bytes, so it holds something else")
    return b"".join(parts)


def _wait_for_writer(pipe: int) -> None:
    """Returns when there is something to read, or the writer has closed its end."""
    watch = select.poll()
    watch.register(pipe, select.POLLIN)
    if not watch.poll(PIPE_SECONDS * 1e3):
        raise UnreadableError(f"it is a pipe to which nobody has written anything for {PIPE_SECONDS:g} s")


def toml(text: str) -> dict[str, Any]:
    """What a text in TOML says.

    Raises:
        UnreadableError: with what is wrong, and where.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib's own is a ValueError
        _refuse("TOML", error)


def json_object(text: str) -> Any:
    """What a text in JSON says; as in TOML, nothing may be said twice.

    Raises:
        UnreadableError: with what is wrong, and where.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        _refuse("JSON", error)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found


def _refuse(form: str, error: Exception) -> NoReturn:
    reason = str(error)
    if isinstance(error, RecursionError):
        reason = "its brackets are nested too deeply"
    elif "integer string conversion" in reason:
        reason = f"it has a number of more than {sys.get_int_max_str_digits():,} digits"
    raise UnreadableError(f"cannot be read as {form}: {reason}") from None
