"""The command that brings the course: parallel-lab notebooks."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import psutil
import typer

from lab.exit_codes import FAILED, as_exit_codes

FOLDER = Path("parallel-lab-course")
"""Where the course is copied to, in the folder where the command is given."""


def notebooks(
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            help="Where to copy the course; made if need be. This folder if it has the course, else one inside.",
            metavar="FOLDER",
            show_default=str(FOLDER),
        ),
    ] = None,
    open_lab: Annotated[
        bool, typer.Option("--open/--no-open", help="Open JupyterLab there, or only copy the course.")
    ] = True,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Let JupyterLab open a browser.")] = True,
    reset: Annotated[
        list[str] | None,
        typer.Option(
            help="Only bring a fresh copy of this notebook, and keep yours beside it: 05, or the file's name. May be "
            "given several times.",
            metavar="NOTEBOOK",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Copy nothing: run every notebook, and write a page of each here.", metavar="FOLDER"),
    ] = None,
) -> None:
    """Copy the course to a folder of yours and open JupyterLab there. What you have changed is never overwritten."""
    from lab.course import files, resetting

    if directory is None:
        directory = Path() if Path(files.RECORD).exists() else FOLDER
    with as_exit_codes():
        if reset:
            words = [word for several in reset for word in several.split(",")]
            for done in resetting.reset(words, directory):
                typer.echo(resetting.told(done, directory))
            return
        if html is not None:
            from widgets.notebook import pages

            for page in pages.render(files.notebooks(), html):
                typer.echo(f"{page.path} ({page.seconds:.0f} s)")
            return
        for line in files.told(files.copy(directory), directory):
            typer.echo(line)
        if open_lab:
            raise typer.Exit(_open(directory, browser))


def _open(directory: Path, browser: bool) -> int:
    """JupyterLab on the course's first notebook, until it is ended; its exit code."""
    from lab.course import files

    if importlib.util.find_spec("jupyterlab") is None:
        typer.echo("parallel-lab: JupyterLab is not installed: pip install jupyterlab", err=True)
        return FAILED
    first = files.notebooks()[0].name
    command = [sys.executable, "-m", "jupyterlab", first, *([] if browser else ["--no-browser"])]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in a container; JupyterLab would refuse
        command.append("--allow-root")
    # Ctrl-C reaches JupyterLab too, which asks whether it is meant; this process only waits for it. What ends this
    # process alone is passed on: JupyterLab, its kernels and their workers would stay behind.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None)}
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            number = getattr(signal, name)
            before[number] = signal.signal(number, _pass_on)
    try:
        return subprocess.run(command, cwd=directory, check=False).returncode
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(number: int, frame: FrameType | None) -> None:
    """Ends JupyterLab, for whose end the command waits."""
    children = psutil.Process().children()
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.terminate()
    if not children:
        raise SystemExit(128 + number)
