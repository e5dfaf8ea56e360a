"""How the commands end.

Exit codes: 0 finished, 1 failed, 2 bad input, 130 stopped by Ctrl-C, 141 when the reader of a pipe went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from lab.errors import ExperimentError, LabError

FAILED, BAD_INPUT, STOPPED, PIPE_CLOSED = 1, 2, 130, 141


@contextmanager
def as_exit_codes() -> Iterator[None]:
    """Errors that the lab raises on purpose become sentences on stderr; a reader that went away ends it quietly."""
    try:
        yield
    except ExperimentError as error:
        typer.echo(f"parallel-lab: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except LabError as error:
        typer.echo(f"parallel-lab: {error}", err=True)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(STOPPED) from None
    except BrokenPipeError:
        # What is still buffered goes nowhere, or Python would complain while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
