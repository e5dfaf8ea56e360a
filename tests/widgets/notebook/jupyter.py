"""A real JupyterLab with a notebook made by the test, and the browser that looks at it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

import nbformat
import psutil
from playwright.sync_api import Browser, Locator, Page, expect

ROOT = Path(__file__).parents[3]
TOKEN = "parallel-lab-test"
PATIENCE_MS = 90_000
"""The first run of a session also loads torch and the data, and the machine may be busy."""
expect.set_options(timeout=PATIENCE_MS)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
POINTS = "document.querySelectorAll('.parallel-lab-plot')[0]?.data?.[0]?.x?.length ?? 0"
"""How many points the first figure's first line has."""


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def notebook(path: Path, cells: Sequence[str]) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """Serves the folder; yields the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    options = ["--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}"]
    options += [f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    # Otherwise it asks whether to fetch news from the network.
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, cwd=folder, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: server.poll() is not None or _answers(url))
        assert server.poll() is None, (folder / "server.log").read_text()
        yield url
    finally:
        family = [server, *psutil.Process(server.pid).children(recursive=True)] if server.poll() is None else []
        server.terminate()
        server.wait(20)
        _, left = psutil.wait_procs([each for each in family if isinstance(each, psutil.Process)], 10)
        for process in left:
            process.kill()
        assert not left, f"left behind: {left}"


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urlopen(f"{url}/api").read())
    return False


class Lab:
    """A notebook in a browser tab."""

    def __init__(self, browser: Browser, url: str, name: str, width: int = 1280, height: int = 1500) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{url}/lab/tree/{name}?token={TOKEN}&reset")
        expect(self.page.locator(".jp-Notebook .jp-Cell").first).to_be_visible()
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus === 'connected' "
            "&& jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
        )

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(index)

    def output(self, index: int) -> Locator:
        return self.cell(index).locator(".jp-Cell-outputArea")

    def run(self, index: int) -> None:
        self.cell(index).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def finished(self, index: int) -> None:
        expect(self.cell(index).locator(".jp-InputPrompt").first).to_have_text(re.compile(r"\[\d+\]:"))

    def command(self, menu: str, entry: str) -> None:
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{menu}$")).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}")).first.click()

    def dark(self) -> None:
        self.page.evaluate("jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-light", "false")

    def close(self) -> None:
        self.context.close()


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def workers() -> list[int]:
    """The runs' workers below this process: children of a forkserver."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = process.parent()
            is_worker = parent is not None and "forkserver import main" in " ".join(parent.cmdline())
            if is_worker and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def shot(lab: Lab, name: str) -> None:
    """Keeps a picture where PARALLEL_LAB_SCREENSHOTS says, for somebody to look at."""
    folder = os.environ.get("PARALLEL_LAB_SCREENSHOTS")
    if folder:
        lab.page.wait_for_timeout(1_500)
        lab.page.screenshot(path=str(Path(folder) / f"{name}.png"))
