"""How the commands end.

Exit codes: 0 finished, 1 failed, 2 bad input, 130 stopped by Ctrl-C, 141 when the reader of a pipe went away.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from lab import streams
from lab.errors import ExperimentError, LabError

FAILED, BAD_INPUT, STOPPED, PIPE_CLOSED = 1, 2, 130, 141


@contextmanager
def as_exit_codes() -> Iterator[None]:
    """Errors that the lab raises on purpose become sentences on stderr, as do those of files and of the disk; a reader
    that went away ends it quietly."""
    try:
        yield
    except ExperimentError as error:
        complain(str(error))
        raise typer.Exit(BAD_INPUT) from None
    except LabError as error:
        complain(str(error))
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(STOPPED) from None
    except OSError as error:
        raise typer.Exit(_without_output(error)) from None


@contextmanager
def whole_command() -> Iterator[None]:
    """Around a whole command: it has all three streams, also where it was started without; and when what it wrote does
    not arrive, its exit code says so."""
    streams.replace()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows ? and goes on
    try:
        yield
    except SystemExit as ending:
        if _follows_broken_pipe(ending):
            raise SystemExit(PIPE_CLOSED) from None
        _flush(ending.code)
        raise
    except OSError as error:  # from what is said of the options themselves
        raise SystemExit(_without_output(error)) from None
    _flush(0)


def complain(text: str) -> None:
    """Says what is wrong on stderr, if anybody can hear it."""
    with contextlib.suppress(OSError):
        typer.echo(f"parallel-lab: {text}", err=True)


def _follows_broken_pipe(error: BaseException | None) -> bool:
    """True for what click and rich, which write the help, make of a reader that went away."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__context__
    return error is not None


def _flush(code: str | int | None) -> None:
    """Sends what is still buffered; an exit code that says already what went wrong stays."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise SystemExit(code or _without_output(error)) from None


def _without_output(error: OSError) -> int:
    """The exit code when something could not be written or read, which is said."""
    _write_nowhere()
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    reason = error.strerror or str(error) or type(error).__name__
    complain(f"{error.filename}: {reason}" if error.filename else f"the output cannot be written: {reason}")
    return FAILED


def _write_nowhere() -> None:
    """What is still buffered goes nowhere, or Python would complain while it shuts down."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
