"""The three streams that every process has, and that some are started without: as services, or by `>&-` in a shell.

Their numbers would go to the next files that are opened, pipes of worker processes among them, and what is written to
stdout or stderr would go there.
"""

from __future__ import annotations

import os
import sys


def fill() -> None:
    """Has those of the three numbers lead nowhere that are closed, for this process and for those that it starts."""
    for number in range(3):
        if not _is_open(number):
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def replace() -> None:
    """As `fill`, and gives Python the streams that it has none for."""
    fill()
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="replace")  # noqa: SIM115 - it stays open to the end
            setattr(sys, name, stream)
