"""The locks of this kernel's notebook: found again when a cell is run again, after a restart, and on another day.

A lock is looked for in this kernel's memory, in the notebook's file, and in the user's state folder; of what is found,
the first in time counts. Outside of a notebook nothing is looked for, and nothing is written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import psutil

from lab.insight import lock_files
from lab.insight.lock_files import Notebook
from lab.insight.locks import Asked, Earlier, earlier
from widgets.notebook import cells

_memory: list[Asked] = []
"""What this kernel has asked and locked."""
_counted: dict[tuple[str, str], tuple[int, list[str]]] = {}
"""Cell -> its execution count, and the questions that it has asked then."""
_guard = threading.Lock()


def here(asked: Asked) -> Asked:
    """The question, with the cell that asks it now."""
    cell, source, count = cells.current()
    key = (cell, lock_files.digest(source))
    with _guard:
        before, questions = _counted.get(key, (count, []))
        questions = questions if before == count else []
        place = questions.count(asked.question)
        _counted[key] = (count, [*questions, asked.question])
    return replace(asked, cell=cell, source=key[1], place=place)


def find(asked: Asked) -> Earlier:
    """What is known from before of a question that this cell asks."""
    if not _in_kernel():
        return Earlier()
    path = notebook()
    book = lock_files.in_notebook(path)
    with _guard:
        memory = list(_memory)
    found = [*memory, *book.asked, *(lock_files.remembered(path) if path is not None else ())]
    return earlier(asked, [each for each in found if _belongs(each, asked, book, memory)])


def keep(asked: Asked) -> None:
    """Keeps a question, and its answer when it has one, for `find`."""
    if not _in_kernel():
        return
    with _guard:
        _memory.append(asked)
    path = notebook()
    if path is not None:
        lock_files.remember(path, asked)


def notebook() -> Path | None:
    """The file of the notebook that this kernel works for; None where there is none, or nobody says which."""
    ip = cells.shell()
    told = [ip.user_ns.get("__vsc_ipynb_file__") if _in_kernel() else None, _session()]
    for each in told:
        for path in _paths(each) if isinstance(each, str) else ():
            if path.suffix == ".ipynb" and path.is_file():
                return path
    return None


def _in_kernel() -> bool:
    return getattr(cells.shell(), "kernel", None) is not None


def _session() -> str | None:
    """What Jupyter's server calls this kernel's session; None when it is only inherited, as by a notebook that another
    one's kernel runs."""
    name = os.environ.get("JPY_SESSION_NAME")
    try:
        inherited = psutil.Process(os.getppid()).environ().get("JPY_SESSION_NAME") == name
    except (psutil.Error, OSError):
        inherited = False
    return None if inherited else name


def _paths(name: str) -> Iterable[Path]:
    """Where that may be: as it is named, in the folder that the kernel works in, or without the name of a drive."""
    yield Path(name)
    yield Path.cwd() / Path(name).name
    yield Path.cwd() / name.rpartition(":")[2].rpartition("/")[2]


def _belongs(each: Asked, now: Asked, book: Notebook, memory: list[Asked]) -> bool:
    """Whether it was asked by this cell, and not by another one with the same words."""
    if each.question != now.question or each.place != now.place:
        return False
    if _same_cell(each, now):
        return True
    if each.cell in book.cells or any(
        other.locked_s == each.locked_s and not _same_cell(other, now) for other in memory
    ):
        return False  # that cell is still there
    return each.source == now.source or each.source not in book.sources


def _same_cell(one: Asked, other: Asked) -> bool:
    return one.cell == other.cell if one.cell and other.cell else one.source == other.source
