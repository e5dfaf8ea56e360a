"""Runs a notebook from top to bottom in a kernel of its own, as "Run All Cells" does."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

CELL_SECONDS = 120.0
"""A cell of the short form takes a few seconds; on a machine that is busy with other things, several times as long."""
LONG_CELL_SECONDS = 1800.0


def read(path: Path) -> NotebookNode:
    import nbformat

    book: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return book


def execute(
    book: NotebookNode, folder: Path, cell_seconds: float = CELL_SECONDS, environment: Mapping[str, str] | None = None
) -> float:
    """Fills in the outputs; the seconds that it took, the kernel's start left out.

    Args:
        folder: the kernel's working directory.
        cell_seconds: what takes longer is interrupted, and raises.
        environment: variables of the kernel, besides this process's own.

    Raises:
        nbclient.exceptions.CellExecutionError: with the cell and its traceback.
        nbclient.exceptions.CellTimeoutError: for a cell that takes too long.
    """
    from nbclient import NotebookClient

    client = NotebookClient(book, timeout=cell_seconds, kernel_name="python3", store_widget_state=True)
    settings: dict[str, Any] = {"env": {**os.environ, **(environment or {})}, "cwd": str(folder)}
    with client.setup_kernel(**settings):
        began = time.monotonic()
        for index, cell in enumerate(book.cells):
            client.execute_cell(cell, index)
        seconds = time.monotonic() - began
        client.set_widgets_metadata()
    return seconds
