"""Predict and StepThrough in a real JupyterLab: how an answer is read is shown while it is typed, a lock outlives the
kernel and the day, and fast clicks do one step at a time."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from lab.insight.lock_files import FOLDER_VARIABLE, in_notebook
from tests.widgets.notebook.jupyter import Lab, jupyter_lab, notebook, shot, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
IMPORT = "from widgets.notebook import Predict, StepThrough\n"
BYTES = f'{IMPORT}predict = Predict("How many bytes cross between the two devices in a step?", unit="bytes")\npredict'
LAYER = f'{IMPORT}layer = Predict("Which layer?", kind="choice", options=["conv1", "conv2", "fc1"])\nlayer'
REVEAL = "predict.reveal(177_280)"
STEPS = f"{IMPORT}lesson = StepThrough()\nlesson"
BUSY = "import time\ntime.sleep(6)"
TURNS = "print(lesson.steps.done, lesson.steps.round)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "state"))
    return tmp_path


def opened(browser: Browser, url: str, name: str = "course.ipynb") -> Lab:
    return Lab(browser, url, name, 1440, 1000)


def restart(lab: Lab) -> None:
    lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    lab.page.wait_for_function(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle' "
        "&& jupyterapp.shell.currentWidget.sessionContext.session.kernel.connectionStatus === 'connected'"
    )


def save(lab: Lab) -> None:
    lab.page.evaluate("jupyterapp.commands.execute('docmanager:save')")


def test_a_lock_outlives_the_kernel_the_save_and_the_day(browser: Browser, folder: Path) -> None:
    today, tomorrow = folder / "today", folder / "tomorrow"
    for each in (today, tomorrow):
        each.mkdir()
    path = today / "course.ipynb"
    notebook(path, [BYTES, LAYER, REVEAL])
    file = path.stat().st_ino
    with jupyter_lab(today) as url:
        lab = opened(browser, url)
        lab.run(0)
        field = lab.output(0).get_by_placeholder("your answer")
        button = lab.output(0).get_by_role("button", name="Lock my answer")
        expect(button).to_be_disabled()
        field.press_sequentially("87,360")
        expect(lab.output(0).get_by_role("status")).to_have_text(re.compile("^read as 87,360 bytes; if you mean 87.36"))
        shot(lab, "predict-typing")
        field.fill("85 apples")
        expect(lab.output(0).get_by_role("status")).to_contain_text("'apples' in '85 apples' is no unit")
        expect(button).to_be_disabled()
        shot(lab, "predict-refused")
        field.fill("85 kB")
        expect(lab.output(0).get_by_role("status")).to_have_text("read as 85,000 bytes")
        button.click()
        expect(lab.output(0)).to_contain_text("Locked: 85,000 bytes")
        expect(field).to_be_disabled()
        lab.run(1)
        lab.output(1).locator("label", has_text="conv2").click()
        lab.output(1).get_by_role("button", name="Lock my answer").click()
        expect(lab.output(1)).to_contain_text("Locked: conv2")
        shot(lab, "predict-locked")

        # The cell is run again; the kernel is restarted, before anything has been saved.
        lab.run(0)
        expect(lab.output(0)).to_contain_text("Locked: 85,000 bytes, on ")
        assert not in_notebook(path).asked
        restart(lab)
        lab.run(0)
        expect(lab.output(0)).to_contain_text("Locked: 85,000 bytes, on ")
        expect(lab.output(0).locator("input")).to_be_disabled()
        lab.run(2)
        expect(lab.output(2)).to_contain_text("Off by +92,280 bytes (+52% of what was measured)")
        expect(lab.output(0)).to_contain_text("Measured: 177,280 bytes")
        shot(lab, "predict-revealed")
        lab.dark()
        shot(lab, "predict-revealed-dark")
        save(lab)
        until(lambda: any(each.answer == 85_000 for each in in_notebook(path).asked), 30)
        assert path.stat().st_ino == file
        lab.close()
        assert lab.errors == []
    # The next day, another kernel, and nothing but the notebook.
    shutil.copy(path, tomorrow)
    shutil.rmtree(os.environ[FOLDER_VARIABLE])
    with jupyter_lab(tomorrow) as url:
        lab = opened(browser, url)
        expect(lab.output(0).get_by_text("Locked: 85,000 bytes").first).to_be_visible()
        lab.page.wait_for_timeout(2000)
        expect(lab.page.get_by_text("model not found").first).to_be_hidden()
        shot(lab, "predict-tomorrow")
        lab.run(0)
        expect(lab.output(0).locator("input")).to_be_disabled()
        expect(lab.output(0)).to_contain_text("Locked: 85,000 bytes, on ")
        lab.close()


def test_fast_clicks_do_one_step_at_a_time(browser: Browser, folder: Path) -> None:
    notebook(folder / "course.ipynb", [STEPS, BUSY, TURNS])
    with jupyter_lab(folder) as url:
        lab = opened(browser, url)
        lab.run(0)
        following = lab.output(0).get_by_role("button", name=re.compile("^Next"))
        expect(following).to_have_text("Next: Split the data")
        # While another cell keeps the kernel busy, clicks are not collected.
        lab.run(1)
        following.evaluate("each => { for (let i = 0; i < 8; i++) each.click() }")
        expect(following).to_have_attribute("aria-disabled", "true")
        lab.page.wait_for_timeout(500)
        following.evaluate("each => each.click()")
        lab.finished(1)
        expect(lab.output(0)).to_contain_text("1. Split the data")
        lab.run(2)
        expect(lab.output(2)).to_contain_text("1 0")
        # One by one they all come.
        for title in ("2. Copy the model", "3. Compute gradients locally", "4. Synchronise"):
            following.click()
            expect(lab.output(0)).to_contain_text(title)
        shot(lab, "steps")
        lab.dark()
        shot(lab, "steps-dark")
        lab.output(0).get_by_role("button", name="Start over").click()
        expect(lab.output(0)).to_contain_text("Click to do the first.")
        lab.close()
        assert lab.errors == []
