"""Predict first in a real browser: asked, locked at Start, shown beside the measurement; and what just happened."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from lab.experiment import Experiment
from tests.widgets.test_page_integration import PATIENCE_MS, Tab, until
from widgets.web.serve import Served, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
expect.set_options(timeout=PATIENCE_MS)

NAIVE = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, timing="modelled", steps=12)
"""Modelled times are the same on every machine: two devices that take turns are slower than one."""
BUSIEST = "#lab-predict [data-question=busiest]"
SPEEDUP = "#lab-predict [data-question=speedup]"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(NAIVE, port=0) as served:
        yield served


@pytest.fixture
def tab(browser: Browser, served: Served) -> Iterator[Tab]:
    tab = Tab(browser, served.url)
    yield tab
    tab.context.close()
    until(lambda: not served.sessions.live())
    assert tab.errors == []
    assert tab.outside == []


def test_a_prediction_is_locked_at_start_and_shown_beside_the_measurement(tab: Tab) -> None:
    page = tab.page
    status = page.locator("[data-status]")
    told = page.locator("[data-insight]")
    expect(status).to_have_text(re.compile("^Finished"))
    expect(told.locator("li").nth(1)).to_contain_text("The whole batch passes the 2 stages in one piece")
    expect(told.locator("[data-predicted]")).to_be_hidden()
    # Asked as soon as the reader wants to be.
    expect(page.locator(BUSIEST)).to_be_hidden()
    page.check("#lab-predict [data-on]")
    page.select_option(BUSIEST, "vgpu:0")
    read = page.locator("#lab-predict [data-reading=speedup]")
    page.locator(SPEEDUP).press_sequentially("1,8x")
    expect(read).to_have_text("read as 1.8 ×")
    expect(page.locator(SPEEDUP)).to_be_focused()
    page.fill(SPEEDUP, "5 GB")
    expect(read).to_contain_text("'5 GB' is an amount of bytes, and this question asks for a number of times")
    page.fill(SPEEDUP, "1.8")
    expect(read).to_have_text("read as 1.8 ×")
    page.click("#lab-start")
    rows = told.locator("[data-predicted] tbody tr")
    expect(rows.nth(0)).to_contain_text("vgpu:0")
    # vgpu:1 has three of the four layers.
    expect(rows.nth(0)).to_contain_text(re.compile(r"vgpu:1 \(vgpu:1 \d+%, vgpu:0 \d+%\)"))
    expect(rows.nth(0)).to_contain_text("not quite")
    # One device is measured by itself, as this tab has run none.
    expect(rows.nth(1)).to_contain_text(re.compile(r"0\.\d+ ×off by -"))
    expect(told.locator("[data-predicted-note]")).to_contain_text("right after this run")
    # The next run wants a prediction of its own.
    expect(page.locator(SPEEDUP)).to_have_value("")
    expect(read).to_have_text("")
    expect(page.locator(SPEEDUP)).to_be_enabled()


def test_the_questions_follow_the_controls(tab: Tab) -> None:
    page = tab.page
    page.check("#lab-predict [data-on]")
    expect(page.locator(BUSIEST)).to_be_visible()
    page.locator("#lab-strategy").get_by_text("One device").click()
    expect(page.locator("#lab-predict [data-question=heaviest] option")).to_have_count(5)
    expect(page.locator(BUSIEST)).to_have_count(0)
    page.uncheck("#lab-predict [data-on]")
    expect(page.locator("#lab-predict [data-question=heaviest]")).to_be_hidden()
