"""The panel as a reader meets it in JupyterLab: on one screen, slow enough to watch, and honest when it is dead."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.widgets.notebook.jupyter import Lab, jupyter_lab, notebook, shot, until, workers
from widgets.notebook import text

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
IMPORTS = "import lab\nfrom widgets.notebook import LabPanel"
SHORT = "panel = LabPanel(lab.Experiment(strategy='model_parallel', steps=60))\npanel"
FOUR = (
    "panel = LabPanel(lab.Experiment(net='gpt', strategy='ddp', devices=[f'vgpu:{i}' for i in range(4)], world_size=2,"
    " steps=5), show=('timeline', 'breakdown', 'graph', 'loss'))\npanel"
)
RANKS = (
    "panel = LabPanel(lab.Experiment(strategy='ddp', world_size=2),"
    " show=('loss', 'timeline', 'buckets', 'breakdown'))\npanel"
)
FINISHED = "import time\nbegan = time.time(); panel.finished(); print('took', round(time.time() - began, 1), 's')"
PLACES = """() => {
  const box = (each) => each.getBoundingClientRect().toJSON();
  const plots = [...document.querySelectorAll('.parallel-lab-plot')];
  const output = plots[0].closest('.jp-OutputArea');
  const scrolls = (each) => {
    const { overflowX, overflowY } = getComputedStyle(each);
    const can = (way) => way === 'auto' || way === 'scroll';
    return (can(overflowX) && each.scrollWidth > each.clientWidth) ||
      (can(overflowY) && each.scrollHeight > each.clientHeight);
  };
  return {
    book: box(document.querySelector('.jp-WindowedPanel-outer')),
    plots: plots.map(box),
    buttons: [...output.querySelectorAll('button.jupyter-button')].slice(0, 4).map(box),
    scrolling: [output, ...output.querySelectorAll('*')].filter(each => each.clientWidth && scrolls(each)).length,
  };
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("panels")
    with jupyter_lab(folder) as url:
        yield url, folder


def opened(browser: Browser, served: tuple[str, Path], name: str, cells: list[str], **size: int) -> Lab:
    url, folder = served
    notebook(folder / name, cells)
    return Lab(browser, url, name, **size)


def closed(lab: Lab) -> None:
    lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    until(lambda: not workers())
    lab.close()


def button(lab: Lab, cell: int, name: str) -> Any:
    return lab.output(cell).get_by_role("button", name=name, exact=True)


def paused_at(lab: Lab, cell: int) -> int:
    found = re.search(r"Paused before \w+ of step (\d+)", lab.output(cell).inner_text())
    return int(found.group(1)) if found else -1


def step_of(lab: Lab, cell: int) -> int:
    found = re.search(r"Step ([\d,]+) of", lab.output(cell).inner_text())
    return int(found.group(1).replace(",", "")) if found else -1


@pytest.mark.parametrize("panel", [SHORT, RANKS, FOUR], ids=["short", "ranks", "four"])
def test_run_and_figures_are_on_one_screen_and_nothing_scrolls(
    browser: Browser, served: tuple[str, Path], panel: str
) -> None:
    lab = opened(browser, served, "screen.ipynb", [f"{IMPORTS}\n{panel}"], width=1440, height=1000)
    lab.run(0)
    button(lab, 0, "Run").click()
    lab.page.wait_for_function("document.querySelectorAll('.parallel-lab-plot')[3]?.data?.length > 0")
    button(lab, 0, "Stop").click()
    expect(button(lab, 0, "Run again")).to_be_visible()
    lab.page.evaluate("document.querySelector('.parallel-lab-plot').closest('.jp-OutputArea').scrollIntoView()")
    lab.page.wait_for_timeout(1_000)
    places = lab.page.evaluate(PLACES)
    assert len(places["plots"]) == 4
    assert len({round(plot["x"]) for plot in places["plots"]}) == 2  # two beside each other
    for shown in [*places["plots"], *places["buttons"]]:
        assert places["book"]["top"] <= shown["top"] + 1 < shown["bottom"] <= places["book"]["bottom"]
        assert shown["right"] <= places["book"]["right"]
    assert places["scrolling"] == 0
    closed(lab)


def test_on_a_narrow_screen_everything_is_below_each_other(browser: Browser, served: tuple[str, Path]) -> None:
    lab = opened(browser, served, "narrow.ipynb", [f"{IMPORTS}\n{SHORT}"], width=800, height=1000)
    lab.run(0)
    expect(button(lab, 0, "Run")).to_be_visible()
    lab.page.wait_for_function("document.querySelectorAll('.parallel-lab-plot')[3]?.data")
    places = lab.page.evaluate(PLACES)
    assert len({round(plot["x"]) for plot in places["plots"]}) == 1
    assert all(each["right"] <= places["book"]["right"] for each in [*places["plots"], *places["buttons"]])
    assert places["scrolling"] == 0
    closed(lab)


def test_a_run_can_be_watched_and_its_speed_changed(browser: Browser, served: tuple[str, Path]) -> None:
    lab = opened(browser, served, "speed.ipynb", [IMPORTS, SHORT, FINISHED], width=1440, height=1000)
    lab.run(0)
    lab.run(1)
    button(lab, 1, "Run").dblclick()
    until(lambda: step_of(lab, 1) > 2)
    began, first = time.monotonic(), step_of(lab, 1)
    lab.output(1).get_by_label(text.SPEED, exact=True).select_option(text.SPEEDS["slower"])
    lab.page.wait_for_timeout(4_000)
    went = step_of(lab, 1) - first
    assert 2 <= went <= 4 + (time.monotonic() - began - 4) + 9  # the last second of the earlier speed, and one a second

    # A pause, a step, and on.
    button(lab, 1, "Pause").click()
    expect(lab.output(1)).to_contain_text("Paused before")
    stood = lab.output(1).inner_text()
    lab.page.wait_for_timeout(1_500)
    assert (
        re.search(r"Paused before.*", lab.output(1).inner_text()).group() == re.search("Paused before.*", stood).group()
    )  # type: ignore[union-attr]
    button(lab, 1, "Step").click()
    until(lambda: lab.output(1).inner_text() != stood)
    button(lab, 1, "Resume").click()

    # A cell that waits for the run does not wait for what is slow to be watched: 40 steps at one a second.
    lab.run(2)
    expect(lab.output(2)).to_contain_text("took")
    took = float(re.search(r"took ([\d.]+) s", lab.output(2).inner_text()).group(1))  # type: ignore[union-attr]
    assert took < 15
    expect(lab.output(1)).to_contain_text("Finished: 60 steps")
    # 320 numbers of each of 64 samples go from the second layer to the third, and their gradients back.
    expect(lab.output(1)).to_contain_text("each device sends 81.9 kB a step, 163.8 kB in all")
    assert lab.page.evaluate("document.querySelectorAll('.parallel-lab-plot')[0].data[0].x.at(-1)") == 59
    assert lab.errors == []
    closed(lab)


def test_a_panel_of_a_restarted_kernel_says_so_and_runs_its_cells_again(
    browser: Browser, served: tuple[str, Path]
) -> None:
    lab = opened(
        browser, served, "gone.ipynb", [IMPORTS, "seen = 'again'", SHORT, "print(seen)"], width=1440, height=1000
    )
    for cell in range(3):
        lab.run(cell)
    expect(button(lab, 2, "Run")).to_be_visible()
    gone = lab.output(2).get_by_text(text.GONE["gone"])
    expect(gone).to_be_hidden()
    lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    expect(gone).to_be_visible()
    shot(lab, "gone")
    button(lab, 2, text.GONE["run"]).click()
    expect(gone).to_be_hidden()
    lab.run(3)
    expect(lab.output(3)).to_contain_text("again")
    button(lab, 2, "Run").click()
    until(lambda: step_of(lab, 2) > 2)
    button(lab, 2, "Stop").click()
    expect(lab.output(2)).to_contain_text("Stopped after")
    closed(lab)
