"""The course's first notebook in a real JupyterLab, as a student uses it: run all, drag, watch, stop, restart."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from lab.course import files
from tests.widgets.notebook.jupyter import FLAGS, POINTS, Lab, chromium, jupyter_lab, shot, until, workers

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
BLOCKING = "import time\nfor _ in range(3000): time.sleep(0.1)"
NOTEBOOK = "jupyterapp.shell.currentWidget.content"


@pytest.fixture
def tour(tmp_path: Path) -> Iterator[Lab]:
    path = chromium()
    if path is None:
        message = "no Chromium on the PATH"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    notebook = files.notebooks()[0]
    shutil.copy(notebook, tmp_path)
    with sync_playwright() as playwright, jupyter_lab(tmp_path) as url:
        browser: Browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        lab = Lab(browser, url, notebook.name)
        yield lab
        lab.close()
        browser.close()
    assert lab.errors == []


def with_code(lab: Lab, line: str) -> int:
    """The number of the code cell that begins with a line."""
    sources = lab.page.evaluate(
        f"{NOTEBOOK}.widgets.filter(c => c.model.type === 'code').map(c => c.model.sharedModel.source)"
    )
    found = [index for index, source in enumerate(sources) if line in source.splitlines()]
    assert len(found) == 1, found
    return found[0]


def run_all(lab: Lab) -> None:
    lab.command("Run", "Run All Cells")
    lab.page.wait_for_function(
        f"{NOTEBOOK}.widgets.every(c => c.model.type !== 'code' || c.model.executionCount > 0)", timeout=180_000
    )
    failed = lab.page.locator(".jp-Notebook [data-mime-type='application/vnd.jupyter.error']")
    assert failed.all_inner_texts() == []


def append(lab: Lab, source: str) -> int:
    """Adds a cell at the end; its number among the code cells."""
    lab.page.evaluate(
        f"""async source => {{
            {NOTEBOOK}.activeCellIndex = {NOTEBOOK}.widgets.length - 1;
            await jupyterapp.commands.execute('notebook:insert-cell-below');
            {NOTEBOOK}.activeCell.model.sharedModel.setSource(source);
        }}""",
        source,
    )
    return lab.page.locator(".jp-Notebook .jp-CodeCell").count() - 1


def drag(lab: Lab, board: Locator, layer: str, device: str) -> None:
    board.scroll_into_view_if_needed()
    start = board.locator(f"[data-layer={layer}] .lab-hold").bounding_box()
    end = board.locator(f".lab-lane[data-device='{device}'] header").bounding_box()
    assert start is not None
    assert end is not None
    mouse = lab.page.mouse
    mouse.move(start["x"] + 30, start["y"] + 12)
    mouse.down()
    mouse.move(end["x"] + 60, end["y"] + 8, steps=6)
    mouse.up()


def test_the_tour_from_run_all_to_restart(tour: Lab) -> None:
    lab, page = tour, tour.page
    run_all(lab)
    panel = lab.output(with_code(lab, "panel = LabPanel(experiment)"))
    expect(panel).to_contain_text("Finished")
    assert page.evaluate(POINTS) > 10
    assert not workers()

    # A layer is dragged, and the next run has it there.
    expect(panel.locator("[data-device='vgpu:1'] [data-layer=conv2]")).to_be_visible()
    drag(lab, panel, "conv2", "vgpu:0")
    expect(panel.locator("[data-device='vgpu:0'] [data-layer=conv2]")).to_be_visible()
    panel.get_by_label("Train for").fill("1000000")
    page.keyboard.press("Tab")
    panel.get_by_role("button", name="Run again", exact=True).click()
    until(workers)

    # While another cell blocks the kernel, the loss figure goes on, and Stop stops.
    blocking = append(lab, BLOCKING)
    lab.run(blocking)
    expect(lab.cell(blocking).locator(".jp-InputPrompt").first).to_have_text("[*]:")
    before = page.evaluate(POINTS)
    page.wait_for_function(f"{POINTS} > {before} + 5")
    panel.scroll_into_view_if_needed()
    shot(lab, "tour-light")
    panel.get_by_role("button", name="Stop", exact=True).click()
    expect(panel).to_contain_text("Stopped after")
    until(lambda: not workers())
    expect(lab.cell(blocking).locator(".jp-InputPrompt").first).to_have_text("[*]:")

    # Started again while the cell still blocks; an interrupt ends both.
    panel.get_by_role("button", name="Run again", exact=True).click()
    until(workers)
    lab.command("Kernel", "Interrupt Kernel")
    expect(lab.output(blocking)).to_contain_text("KeyboardInterrupt")
    until(lambda: not workers())
    expect(panel).to_contain_text("Stopped after")
    placed = append(lab, "panel.run.state.placed.layers == panel.experiment.placement, panel.run.state.placed.layers")
    lab.run(placed)
    expect(lab.output(placed)).to_contain_text("'conv2': 'vgpu:0', 'fc1': 'vgpu:1'")

    # In the dark, a run that a restart of the kernel ends.
    lab.dark()
    panel.get_by_role("button", name="Run again", exact=True).click()
    until(workers)
    page.wait_for_function(f"{POINTS} > 20")
    colors = page.evaluate("JSON.stringify(document.querySelector('.parallel-lab-plot').layout.font.color)")
    assert json.loads(colors) == "#e8edf3"
    panel.scroll_into_view_if_needed()
    shot(lab, "tour-dark")
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    until(lambda: not workers())
