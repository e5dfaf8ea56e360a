"""How long each notebook of the course takes, from its first cell to its last, without a click.

    python -m tests.benchmarks.notebooks [00 03 ...]

The kernel's start is left out. With PARALLEL_LAB_LONG=1 it is the long form, with whole epochs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from lab.course import files, long_form
from lab.course.executing import CELL_SECONDS, LONG_CELL_SECONDS, execute, read
from lab.devices import cores
from tests.benchmarks.common import print_table


def main() -> None:
    wanted = sys.argv[1:]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in files.notebooks():
            if wanted and path.stem[:2] not in wanted:
                continue
            book = read(path)
            seconds = execute(book, Path(folder), LONG_CELL_SECONDS if long_form() else CELL_SECONDS)
            rows.append((path.stem, str(len(book.cells)), f"{seconds:.0f} s"))
    form = "long" if long_form() else "short"
    print_table(f"The course's {form} form on {cores()} cores", ("notebook", "cells", "time"), rows)


if __name__ == "__main__":
    main()
