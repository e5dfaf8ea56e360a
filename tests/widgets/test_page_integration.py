"""The page in a real browser, with real runs behind it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.experiment import Experiment
from widgets.web.serve import Served, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ENDLESS = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, steps=1_000_000)
PATIENCE_MS = 90_000
"""The first run of a session also loads torch and the data."""
expect.set_options(timeout=PATIENCE_MS)
STEP = re.compile(r"^Step [\d,]+ of")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ENDLESS, port=0) as served:
        yield served


class Tab:
    """A page in its own browser context, with what its console and network said."""

    def __init__(self, browser: Browser, url: str, query: str = "") -> None:
        self.context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url, url))
        self.page.goto(url + query)

    def _note(self, request: str, url: str) -> None:
        if not request.startswith((url, "data:", "blob:")):
            self.outside.append(request)

    def running(self) -> None:
        """Waits until training steps are shown; a tab in the background draws nothing."""
        self.page.bring_to_front()
        expect(self.page.locator("[data-status]")).to_have_text(STEP)

    def goes_on(self) -> None:
        """Waits until the step that is shown has changed."""
        self.running()
        seen = self.page.locator("[data-status]").inner_text()
        expect(self.page.locator("[data-status]")).not_to_have_text(seen)
        expect(self.page.locator("[data-status]")).to_have_text(STEP)


@pytest.fixture
def open_tab(browser: Browser, served: Served) -> Iterator[Callable[[], Tab]]:
    tabs: list[Tab] = []

    def open_one() -> Tab:
        tabs.append(Tab(browser, served.url))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.context.close()
    until(lambda: not served.sessions.live())
    for tab in tabs:
        assert tab.errors == []
        assert tab.outside == []


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def zoom_into_loss(page: Page) -> None:
    """Drags over a part of the chart; once more where the page, still growing, has moved it away meanwhile."""
    page.evaluate(
        """() => {
            const plot = document.querySelector('[data-figure=loss] [data-plot]');
            plot.on('plotly_relayout', change => (plot.zoomed ||= 'xaxis.range[0]' in change));
        }"""
    )
    for _ in range(5):
        area = page.locator("[data-figure=loss] .nsewdrag").bounding_box()
        assert area is not None
        page.mouse.move(area["x"] + area["width"] * 0.1, area["y"] + area["height"] * 0.1)
        page.mouse.down()
        page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + area["height"] * 0.9, steps=5)
        page.mouse.up()
        page.wait_for_timeout(300)
        if page.evaluate("document.querySelector('[data-figure=loss] [data-plot]').zoomed"):
            return
    pytest.fail("the loss does not take a zoom")


def test_a_real_run_is_drawn_in_place(open_tab: Callable[[], Tab]) -> None:
    tab = open_tab()
    tab.running()
    page = tab.page
    page.wait_for_function("document.querySelector('[data-figure=timeline] [data-plot]').data?.length > 3")
    page.evaluate(
        "document.querySelectorAll('[data-plot], [data-plot] .main-svg').forEach(node => (node.marked = true))"
    )
    # The reader zooms into the loss: updates must leave that alone.
    zoom_into_loss(page)
    ranges = (
        "document.querySelector('[data-figure=loss] [data-plot]')._fullLayout.xaxis.range.map(x => Math.round(x * 100))"
    )
    zoomed = page.evaluate(ranges)
    updates = page.evaluate(
        """() => new Promise(done => {
            const plot = document.querySelector('[data-figure=loss] [data-plot]');
            let count = 0;
            plot.on('plotly_afterplot', () => ++count > 3 && done(count));
        })"""
    )
    assert updates > 3
    assert page.evaluate(ranges) == zoomed
    nodes = "[...document.querySelectorAll('[data-plot], [data-plot] .main-svg')]"
    assert page.evaluate(f"{nodes}.every(node => node.marked)")
    bars = page.evaluate(
        """[...document.querySelector('[data-figure=timeline] [data-plot]').data]
            .filter(trace => trace.type === 'bar').map(trace => [trace.name, [...new Set(trace.y)].sort()])"""
    )
    assert ["forward", [0, 1]] in bars
    assert ["backward", [0, 1]] in bars
    page.wait_for_function("document.querySelector('[data-figure=memory] [data-plot]').data.some(t => t.stackgroup)")
    expect(page.locator("[data-figure=memory] [data-subtitle]")).to_have_text(re.compile("^by purpose, step"))
    expect(page.locator("[data-kpi=crossing] b")).to_have_text("737.3 kB")
    expect(page.locator("[data-figure=busy] [data-subtitle]")).to_have_text("simulated clock")
    expect(page.locator("[data-data]")).to_contain_text("MNIST: 60,000")
    expect(page.locator("[data-layer=conv1]")).to_contain_text("260 params")


def test_stop_and_start_again_with_other_values(open_tab: Callable[[], Tab], served: Served) -> None:
    tab = open_tab()
    tab.running()
    page = tab.page
    page.click("#lab-stop")
    expect(page.locator("[data-status]")).to_have_text(re.compile("Stopped after"))
    until(lambda: not served.sessions.live())

    page.fill("#lab-batch input", "63")
    page.fill("#lab-parts input", "4")
    page.click("#lab-start")
    alert = page.locator("[data-alert]")
    expect(alert).to_contain_text("Microbatches: 4 does not divide batch size 63; the nearest that does is 3")
    assert served.sessions.live() == []

    page.fill("#lab-parts input", "3")
    page.select_option("[data-layer=conv2] select", "vgpu:0")
    page.click("#lab-start")
    tab.running()
    expect(alert).to_be_hidden()
    (run,) = served.sessions.live()
    assert (run.experiment.batch_size, run.experiment.microbatches) == (63, 3)
    assert run.state.placed is not None
    assert list(run.state.placed.layers.values()) == ["vgpu:0", "vgpu:0", "vgpu:1", "vgpu:1"]


def test_a_layer_that_moves_starts_the_run_anew(open_tab: Callable[[], Tab], served: Served) -> None:
    tab = open_tab()
    tab.running()
    page = tab.page
    expect(page.locator(".lab-lane").first.locator(".lab-busy")).to_have_text(re.compile(r"busy \d+%"))
    (first,) = served.sessions.live()
    chip = page.locator("[data-layer=conv2] .lab-hold").bounding_box()
    lane = page.locator(".lab-lane[data-device='vgpu:0'] header").bounding_box()
    assert chip is not None
    assert lane is not None
    page.mouse.move(chip["x"] + 30, chip["y"] + 10)
    page.mouse.down()
    page.mouse.move(lane["x"] + 60, lane["y"] + 8, steps=4)
    page.mouse.up()
    # at once on the board, a moment later in the run
    expect(page.locator(".lab-wire")).to_contain_text("81,920 bytes forward, 81,920 back", timeout=1000)
    expect(page.locator(".lab-says-more")).to_have_text("Restarting with the new placement")
    until(lambda: first.done and bool(served.sessions.live()))
    tab.running()
    expect(page.locator(".lab-says-more")).to_have_text("")
    (second,) = served.sessions.live()
    assert second.experiment.placement == {"fc1": "vgpu:1", "fc2": "vgpu:1", "*": "vgpu:0"}

    # What is stopped stays so until Start.
    page.click("#lab-stop")
    expect(page.locator("[data-status]")).to_have_text(re.compile("Stopped after"))
    page.get_by_role("button", name="+ device").click()
    expect(page.locator(".lab-lane")).to_have_count(3)
    page.get_by_role("button", name="Even", exact=True).click()
    expect(page.locator(".lab-lane[data-device='vgpu:2'] .lab-chip")).not_to_have_count(0)
    page.wait_for_timeout(600)
    assert served.sessions.live() == []


def test_tabs_are_independent_and_closing_one_stops_its_run(open_tab: Callable[[], Tab], served: Served) -> None:
    first, second = open_tab(), open_tab()
    first.running()
    second.running()
    assert len(served.sessions.live()) == 2
    first.page.bring_to_front()
    first.page.click("#lab-stop")
    expect(first.page.locator("[data-status]")).to_have_text(re.compile("Stopped after"))
    second.goes_on()
    (run,) = served.sessions.live()
    second.page.close()
    until(lambda: run.done)


def test_a_link_opens_the_page_on_its_experiment(browser: Browser, served: Served) -> None:
    query = "strategy=model_parallel&placement.conv1=vgpu:1&placement.*=vgpu:0&batch_size=32&seed=7&steps=99999&lr=0.5"
    tab = Tab(browser, served.url, f"?{query}")
    tab.running()
    page = tab.page
    (run,) = served.sessions.live()
    wanted = Experiment.from_query(query)
    assert run.experiment == wanted
    expect(page.locator("#lab-batch input")).to_have_value("32")
    expect(page.locator("[data-layer=conv1] select")).to_have_value("vgpu:1")
    page.locator(".lab-code summary").click()
    page.click("[data-copy=link]")
    assert Experiment.from_query(page.locator("[data-code]").inner_text().partition("?")[2]) == wanted
    with page.expect_download() as download:
        page.click("[data-download]")
    assert '"file": "parallel-lab run"' in download.value.path().read_text(encoding="utf-8")
    page.click("#lab-start")
    until(lambda: run.done)
    until(lambda: [each.experiment for each in served.sessions.live()] == [wanted])
    other = Tab(browser, served.url, "?seed=-1")
    expect(other.page.locator("[data-alert]")).to_contain_text("Seed: '-1' is not allowed")
    other.running()
    for each in (tab, other):
        each.context.close()
        assert each.errors == []
    until(lambda: not served.sessions.live())


def test_dark_and_another_net(open_tab: Callable[[], Tab]) -> None:
    tab = open_tab()
    tab.running()
    page = tab.page
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click(".lab-theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.wait_for_function("document.querySelector('[data-figure=loss] [data-plot]').layout.font.color === '#e8edf3'")
    page.get_by_label("Net", exact=True).click()
    page.get_by_role("option", name="GPT").click()
    expect(page.locator("[data-layer='blocks.0']")).to_be_visible()
    page.locator("#lab-strategy").get_by_text("One device", exact=True).click()
    expect(page.locator("#lab-panel")).to_be_hidden()


def test_at_800_pixels_nothing_is_cut_off(open_tab: Callable[[], Tab]) -> None:
    tab = open_tab()
    page = tab.page
    page.set_viewport_size({"width": 800, "height": 900})
    tab.running()
    labels = "[...document.querySelectorAll('[data-figure=busy] .xtick text')].map(node => node.textContent)"
    page.wait_for_function(f"{labels}.length > 0")
    assert page.evaluate(labels) == ["0%", "25%", "50%", "75%", "100%"]
    inside = page.evaluate(
        """(() => {
            const box = document.querySelector('#lab-net .wrap-inner');
            const input = box.querySelector('input');
            const arrow = box.querySelector('.icon-wrap').getBoundingClientRect();
            const room = parseFloat(getComputedStyle(input).paddingRight);
            return input.getBoundingClientRect().right - room <= arrow.left;
        })()"""
    )
    assert inside


def test_closing_the_server_ends_the_runs_of_open_tabs(browser: Browser) -> None:
    with serving(ENDLESS, port=0) as other:
        tab = Tab(browser, other.url)
        tab.running()
        (run,) = other.sessions.live()
    until(lambda: run.done)
    tab.context.close()
