"""The panel in a real JupyterLab: it moves while another cell blocks, and Stop, interrupt and restart leave nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.widgets.notebook.jupyter import POINTS, Lab, jupyter_lab, notebook, shot, until, workers

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
CELLS = (
    "import lab\nfrom widgets.notebook import LabPanel\n"
    "panel = LabPanel(lab.Experiment(strategy='model_parallel', steps=1_000_000))\npanel",
    "import time\nfor _ in range(1200): time.sleep(0.1)",
    "panel.run.state.placed.layers",
)


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Lab]:
    notebook(tmp_path / "course.ipynb", CELLS)
    with jupyter_lab(tmp_path) as url:
        lab = Lab(browser, url, "course.ipynb")
        yield lab
        lab.close()
    assert lab.errors == []


def start(lab: Lab) -> None:
    """Runs the panel's cell and clicks Run."""
    lab.run(0)
    button = lab.output(0).get_by_role("button", name="Run", exact=True)
    expect(button).to_be_visible()
    button.click()
    lab.page.wait_for_function(f"{POINTS} > 5")


def test_a_panel_from_run_to_restart(opened: Lab) -> None:
    lab, page = opened, opened.page
    start(lab)

    # Another cell blocks the kernel; the figures go on, and keep the reader's zoom.
    lab.run(1)
    expect(lab.cell(1).locator(".jp-InputPrompt").first).to_have_text(re.compile(r"\[\*\]"))
    before = page.evaluate(POINTS)
    page.wait_for_function(f"{POINTS} > {before} + 5")
    for name in ("timeline", "graph", "memory"):
        index = ["loss", "timeline", "graph", "memory"].index(name)
        page.wait_for_function(f"document.querySelectorAll('.parallel-lab-plot')[{index}]?.data?.length > 2")
    plot = "document.querySelectorAll('.parallel-lab-plot')[0]"
    page.evaluate(f"{plot}.scrollIntoView({{block: 'center'}})")
    area = lab.output(0).locator(".parallel-lab-plot .nsewdrag").first.bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] * 0.1, area["y"] + area["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + area["height"] * 0.9, steps=5)
    page.mouse.up()
    zoomed = page.evaluate(f"{plot}._fullLayout.xaxis.range.map(x => Math.round(10 * x))")
    before = page.evaluate(POINTS)
    page.wait_for_function(f"{POINTS} > {before} + 5")
    assert page.evaluate(f"{plot}._fullLayout.xaxis.range.map(x => Math.round(10 * x))") == zoomed
    page.mouse.dblclick(area["x"] + area["width"] * 0.5, area["y"] + area["height"] * 0.5)
    page.evaluate("document.querySelectorAll('.jp-Notebook .jp-CodeCell')[0].scrollIntoView()")
    shot(lab, "light")

    # An interrupt ends the cell and the run.
    assert workers()
    lab.command("Kernel", "Interrupt Kernel")
    expect(lab.output(1)).to_contain_text("KeyboardInterrupt")
    expect(lab.output(0)).to_contain_text("Stopped after")
    until(lambda: not workers())

    # The theme is followed.
    ink = page.evaluate(f"{plot}.layout.font.color")
    lab.dark()
    page.wait_for_function(f"{plot}.layout.font.color !== '{ink}'")
    lab.output(0).get_by_role("button", name="Run again", exact=True).click()
    until(workers)
    page.wait_for_function("document.querySelectorAll('.parallel-lab-plot')[1]?.data?.length > 2")
    shot(lab, "dark")

    # Stop ends the run.
    lab.output(0).get_by_role("button", name="Stop", exact=True).click()
    expect(lab.output(0)).to_contain_text("Stopped after")
    until(lambda: not workers())

    # Bad input is said inside the panel.
    lab.output(0).get_by_label("Batch size").fill("63")
    lab.output(0).get_by_label("Microbatches").fill("4")
    lab.page.keyboard.press("Tab")
    lab.output(0).get_by_role("button", name="Run again", exact=True).click()
    expect(lab.output(0).get_by_role("alert")).to_contain_text("Microbatches: 4 does not divide batch size 63")
    shot(lab, "alert")
    lab.output(0).get_by_label("Microbatches").fill("3")
    lab.page.keyboard.press("Tab")

    # Restart ends what goes on.
    lab.output(0).get_by_role("button", name="Run again", exact=True).click()
    until(workers)
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    until(lambda: not workers())


def test_the_board_moves_a_layer_and_the_run_follows(opened: Lab) -> None:
    lab = opened
    lab.run(0)
    conv2 = lab.output(0).locator("[data-layer=conv2] select")
    expect(conv2).to_have_value("vgpu:0")
    conv2.select_option("vgpu:1")
    expect(lab.output(0).locator("[data-device='vgpu:1'] [data-layer=conv2]")).to_be_visible()
    lab.output(0).get_by_role("button", name="Run", exact=True).click()
    lab.page.wait_for_function(f"{POINTS} > 5")
    lab.output(0).get_by_role("button", name="Stop", exact=True).click()
    expect(lab.output(0)).to_contain_text("Stopped after")
    lab.run(2)
    expect(lab.output(2)).to_contain_text("{'conv1': 'vgpu:0', 'conv2': 'vgpu:1', 'fc1': 'vgpu:1', 'fc2': 'vgpu:1'}")
