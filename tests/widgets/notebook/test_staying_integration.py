"""A notebook that is opened the next day, with another kernel: what was seen is still there."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from tests.widgets.notebook.jupyter import Lab, jupyter_lab, notebook, shot, until
from widgets.notebook import LossView, staying

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
CELL = (
    "import lab\nfrom widgets.notebook import LabPanel\n"
    "panel = LabPanel(lab.Experiment(strategy='model_parallel', steps=20), show=('loss', 'timeline'))\npanel.start()\n"
    "panel"
)


def pictures(path: Path) -> int:
    """How many are in the notebook's file."""
    outputs = nbformat.read(path, 4).cells[0].outputs
    return "".join(str(output.get("data", {}).get("text/html", "")) for output in outputs).count("data:image/png")


def test_a_picture_stays(browser: Browser, tmp_path: Path) -> None:
    today, tomorrow = tmp_path / "today", tmp_path / "tomorrow"
    for folder in (today, tomorrow):
        folder.mkdir()
    notebook(today / "course.ipynb", [CELL])
    with jupyter_lab(today) as url:
        lab = Lab(browser, url, "course.ipynb")
        lab.run(0)
        expect(lab.output(0).locator(".parallel-lab-plot .main-svg").first).to_be_visible()
        still = lab.page.locator(".parallel-lab-still")
        expect(still.locator("p").first).to_contain_text("Finished")
        expect(still.locator("img")).to_have_count(2)
        expect(still).to_be_hidden()  # the widget itself is there
        lab.page.wait_for_timeout(3000)
        lab.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
        until(lambda: pictures(today / "course.ipynb") == 2, 30)
        lab.close()
    shutil.copy(today / "course.ipynb", tomorrow)
    with jupyter_lab(tomorrow) as url:
        lab = Lab(browser, url, "course.ipynb")
        expect(lab.page.locator(".parallel-lab-still img").first).to_be_visible()
        shown = lab.page.locator(".parallel-lab-still img").first.evaluate("each => [each.complete, each.naturalWidth]")
        assert shown[0]
        assert shown[1] > 200
        lab.page.wait_for_timeout(2000)
        expect(lab.page.get_by_text("model not found")).to_be_hidden()
        shot(lab, "the-next-day")
        lab.close()


def test_only_pictures_are_taken_from_a_front_end() -> None:
    view = LossView()
    for odd in ("", "https://example.org/x.png", "data:image/svg+xml;base64,AAAA", 'data:image/png;base64,"><script>'):
        view.picture = odd
        assert view.still() == ""
    view.picture = "data:image/png;base64,iVBORw0KGgo="
    assert view.still().startswith('<img src="data:image/png;base64,iVBORw0KGgo="')
    view.picture = "data:image/png;base64," + "A" * staying.MOST_BYTES
    assert view.still() == ""
    view.close()
