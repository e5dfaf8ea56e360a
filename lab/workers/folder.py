"""A run's folder: the board, the rendezvous and the ranks' stacks are in it, for as long as the run lasts.

The parent removes it, or the ranks when their parent has died. When all are killed at once nobody is left to, so the
next process that starts a run does. It knows an abandoned folder by a lock, which ends with the process that holds it.
"""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

PREFIX = "parallel-lab-"
_LOCK = "alive"
_YOUNG_SECONDS = 60.0
"""A folder as young as this may be about to be locked."""


class Folder:
    """Made empty, with a lock on it until it is removed.

    Raises:
        OSError: where the folder for temporary files takes none, because the disk is full, say.
    """

    def __init__(self) -> None:
        _sweep_once()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            self._lock = (self.path / _LOCK).open("w")
            _try_lock(self._lock)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def remove(self) -> None:
        """Removes it, with all that is in it."""
        self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)


def sweep(root: Path) -> None:
    """Removes the folders in `root` whose runs have ended without removing them."""
    for lock in root.glob(f"{PREFIX}*/{_LOCK}"):
        try:
            young = time.time() - lock.parent.stat().st_mtime < _YOUNG_SECONDS
            with lock.open("r+") as file:
                abandoned = not young and _try_lock(file)
        except OSError:
            continue  # it is another user's, or has just gone
        if abandoned:
            shutil.rmtree(lock.parent, ignore_errors=True)


@functools.cache
def _sweep_once() -> None:
    sweep(Path(tempfile.gettempdir()))


def _try_lock(file: IO[str]) -> bool:
    """Locks a file until it is closed; False where another process has, and where there are no such locks: on Windows,
    on some network file systems."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
