"""A fresh copy of a notebook in the place of one that was changed, which is kept beside it under another name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.course import files
from lab.errors import LabError, did_you_mean
from lab.insight import lock_files


@dataclass(frozen=True, slots=True)
class Reset:
    """What was done with a notebook."""

    name: str
    kept: str | None
    """The name that the earlier one has now; None where there was none, or nothing in it had been changed."""
    fresh: bool = True
    """Whether it was written; False where it was the course's own already."""


def named(words: Sequence[str]) -> list[Path]:
    """The notebooks that are meant by `05`, `5`, `05-microbatches` or `05-microbatches.ipynb`, each once.

    Raises:
        LabError: for a word that means none.
    """
    books = {book.stem: book for book in files.notebooks()}
    found = []
    for word in words:
        stem = Path(word.strip()).name.removesuffix(".ipynb")
        number = f"{int(stem):02d}" if stem.isascii() and stem.isdecimal() else None
        match = [book for name, book in books.items() if name == stem or (number and name.startswith(f"{number}-"))]
        if not match:
            numbers = [name[:2] for name in books]
            raise LabError(
                f"{word!r} is no notebook of the course: write a number from {numbers[0]} to {numbers[-1]}, or the "
                f"file's name{did_you_mean(stem, list(books))}"
            )
        found += match
    return list(dict.fromkeys(found))


def reset(words: Sequence[str], target: Path) -> list[Reset]:
    """Brings fresh copies of these notebooks. No file is ever overwritten: what was there is renamed.

    Raises:
        LabError: for a word that means no notebook, a folder without the course, or one that cannot be written to;
            the file that could not be renewed is as it was.
    """
    books = named(words)
    files.refuse_own(target)
    if not target.is_dir():
        raise LabError(f"there is no folder {target}: say with --dir where your copy of the course is")
    if not any((target / book.name).exists() for book in files.notebooks()):
        raise LabError(f"there is no notebook of the course in {target}: say with --dir where your copy of it is")
    done = [_reset(book, target) for book in books]
    for book in books:
        lock_files.forget(target / book.name)  # predictions that were locked there are of the earlier one
    return done


def _reset(book: Path, target: Path) -> Reset:
    place, content = target / book.name, files.content(book)
    try:
        kept = None
        if not place.exists():
            files.write(place, content)
        elif place.read_bytes() == content:
            return Reset(book.name, None, fresh=False)
        else:
            moved: list[Path] = []
            files.write(place, content, lambda: moved.append(_moved(place)))
            kept = moved[0].name
        files.write_record(target, {**files.read_record(target), book.name: files.digest(content)})
    except OSError as error:
        raise LabError(f"cannot renew {place}: {error.strerror or error}") from error
    return Reset(book.name, kept)


def _moved(place: Path) -> Path:
    """Renames the file to the first free name `05-microbatches-yours-1.ipynb`."""
    number = 1
    while True:
        kept = place.with_name(f"{place.stem}-yours-{number}{place.suffix}")
        try:
            kept.open("x").close()  # nobody else takes the name meanwhile
        except FileExistsError:
            number += 1
        else:
            return place.replace(kept)


def told(done: Reset, target: Path) -> str:
    """What was done, for a terminal."""
    if not done.fresh:
        return f"{target / done.name} is the course's own already: nothing was changed."
    if done.kept is None:
        return f"{target / done.name} is new."
    return f"{target / done.name} is new; yours is {done.kept} now."
