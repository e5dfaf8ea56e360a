"""A notebook that is opened the next day, with another kernel: what was seen is still there."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from lab.course.executing import execute
from tests.widgets.notebook.jupyter import Lab, jupyter_lab, notebook, shot, until
from widgets.notebook import LossView, staying, text

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
CELL = (
    "import lab\nfrom widgets.notebook import LabPanel\n"
    "panel = LabPanel(lab.Experiment(strategy='model_parallel', steps=20), show=('loss', 'timeline'))\npanel.start()\n"
    "panel"
)


def pictures(path: Path) -> int:
    """How many are in the notebook's file."""
    outputs = nbformat.read(path, 4).cells[0].outputs
    shown = "".join(str(output.get("data", {}).get("text/html", "")) for output in outputs)
    return shown.count('<img src="data:image/')


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
        expect(still).to_contain_text("Finished", timeout=60_000)
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
        expect(lab.page.get_by_text(text.SAVED)).to_be_visible()
        shot(lab, "the-next-day")
        lab.close()


STAYING = """
import lab
from lab import vgpu
from widgets.notebook import Curves, FormulaCheck, LabPanel, LossView, Predict, ProfileMemory, ProfileTimeline, RankLog
from widgets.notebook import StepThrough
"""
PANEL = "lab.Experiment(steps=3, timing='modelled', devices=['vgpu:0'])"


def test_what_widgets_showed_is_in_the_outputs(tmp_path: Path) -> None:
    """As `jupyter nbconvert --execute` leaves them: no front end was there."""
    cells = {
        "made": STAYING,
        "curves": "Curves('A step', [1, 2], {'measured': [9.0, 6.0]}, 'parts', 'ms')",
        "predict": "predict = Predict('How long?', unit='ms')\npredict",
        "lesson": "StepThrough(lab.Experiment(strategy='ddp', world_size=2, batch_size=8))",
        "panel": f"panel = LabPanel({PANEL}, show=('loss', 'timeline', 'memory'))\npanel",
        "below": "predict.lock(8)\npredict.reveal(panel.finished().state.step)",
        "log": "RankLog(panel.run)",
        "loss": "LossView(panel.run)",
        "formula": "FormulaCheck(panel.run)",
        "profile": "vgpu.enable(devices=1)\nwith vgpu.profile() as profile:\n    pass\nProfileTimeline(profile)",
    }
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(source) for source in cells.values()]
    execute(book, tmp_path, environment={"PYTHONPATH": str(Path(__file__).parents[3])})
    shown = {
        name: "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
        for name, cell in zip(cells, book.cells, strict=True)
    }
    pictures = {name: page.count('<img src="data:image/svg+xml;base64,') for name, page in shown.items()}
    assert pictures == dict.fromkeys(cells, 0) | {"curves": 1, "panel": 3, "loss": 1, "profile": 1}
    assert "<td>9.000</td>" in shown["curves"]
    assert all(words in shown["predict"] for words in ("How long?", "8", "3"))
    assert [title in shown["lesson"] for title in ("1. Split", "2. Copy", "3. Comp", "4. Sync", "5. Up", "6. Rep")] == (
        [True] * 6
    )
    assert "Finished: 3 steps" in shown["panel"]
    assert "lab.Experiment(" in shown["panel"]
    assert "What just happened" in shown["panel"]
    assert "finished after 3 steps" in shown["log"]
    assert "Largest difference over all" in shown["formula"]
    assert "<script" not in "".join(shown.values())


def test_only_pictures_are_taken_from_a_front_end() -> None:
    view = LossView()
    for odd in ("", "https://example.org/x.png", "data:image/svg+xml;base64,AAAA", 'data:image/png;base64,"><script>'):
        view.picture = odd
        assert view.still().startswith('<img src="data:image/svg+xml;base64,')  # our own
    view.picture = "data:image/png;base64,iVBORw0KGgo="
    assert view.still().startswith('<img src="data:image/png;base64,iVBORw0KGgo="')
    view.figure = view.figure + " "  # something has changed since it was taken
    assert view.still().startswith('<img src="data:image/svg+xml;base64,')
    view.picture = "data:image/png;base64," + "A" * staying.MOST_BYTES
    assert view.still().startswith('<img src="data:image/svg+xml;base64,')
    view.close()
