"""The cache folder: prepared data sets are kept there, and get there whole or not at all.

A data set is transformed once, saved as one file of tensors, and mapped into memory by every later start: it opens in
a millisecond, and the ranks of one machine share its pages. Files are written beside their place and then moved into
it, one process at a time, so nobody ever sees half of one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from lab.data import REGISTRY, Dataset
from lab.errors import DataError
from lab.events import DataSource

FOLDER_VARIABLE = "PARALLEL_LAB_CACHE"
LOCK_SECONDS = 300.0
_PARTS = ("train_inputs", "train_targets", "test_inputs", "test_targets")
_CHECKED_SAMPLES = 16


def folder() -> Path:
    """The folder named in the environment variable PARALLEL_LAB_CACHE, or the user's own cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    import platformdirs

    return platformdirs.user_cache_path("parallel-lab", appauthor=False)


def prepared(name: str, key: str, make: Callable[[], tuple[Tensor, Tensor, Tensor, Tensor]]) -> Dataset:
    """A data set of the registry, from the cache, or made now and put there.

    Args:
        name: in the registry.
        key: says how `make` makes it; a file with another key is stale and made anew, as is a damaged one.
        make: gives train inputs, train targets, test inputs and test targets.

    Raises:
        DataError: when the cache folder cannot be written, or its disk is full.
    """
    path = folder() / "processed" / f"{name}.pt"
    parts = _read(path, key)
    if parts is None:
        with locked(path):
            parts = _read(path, key)  # another process may have made it while this one waited
            if parts is None:
                _save(path, key, dict(zip(_PARTS, make(), strict=True)))
                parts = _read(path, key)
    if parts is None:
        raise DataError(
            f"{path} was written but reads back damaged. Check that disk, or set {FOLDER_VARIABLE} to a folder on "
            "another one."
        )
    entry = REGISTRY[name]
    samples = len(parts["train_inputs"]), len(parts["test_inputs"])
    return Dataset(DataSource(name, entry.title, *samples, entry.origin), **parts)


def write(path: Path, size_bytes: int, fill: Callable[[BinaryIO], object]) -> None:
    """Writes a file whole or not at all; `fill` writes its content. Call it while holding the file's lock.

    `size_bytes` is only for the error of a full disk.

    Raises:
        DataError: when the folder cannot be written, or the disk is full.
    """
    with _explained(path, size_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())  # the content must be on the disk before the name is
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lets one process (and thread) at a time prepare `path`. The lock goes with its holder, even a killed one.

    Raises:
        DataError: when the folder cannot be written, or another process holds the lock for five minutes.
    """
    import filelock  # only here, because a start from a filled cache needs no lock

    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise DataError(
                f"Another process has been preparing {path} for {LOCK_SECONDS:.0f} seconds. Wait for it or end it, "
                f"or set {FOLDER_VARIABLE} to another folder."
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _explained(path: Path, size_bytes: int = 0) -> Iterator[None]:
    """Turns an OSError while writing `path` into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = (
                f"The disk is full: {path} ({size_bytes / 1e6:.1f} MB) could not be written. Free some space on it, "
                f"or set {FOLDER_VARIABLE} to a folder on another disk."
            )
        else:
            text = (
                f"The cache folder {path.parent} cannot be written ({error.strerror or error}). Set {FOLDER_VARIABLE} "
                "to a folder that can be written."
            )
        raise DataError(text) from error


class _Destination:
    """A file for torch.save, which reports a full disk as an internal error of its own, that keeps the real one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _save(path: Path, key: str, parts: dict[str, Tensor]) -> None:
    parts = {part: tensor.contiguous() for part, tensor in parts.items()}

    def fill(file: BinaryIO) -> None:
        destination = _Destination(file)
        try:
            torch.save({"key": key, "check": _check(parts), "parts": parts}, destination)  # type: ignore[arg-type]
        except RuntimeError:
            if destination.error is not None:
                raise destination.error from None
            raise

    write(path, sum(tensor.nbytes for tensor in parts.values()), fill)


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """The tensors of a processed file, mapped into memory, or None when it is missing, damaged or stale.

    The mapping is private: whoever writes into the tensors changes neither the file nor what other processes see.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        if content["key"] != key or set(content["parts"]) != set(_PARTS):
            return None
        parts: dict[str, Tensor] = content["parts"]
        if not all(isinstance(part, Tensor) for part in parts.values()):
            return None
        return parts if content["check"] == _check(parts) else None
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, EOFError, pickle.UnpicklingError):
        return None


def _check(parts: dict[str, Tensor]) -> int:
    """A checksum of the shapes and of some samples from first to last; one of all would cost every start 0.1 s."""
    total = 0
    for part in _PARTS:
        array = parts[part].numpy()  # NumPy takes rows on one thread; torch would wake all of its own, of every rank
        total = zlib.crc32(f"{part} {array.dtype} {array.shape}".encode(), total)
        rows = [round(row) for row in np.linspace(0, len(array) - 1, min(len(array), _CHECKED_SAMPLES))]
        total = zlib.crc32(array[rows].tobytes(), total)
    return total
