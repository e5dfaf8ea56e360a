"""Builds what Binder builds, starts it as Binder does, and opens JupyterLab on the tour and the page from its tile.

    python -m tests.binder.check            # in a temporary folder
    python -m tests.binder.check FOLDER     # built there and kept; what is there already is used again, as it is

It needs Chromium, and takes one to two minutes on two idle cores.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright

from tests.binder.build import ROOT, Serving, build_or_reuse, serving, size_bytes

PATIENCE_MS = 240_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
TOUR = json.loads((ROOT / "binder" / "jupyter_server_config.json").read_text())["LabApp"]["default_url"]
POINTS = "document.querySelector('[data-figure=loss] [data-plot]')?.data?.[0]?.x?.length ?? 0"


def main(folder: Path | None) -> None:
    with _timed("all of it"), tempfile.TemporaryDirectory() as temporary:
        with _timed("building"):
            built = build_or_reuse(folder or Path(temporary))
        print(f"the environment: {size_bytes(built.venv) / 1e9:.2f} GB", flush=True)
        with serving(built) as server, browser() as context:
            errors: list[str] = []
            context.on("page", lambda page: _listen(page, errors))
            with _timed("JupyterLab on the tour"):
                lab = open_tour(context, server)
            with _timed("the page from its tile"):
                open_page(context, lab, server)
            if errors:
                sys.exit(f"the browser's console has errors: {errors}")
    print("Binder: 2 passed, 0 failed")


def open_tour(context: BrowserContext, server: Serving) -> Page:
    """JupyterLab where the server's own address leads: on the tour, with a kernel that runs its first cells."""
    lab = context.new_page()
    lab.goto(f"{server.url}?token={server.token}")
    lab.wait_for_url(f"**{server.url.rstrip('/')[-10:]}{TOUR}*")
    expect(lab.locator(".jp-Notebook .jp-Cell").first).to_be_visible()
    expect(lab.locator(".jp-Notebook-ExecutionIndicator").first).to_have_attribute("data-status", "idle")
    for index in range(1, 4):  # the imports, the settings and the devices; the first one is for Colab
        cell = lab.locator(".jp-Notebook .jp-CodeCell").nth(index)
        run_cell(lab, cell)
        expect(cell.locator(".jp-InputPrompt").first).to_have_text(re.compile(r"\[\d+\]:"))
    expect(cell.locator(".jp-OutputArea-output").first).to_contain_text("vgpu:0")
    return lab


def run_cell(lab: Page, cell: Locator) -> None:
    prompt = cell.locator(".jp-InputPrompt").first
    while not re.search(r"\[[*\d]", prompt.inner_text()):  # a key that comes while all is being laid out is lost
        cell.locator(".cm-content").click()
        lab.keyboard.press("Control+Enter")
        lab.wait_for_timeout(1_000)


def open_page(context: BrowserContext, lab: Page, server: Serving) -> Page:
    """The page in a tab of its own, from the launcher's tile through the proxy; its loss figure gains points."""
    lab.keyboard.press("Control+Shift+L")
    tile = lab.locator(".jp-LauncherCard", has_text="Parallel Lab")
    expect(tile.locator("svg, img").first).to_be_visible()
    with context.expect_page() as opening:
        tile.click()
    page = opening.value
    page.wait_for_url(f"{server.url}parallel-lab/**")
    page.wait_for_function(f"({POINTS}) > 5")
    page.locator("#lab-stop").click()
    return page


@contextlib.contextmanager
def browser() -> Iterator[BrowserContext]:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        sys.exit("no Chromium on the PATH")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        context = chromium.new_context(viewport={"width": 1280, "height": 1000})
        context.set_default_timeout(PATIENCE_MS)
        yield context
        chromium.close()


def _listen(page: Page, errors: list[str]) -> None:
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))


@contextlib.contextmanager
def _timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else None)
