"""The page for everybody: axe-core finds nothing serious, all of it is reached by keyboard, and nothing leaves the
window, in every look that the page has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.experiment import Experiment
from widgets.web.serve import Served, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ENDLESS = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, steps=1_000_000)
PATIENCE_MS = 90_000
LOOKS = {
    "light": ("light", "en-US", ""),
    "dark": ("dark", "en-US", ""),
    "projector": ("light", "en-US", "?projector"),
    "dark projector": ("dark", "en-US", "?projector"),
    "chinese": ("light", "zh-CN", ""),
}
"""Name -> colour scheme, the browser's language, and what stands in the address."""
WIDTHS = (800, 1280, 1440, 1920, 2560)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ENDLESS, port=0) as served:
        yield served


@contextmanager
def opened(
    browser: Browser,
    served: Served,
    look: str = "light",
    query: str = "",
    state: str = "running",
    **options: Any,
) -> Iterator[Page]:
    """A tab whose run has come to a state, and what its console says is no error."""
    scheme, locale, address = LOOKS[look]
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme=scheme, locale=locale, **options
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(served.url + (address or query))
    expect(page.locator(".lab-status")).to_have_attribute("data-state", state, timeout=PATIENCE_MS)
    if state == "running":
        page.wait_for_function("document.querySelector('[data-figure=timeline] [data-plot]')?.data?.length > 3")
    yield page
    context.close()
    assert errors == []


def violations(page: Page) -> list[str]:
    """What axe-core finds, other than what is of little weight."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [
        f"{each['impact']} {each['id']}: {[node['html'][:160] for node in each['nodes'][:5]]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def unfolded(page: Page) -> None:
    """Everything that is behind a word is open."""
    page.evaluate("document.querySelectorAll('details').forEach(each => (each.open = true))")
    folded = page.locator(".lab-more > button:not(.open)")
    while folded.count():
        folded.first.click()
    page.wait_for_timeout(500)


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious(look: str, browser: Browser, served: Served) -> None:
    with opened(browser, served, look) as page:
        unfolded(page)
        assert violations(page) == []
        page.locator("#lab-stop").click()
        expect(page.locator(".lab-status")).to_have_attribute("data-state", "stopped", timeout=PATIENCE_MS)
        page.wait_for_timeout(500)
        assert violations(page) == []


def test_axe_sees_what_is_wrong(browser: Browser, served: Served) -> None:
    with opened(browser, served) as page:
        page.evaluate("document.querySelector('#lab-start').parentElement.append(document.createElement('button'))")
        assert "button-name" in str(violations(page))


def test_the_page_is_one_that_axe_can_judge_when_a_run_fails(browser: Browser, served: Served) -> None:
    query = "?strategy=ddp&world_size=2&steps=50&faults=raise:1:5"
    with opened(browser, served, query=query, state="ready") as page:
        page.click("#lab-start")  # a link that breaks its run waits for it
        expect(page.locator(".lab-status")).to_have_attribute("data-state", "failed", timeout=PATIENCE_MS)
        expect(page.locator("[data-alert]")).to_be_visible(timeout=PATIENCE_MS)
        assert violations(page) == []


@pytest.mark.parametrize("look", ["light", "projector", "chinese"])
def test_nothing_leaves_the_window_or_covers_something_else(look: str, browser: Browser, served: Served) -> None:
    with opened(browser, served, look) as page:
        unfolded(page)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(700)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, width
            assert page.evaluate(OVERLAPS) == [], width


OVERLAPS = """() => {
    const seen = (each) => each.offsetParent && each.getBoundingClientRect().width > 0;
    const boxes = [...document.querySelectorAll(
        '.lab-tile, .lab-card, #lab-strategy, .lab-switches, .lab-brand h1, .lab-about, #lab-buttons button, .lab-lane'
    )].filter(seen);
    const found = [];
    boxes.forEach((one, index) => boxes.slice(index + 1).forEach((other) => {
        if (one.contains(other) || other.contains(one)) return;
        const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1 && high > 1) found.push([one.className || one.id, other.className || other.id]);
    }));
    return found;
}"""


def test_everything_is_reached_by_keyboard(browser: Browser, served: Served) -> None:
    with opened(browser, served) as page:
        unfolded(page)
        page.locator("#lab-stop").click()
        expect(page.locator(".lab-status")).to_have_attribute("data-state", "stopped", timeout=PATIENCE_MS)
        page.evaluate("document.activeElement.blur()")
        page.evaluate(
            """() => {
                window.reached = new Set();
                window.unseen = [];
                document.addEventListener('focusin', ({ target }) => {
                    if (window.reached.has(target)) return;
                    window.reached.add(target);
                    const around = target.closest('label, .wrap-inner, .lab-segments label') ?? target;
                    const ring = [target, around, around.parentElement].some((each) => {
                        const style = getComputedStyle(each);
                        return [style.outlineStyle, style.boxShadow, style.borderStyle].some((sign) => sign !== 'none');
                    });
                    if (!ring) window.unseen.push(target.outerHTML.slice(0, 120));
                });
            }"""
        )
        for _ in range(160):
            page.keyboard.press("Tab")
        missed = page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, summary, a[href], textarea')]
                .filter((each) => each.offsetParent && !each.disabled && each.tabIndex >= 0 && each.type !== 'radio')
                .filter((each) => !window.reached.has(each))
                .map((each) => each.outerHTML.slice(0, 120))"""
        )
        assert missed == []
        assert page.evaluate("window.unseen") == []


