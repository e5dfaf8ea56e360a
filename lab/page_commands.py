"""The commands that serve the page: parallel-lab demo for one person, serve for many."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab.exit_codes import BAD_INPUT, FAILED, as_exit_codes

if TYPE_CHECKING:
    from lab.experiment import Experiment


def demo(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 7860 or the next free one by default.", min=0, max=65535)
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser on the page.")] = True,
) -> None:
    """Open the page: place layers, start the run, watch it live."""
    with as_exit_codes(), _page_installed():
        from widgets.web.serve import serve as open_page

        open_page(_opening(), host=host, port=port, open_browser=browser)


def _opening() -> Experiment:
    """What the page opens on: a preset, so that it says what to watch."""
    from widgets.web import presets

    return presets.all_presets()["naive"].experiment


@contextmanager
def _page_installed() -> Iterator[None]:
    """What the page needs and is not there becomes a sentence with the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("lab", "widgets"):
            raise
        missing = f"the page needs {error.name}, which is not installed: pip install {error.name}"
        typer.echo(f"parallel-lab: {missing}", err=True)
        raise typer.Exit(FAILED) from None


def serve(
    max_runs: Annotated[
        int | None,
        typer.Option(help="Runs at the same time; as many as cores by default, at least 2.", min=1, max=1000),
    ] = None,
    max_ranks: Annotated[int, typer.Option(help="Most worker processes of one run.", min=1, max=1000)] = 4,
    max_seconds: Annotated[
        float, typer.Option(help="Wall time after which a run is stopped; 0 for no bound.", min=0, max=1e6)
    ] = 600.0,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 7860 or the next free one by default.", min=0, max=65535)
    ] = None,
    auth_file: Annotated[
        Path | None, typer.Option(help="Who may come in: the file that --add-user writes.", metavar="FILE")
    ] = None,
    root_path: Annotated[
        str, typer.Option(help="Prefix under which a proxy shows the page, such as /lab.", metavar="PATH")
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name under which browsers may ask for the page, besides localhost; * for all. Can be repeated.",
            metavar="NAME",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="A proxy, or a network of them, whose X-Forwarded-For is believed. Can be repeated; none by default.",
            metavar="ADDRESS",
        ),
    ] = None,
    allow_faults: Annotated[
        bool, typer.Option("--faults/--no-faults", help="Let visitors break runs of their own on purpose.")
    ] = True,
    new_user: Annotated[
        str | None,
        typer.Option("--add-user", help="Ask for a password, write it to --auth-file, and end.", metavar="NAME"),
    ] = None,
) -> None:
    """Serve the page to many people: each tab has its own runs, and those who find no place wait in line."""
    with as_exit_codes(), _page_installed():
        if new_user is not None:
            _add_user(new_user, auth_file)
            return
        from widgets.web.leases import Budget
        from widgets.web.limits import Limits
        from widgets.web.serve import Sharing
        from widgets.web.serve import serve as open_page

        limits = Limits(ranks=max_ranks, seconds=max_seconds or None, faults=allow_faults)
        sharing = Sharing(
            limits,
            Budget.here(max_runs, max_ranks),
            auth_file,
            root_path,
            tuple(allow_host or ()),
            tuple(trusted_proxy or ()),
        )
        open_page(_opening(), host=host, port=port, open_browser=False, sharing=sharing)


def _add_user(name: str, path: Path | None) -> None:
    """Raises LabError when it cannot be done."""
    from widgets.web import auth

    if path is None:
        typer.echo("parallel-lab: --add-user needs --auth-file, the file to write to", err=True)
        raise typer.Exit(BAD_INPUT)
    # Without a terminal, such as in a script, the password is the first line of the input.
    password = (
        typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        if sys.stdin.isatty()
        else sys.stdin.readline().rstrip("\n")
    )
    auth.add_user(path, name, password)
    typer.echo(f"{name} may come in: parallel-lab serve --auth-file {shlex.quote(str(path))}")
