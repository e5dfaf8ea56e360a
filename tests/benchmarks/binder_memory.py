"""What a server on Binder takes of its 2 GB: JupyterLab, a notebook's kernel with a panel and a run of two ranks, and
the page from its tile with a run of two ranks of its own, all at the same time.

    python -m tests.benchmarks.binder_memory [FOLDER]

Needs Linux and Chromium. FOLDER is kept, and holds the environment that tests/binder builds. PSS shares a page of
memory out among the processes that have it, so its sum is what all of them take together; USS is what would be free
again if that one process ended.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from playwright.sync_api import BrowserContext, Page, expect

from tests.benchmarks.common import print_table
from tests.binder.build import MEMORY_BYTES, Serving, build_or_reuse, serving
from tests.binder.check import POINTS, browser, run_cell

SECONDS = 15.0
"""How long each stage is watched."""
BOOK = "memory.ipynb"
PANEL = """\
import lab
from widgets.notebook import LabPanel
panel = LabPanel(lab.Experiment(strategy="ddp", world_size=2, steps=100_000))
panel.start()
panel"""
TWO_RANKS = "?strategy=ddp&world_size=2&steps=100000"


@dataclass(frozen=True, slots=True)
class Taken:
    """One process's memory, in bytes."""

    what: str
    pss: int
    uss: int


def main(folder: Path) -> None:
    built = build_or_reuse(folder)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PANEL)])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, built.repository / BOOK)
    with serving(built) as server, browser() as context:
        context.set_default_timeout(300_000)  # memory does not depend on how busy the machine is
        show("JupyterLab alone", peak(server.process, seconds=2))
        notebook(context, server)
        show("a notebook with a run of 2 ranks", peak(server.process))
        page(context, server)
        show("the page with a run of 2 ranks too", peak(server.process))


def notebook(context: BrowserContext, server: Serving) -> Page:
    """A notebook whose panel has a run that goes on."""
    lab = context.new_page()
    lab.goto(f"{server.url}lab/tree/{BOOK}?token={server.token}&reset")
    expect(lab.locator(".jp-Notebook-ExecutionIndicator").first).to_have_attribute("data-status", "idle")
    run_cell(lab, lab.locator(".jp-Notebook .jp-CodeCell").first)
    lab.wait_for_function("document.querySelector('.parallel-lab-plot')?.data?.[0]?.x?.length > 5")
    return lab


def page(context: BrowserContext, server: Serving) -> Page:
    """The page with a run that goes on; the browser has the server's cookie by now."""
    opened = context.new_page()
    opened.goto(f"{server.url}parallel-lab/{TWO_RANKS}")
    opened.wait_for_function(f"({POINTS}) > 5")
    return opened


def peak(server: psutil.Process, seconds: float = SECONDS) -> list[Taken]:
    """The whole family at the moment when it took most."""
    most: list[Taken] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max(most, family(server), key=lambda taken: sum(each.pss for each in taken))
        time.sleep(0.5)
    return most


def family(server: psutil.Process) -> list[Taken]:
    found = []
    for process in (server, *server.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            memory = process.memory_full_info()
            found.append(Taken(_name(process), memory.pss, memory.uss))
    return found


def _name(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    if "ipykernel_launcher" in words:
        return "kernel"
    if "lab serve" in words:
        return "page"
    if "resource_tracker" in words:
        return "multiprocessing's resource tracker"
    if "forkserver" in words:
        parent = process.parent()
        above = " ".join(parent.cmdline()) if parent is not None else ""
        return "rank" if "forkserver" in above else "forkserver"
    return "JupyterLab's server"


def show(title: str, taken: list[Taken]) -> None:
    def mb(size: int) -> str:
        return f"{size / 1e6:,.0f}"

    pss, uss = sum(each.pss for each in taken), sum(each.uss for each in taken)
    rows = [(each.what, mb(each.pss), mb(each.uss)) for each in taken]
    rows.append((f"together, of {mb(MEMORY_BYTES)}", mb(pss), mb(uss)))
    print_table(title, ("process", "PSS, MB", "USS, MB"), rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).absolute())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
