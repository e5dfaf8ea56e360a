"""The controls in a real browser: presets, reset, trouble, and layers placed for ranks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.run import Run
from tests.widgets.test_page_integration import PATIENCE_MS, Tab, until
from widgets.web import presets
from widgets.web.serve import Served, serving
from widgets.web.text import en as text

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

OPENING = presets.all_presets()["naive"].experiment.replace(epochs=10)
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(OPENING, port=0) as served:
        yield served


@pytest.fixture
def tab(browser: Browser, served: Served) -> Iterator[Tab]:
    tab = Tab(browser, served.url)
    tab.running()
    yield tab
    tab.context.close()
    until(lambda: not served.sessions.live())
    assert tab.errors == []
    assert tab.outside == []


def only_run(served: Served) -> Run:
    until(lambda: len(served.sessions.live()) == 1)
    return served.sessions.live()[0]  # type: ignore[return-value]


def running(page: Page) -> None:
    expect(page.locator("[data-status]")).to_have_text(re.compile(r"^(Step|All) [\d,]+"))


def test_a_preset_fills_the_controls_runs_and_leads_on(tab: Tab, served: Served) -> None:
    page = tab.page
    page.select_option("[data-choose]", "microbatches")
    until(
        lambda: (
            [each.experiment for each in served.sessions.live()] == [presets.all_presets()["microbatches"].experiment]
        )
    )
    expect(page.locator("[data-watch]")).to_contain_text("Work now overlaps")
    expect(page.locator("#lab-parts input")).to_have_value("4")
    running(page)
    following = page.locator("[data-next]")
    expect(following).to_have_text("Try A pipeline of four stages")
    following.click()
    until(lambda: [each.experiment.net for each in served.sessions.live()] == ["gpt"])
    expect(page.locator("[data-layer='blocks.3'] select")).to_have_value("vgpu:3")
    running(page)
    # What is no longer the preset is the reader's own.
    page.fill("#lab-length input", "50")
    page.click("#lab-start")
    expect(page.locator("[data-choose]")).to_have_value("")
    expect(page.locator("[data-watch-box]")).to_be_hidden()
    page.click("#lab-reset")
    until(lambda: [each.experiment for each in served.sessions.live()] == [OPENING])
    expect(page.locator("#lab-batch input")).to_have_value("128")
    expect(page.locator("#lab-parts input")).to_have_value("1")


def test_run_and_its_numbers_are_seen_without_scrolling(tab: Tab) -> None:
    for name in ("#lab-start", "#lab-batch", "#lab-parts", "#lab-length", "#lab-unit", "#lab-speed"):
        box = tab.page.locator(name).bounding_box()
        assert box is not None, name
        assert box["y"] + box["height"] <= 900, name


def test_the_lesson_of_a_strategy_is_said_when_it_is_pointed_at(tab: Tab) -> None:
    page = tab.page
    page.locator("#lab-strategy").get_by_text("DDP", exact=True).hover()
    expect(page.locator("[data-lesson]")).to_have_text(text.LESSONS["ddp"])
    page.locator("[data-kpi=loss]").hover()
    expect(page.locator("[data-lesson]")).not_to_have_text(text.LESSONS["ddp"])


def test_layers_are_placed_for_all_ranks_and_trouble_ends_in_a_lesson(tab: Tab, served: Served) -> None:
    page = tab.page
    page.click("#lab-stop")
    page.locator("#lab-strategy").get_by_text("DDP", exact=True).click()
    page.locator("#lab-each input").click()
    page.get_by_role("option", name=text.EACH_KINDS["split"]).click()
    expect(page.locator(".lab-lane[data-device='vgpu:1'] .lab-also")).to_have_text("rank 1 · vgpu:3")
    page.select_option("[data-layer=fc2] select", "vgpu:0")
    page.click("#lab-start")
    tab.running()
    run = only_run(served)
    assert run.experiment.devices == ("vgpu:0", "vgpu:1", "vgpu:2", "vgpu:3")
    until(lambda: run.state.placed is not None)
    assert run.state.placed is not None
    assert run.state.placed.layers["fc2"] == "vgpu:0"
    # The wish to break it reaches the run that goes on.
    page.get_by_text(text.TROUBLE_TITLE).click()
    page.locator("#lab-trouble input").click()
    page.get_by_role("option", name=text.TROUBLES["raise"]).click()
    page.click("#lab-inject")
    alert = page.locator("[data-alert]")
    expect(alert).to_contain_text("Rank 1 failed first")
    expect(alert).to_contain_text("as you asked")
    expect(alert.locator("[data-alert-lesson]")).to_contain_text("The rank that fails first is the cause.")
    expect(alert.locator("[data-alert-did] li")).to_have_count(4)
    expect(alert.locator("[data-alert-seen]")).to_contain_text("rank 0")
    alert.get_by_text("Where the rank was").click()
    expect(alert.locator("[data-alert-traceback]")).to_contain_text("InjectedError")