def test_a_reader_who_wants_no_motion_gets_none(browser: Browser, served: Served) -> None:
    with opened(browser, served, reduced_motion="reduce") as page:
        moving = page.evaluate(
            """() => [...document.querySelectorAll('[id^=lab-], [id^=lab-] *')].filter((each) => {
                const style = getComputedStyle(each);
                const longest = (text) => Math.max(...text.split(',').map((part) => parseFloat(part)));
                const shown = style.animationName === 'none' ? 0 : longest(style.animationDuration);
                return Math.max(shown, longest(style.transitionDuration)) > 0.01;
            }).map((each) => each.className.toString().slice(0, 80))"""
        )
        assert moving == []


def test_the_language_is_the_browsers_until_the_reader_chooses(browser: Browser, served: Served) -> None:
    with opened(browser, served, "chinese") as page:
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        expect(page.locator("#lab-start")).to_have_text("重新开始")
        expect(page.locator("[data-figure=timeline] .xtitle")).to_contain_text("从这一步开始")
        run = page.locator("[data-status]").inner_text()
        page.locator("[data-language=en]").click()
        expect(page.locator("#lab-start")).to_have_text("Restart")
        expect(page.locator("[data-figure=timeline] .xtitle")).to_contain_text("time since the step began")
        expect(page.locator("[data-status]")).to_contain_text("Step ")
        assert run != page.locator("[data-status]").inner_text()
        expect(page).to_have_title("Parallel Lab")
        assert served.sessions.live(), "the run goes on"
        again = page.context.new_page()
        again.goto(served.url)
        expect(again.locator("#lab-start")).to_have_text("Restart", timeout=PATIENCE_MS)
        asked = page.context.new_page()
        asked.goto(f"{served.url}?lang=zh")
        expect(asked.locator("#lab-start")).to_have_text("重新开始", timeout=PATIENCE_MS)


def test_projector_mode_is_larger_and_in_the_address(browser: Browser, served: Served) -> None:
    with opened(browser, served) as page:
        size = "parseFloat(getComputedStyle(document.querySelector('.lab-kpi b')).fontSize)"
        ticks = "document.querySelector('[data-figure=timeline] [data-plot]')._fullLayout.xaxis.tickfont.size"
        before = page.evaluate(size), page.evaluate(ticks)
        page.locator("[data-projector]").click()
        assert page.evaluate(size) > 1.3 * before[0]
        assert page.evaluate(ticks) == 1.5 * before[1]
        assert "projector" in page.url
        page.locator("[data-projector]").click()
        assert (page.evaluate(size), page.evaluate(ticks)) == before
        assert "projector" not in page.url
