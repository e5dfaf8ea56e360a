"""The instruments in a real browser: replay, linking, comparing, filling the window, saving, and zoom that stays."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lab.experiment import Experiment
from tests.widgets.test_page_integration import PATIENCE_MS, STEP, Tab, until
from widgets.web.serve import Served, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

EXPERIMENT = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, steps=1_000_000)
expect.set_options(timeout=PATIENCE_MS)

BARS = """[...document.querySelector('[data-figure=timeline] [data-plot]').data].filter(trace => trace.type === 'bar')
    .flatMap(trace => trace.x.map((x, i) => [trace.y[i], trace.base[i], trace.base[i] + x, trace.customdata[i][0]]))"""
"""Of the timeline: lane, start, end, name."""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(EXPERIMENT, port=0) as served:
        yield served


@pytest.fixture
def tab(browser: Browser, served: Served) -> Iterator[Tab]:
    tab = Tab(browser, served.url)
    tab.running()
    tab.page.wait_for_function("document.querySelector('[data-figure=timeline] [data-plot]').data?.length > 3")
    yield tab
    tab.context.close()
    until(lambda: not served.sessions.live())
    assert tab.errors == []
    assert tab.outside == []


def card(page: Page, name: str) -> Locator:
    return page.locator(f"[data-figure={name}]")


def stop(page: Page) -> None:
    page.click("#lab-stop")
    expect(page.locator("[data-status]")).to_have_text(re.compile("Stopped after"))


def zoom(page: Page, ranges: str) -> list[list[int]]:
    """Draws a frame in the loss chart; again, if sentences above it have moved it meanwhile."""
    for _ in range(5):
        card(page, "loss").scroll_into_view_if_needed()
        area = card(page, "loss").locator(".nsewdrag").bounding_box()
        assert area is not None
        page.mouse.move(area["x"] + area["width"] * 0.1, area["y"] + area["height"] * 0.1)
        page.mouse.down()
        page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + area["height"] * 0.9, steps=5)
        page.mouse.up()
        (left, _), (low, _) = found = list(page.evaluate(ranges))
        if left > 0 and low > 0:  # unzoomed, both axes begin at 0
            return found
    raise AssertionError("the chart could not be zoomed")


def test_zoom_stays_over_twenty_live_updates_and_nothing_is_mounted_anew(tab: Tab) -> None:
    page = tab.page
    page.evaluate("document.querySelectorAll('[data-plot], [data-plot] .main-svg').forEach(n => (n.marked = true))")
    ranges = (
        "['xaxis', 'yaxis'].map(axis => document.querySelector('[data-figure=loss] [data-plot]')"
        "._fullLayout[axis].range.map(x => Math.round(x * 1000)))"
    )
    zoomed = zoom(page, ranges)
    seen = page.evaluate(
        """() => new Promise(done => {
            const plot = document.querySelector('[data-figure=loss] [data-plot]');
            const lengths = new Set();
            plot.on('plotly_afterplot', () => {
                lengths.add(plot.data.at(-1).x.at(-1));
                if (lengths.size >= 20) done([...lengths]);
            });
        })"""
    )
    assert len(seen) >= 20  # as many updates, each with another last step
    assert page.evaluate(ranges) == zoomed
    marked = "[...document.querySelectorAll('[data-plot]')].filter(n => n.data).every(n => n.marked)"
    assert page.evaluate(marked)
    assert page.evaluate("document.querySelector('[data-figure=loss] .main-svg').marked")


def test_the_cursor_tells_what_each_device_does_while_the_run_goes_on(tab: Tab) -> None:
    page = tab.page
    cursor = page.get_by_label("Moment in the step")
    cursor.focus()
    cursor.press("Home")
    for _ in range(3):
        cursor.press("PageUp")
    moment = float(cursor.input_value()) / 1000
    assert 0.2 < moment < 0.6
    bars = page.evaluate(BARS)
    time = moment * max(end for _, _, end, _ in bars)
    wanted = [(lane, name) for lane, start, end, name in bars if start <= time < end]
    assert wanted
    lanes = page.locator("[data-now] li")
    expect(lanes).to_have_count(2)
    for lane, name in wanted:
        expect(lanes.nth(lane)).to_contain_text(name)
    assert page.locator(".lab-cursor").is_visible()
    # The step stands still while the reader looks at it, and the run goes on.
    before = page.locator("[data-status]").inner_text()
    expect(page.locator("[data-status]")).not_to_have_text(before)
    page.wait_for_timeout(1_500)
    held = card(page, "timeline").locator("[data-subtitle]").inner_text()
    assert held.startswith("step")
    page.wait_for_timeout(1_500)
    assert card(page, "timeline").locator("[data-subtitle]").inner_text() == held
    page.get_by_role("button", name="Follow the run").click()
    expect(card(page, "timeline").locator("[data-subtitle]")).not_to_have_text(held)


def test_a_step_is_chosen_and_played_in_jumps_for_who_wants_no_motion(tab: Tab) -> None:
    page = tab.page
    page.emulate_media(reduced_motion="reduce")
    stop(page)
    chooser = page.get_by_label("Step that the timeline shows")
    steps = chooser.locator("option").evaluate_all("options => options.map(option => Number(option.value))")
    assert len(steps) > 3
    assert steps == sorted(steps)
    chooser.select_option(str(steps[1]))
    expect(card(page, "timeline").locator("[data-subtitle]")).to_contain_text(f"step {steps[1]:,} ")
    page.get_by_role("button", name="Earlier step").click()
    expect(card(page, "timeline").locator("[data-subtitle]")).to_contain_text(f"step {steps[0]:,} ")
    expect(page.get_by_role("button", name="Earlier step")).to_be_disabled()
    page.get_by_role("button", name="Play the step slowly").click()
    values = page.evaluate(
        """() => new Promise(done => {
            const seen = [], cursor = document.querySelector('[data-cursor]');
            const timer = setInterval(() => {
                if (seen.at(-1) !== cursor.value) seen.push(cursor.value);
                if (seen.length > 3) { clearInterval(timer); done(seen); }
            }, 20);
        })"""
    )
    bars = page.evaluate(BARS)
    whole = max(end for _, _, end, _ in bars)
    starts = {str(math.floor(1000 * start / whole + 0.5)) for _, start, _, _ in bars}
    assert set(values) <= starts | {"0"}  # from one beginning to the next, and nowhere between
    page.get_by_role("button", name="Hold").click()


def test_a_layer_lights_up_in_all_three_places(tab: Tab) -> None:
    page = tab.page
    page.mouse.move(5, 5)
    stop(page)
    linked = (
        "name => [...document.querySelectorAll(`[data-figure=${name}] .point.lab-linked text`)]"
        ".map(node => node.textContent).sort()"
    )
    # From the board, by keyboard.
    page.locator("[data-layer=fc1] .lab-hold").focus()
    page.wait_for_function(f"({linked})('placement_graph').join() === 'fc1'")
    assert set(page.evaluate(linked, "timeline")) <= {"fc1"}
    bars = page.locator("[data-figure=timeline] .barlayer .point.lab-linked")
    assert bars.count() == 2  # forward and backward
    # From the timeline, by mouse.
    page.mouse.move(5, 5)
    page.evaluate("document.activeElement.blur()")
    expect(bars).to_have_count(0)
    card(page, "timeline").scroll_into_view_if_needed()
    widest = page.evaluate(
        """() => {
            const boxes = [...document.querySelectorAll('[data-figure=timeline] .barlayer .point')]
                .filter(point => point.querySelector('text')?.textContent === 'conv2')
                .map(point => point.querySelector('path').getBoundingClientRect());
            const box = boxes.sort((a, b) => b.width - a.width)[0];
            return [box.x + box.width / 2, box.y + box.height / 2];
        }"""
    )
    page.mouse.move(*widest)
    expect(page.locator(".lab-chip.lab-linked")).to_have_count(1)
    expect(page.locator(".lab-chip.lab-linked")).to_have_attribute("data-layer", "conv2")
    assert page.evaluate(linked, "placement_graph") == ["conv2"]
    # Its edges: from conv1, and to fc1.
    assert page.locator("[data-figure=placement_graph] .scatterlayer .point.lab-linked").count() == 2
    # From the graph.
    card(page, "placement_graph").scroll_into_view_if_needed()
    box = page.locator("[data-figure=placement_graph] .barlayer .point", has_text="conv1").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator(".lab-chip.lab-linked")).to_have_attribute("data-layer", "conv1")
    assert set(page.evaluate(linked, "timeline")) == {"conv1"}


def test_a_card_fills_the_window_by_keyboard_and_gives_the_focus_back(tab: Tab) -> None:
    page = tab.page
    plot = card(page, "memory").locator("[data-plot]")
    small = plot.bounding_box()
    button = page.get_by_role("button", name="Maximise: Memory")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Memory")
    expect(dialog).to_be_visible()
    page.wait_for_function("document.querySelector('dialog .main-svg').getBoundingClientRect().height > 500")
    large = plot.bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 1.5 * small["width"] or small["width"] > 700
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Back to its place (Esc): Memory"
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Maximise: Memory"
    page.wait_for_function(
        "document.querySelector('[data-figure=memory] .main-svg').getBoundingClientRect().height < 400"
    )
    order = page.evaluate("[...document.querySelectorAll('.lab-bench > [data-figure]')].map(c => c.dataset.figure)")
    assert order.index("traffic") + 1 == order.index("memory")


def test_every_chart_has_a_table_and_can_be_saved(tab: Tab) -> None:
    page = tab.page
    stop(page)
    names = page.evaluate(
        "[...document.querySelectorAll('[data-figure]')].filter(c => !c.hidden).map(c => c.dataset.figure)"
    )
    assert names == ["timeline", "loss", "placement_graph", "busy", "traffic", "memory"]
    for name in names:
        card(page, name).locator("summary").click()
        expect(card(page, name).locator("td").first).to_be_visible()
        with page.expect_download() as table:
            card(page, name).get_by_role("button", name=re.compile("CSV")).click()
        lines = table.value.path().read_text(encoding="utf-8-sig").splitlines()
        headings = card(page, name).locator("th").all_inner_texts()
        assert lines[0].split(",") == headings
        assert len(lines) > 1
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<svg")):
        with page.expect_download() as picture:
            card(page, "traffic").get_by_role("button", name=re.compile(kind.upper())).click()
        content = picture.value.path().read_bytes()
        assert content.startswith(start)
        if kind == "svg":
            assert b"Traffic matrix" in content  # its title goes along
            assert b"368.6 kB" in content


def test_two_runs_are_compared_and_the_earlier_one_stands_behind_the_loss(tab: Tab) -> None:
    page = tab.page
    expect(card(page, "compare")).to_be_hidden()
    stop(page)
    page.fill("#lab-parts input", "4")
    page.click("#lab-start")
    expect(page.locator("[data-status]")).to_have_text(STEP)
    expect(card(page, "compare")).to_be_visible()
    rows = page.locator("[data-compared] tr", has_text="Microbatches")
    expect(rows).to_contain_text(re.compile(r"Microbatches\s*1\s*4"))
    names = "document.querySelector('[data-figure=loss] [data-plot]').data.map(trace => trace.name)"
    page.wait_for_function(f"{names}[0] === 'Run 1: microbatches 1'")
    stop(page)
    page.get_by_label("First run").select_option(label="Run 2")
    page.get_by_label("Second run").select_option(label="Run 1: microbatches 1")
    expect(rows).to_contain_text(re.compile(r"Microbatches\s*4\s*1"))


def test_a_new_visitor_has_no_earlier_runs(tab: Tab, browser: Browser, served: Served) -> None:
    stop(tab.page)
    other = Tab(browser, served.url)
    other.running()
    expect(card(other.page, "compare")).to_be_hidden()
    names = "document.querySelector('[data-figure=loss] [data-plot]').data.map(trace => trace.name)"
    assert not [name for name in other.page.evaluate(names) if name.startswith("Run")]
    other.context.close()
