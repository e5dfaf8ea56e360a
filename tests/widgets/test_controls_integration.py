"""Run, Pause, Step and Stop in a real browser, and what becomes of the processes behind a tab."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, expect

from lab.run import Run
from tests.widgets.test_page_integration import ENDLESS, Tab, until
from widgets.web.serve import Served, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

GONE_SECONDS = 5.0
"""Within which nothing is left of a closed tab."""
NUMBERS = "window.numbers = []; document.addEventListener('parallel-lab:frame', e => numbers.push(e.detail.number));"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ENDLESS, port=0) as served:
        yield served


@pytest.fixture
def tab(browser: Browser, served: Served) -> Iterator[Tab]:
    tab = Tab(browser, served.url)
    tab.page.evaluate(NUMBERS)
    tab.running()
    yield tab
    tab.context.close()
    until(lambda: not served.sessions.live())
    assert tab.errors == []
    assert tab.outside == []


def the_run(served: Served) -> Run:
    (run,) = served.sessions.live()
    assert isinstance(run, Run)
    return run


def test_run_pause_step_stop_and_run_again(tab: Tab, served: Served) -> None:
    page, status = tab.page, tab.page.locator("[data-status]")
    run = the_run(served)
    page.click("#lab-pause")
    expect(status).to_have_text(re.compile("Paused"))
    assert run.state.paused is not None
    where = run.state.paused.step
    page.click("#lab-step")
    until(lambda: run.state.paused is not None and run.state.paused.step == where + 1)
    expect(status).to_have_text(re.compile(rf"Paused.*\b{where + 1:,}\b"))
    page.click("#lab-pause")
    tab.goes_on()
    page.click("#lab-stop")
    expect(status).to_have_text(re.compile("Stopped after"))
    expect(page.locator("#lab-stop")).to_be_disabled()
    expect(page.locator("#lab-pause")).to_be_disabled()
    until(lambda: not served.sessions.live())
    page.click("#lab-start")
    tab.running()
    second = the_run(served)
    page.click("#lab-start")  # beside a run: it takes its place
    until(lambda: second.done)
    tab.running()
    assert the_run(served).id != second.id
    # What one run sent last must not be drawn after what the next one sent first.
    numbers = page.evaluate("numbers")
    assert numbers == sorted(numbers)


def test_nothing_is_left_of_a_closed_tab(tab: Tab, served: Served) -> None:
    run = the_run(served)
    pids = run.pids
    assert pids
    tab.page.close()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), GONE_SECONDS)
    until(lambda: len(served.sessions) == 0, GONE_SECONDS)


def test_a_worker_that_the_system_kills_is_told_of_and_the_page_goes_on(tab: Tab, served: Served) -> None:
    """As the kernel does when memory runs out."""
    os.kill(the_run(served).pids[0], signal.SIGKILL)
    alert = tab.page.locator("[data-alert]")
    expect(alert).to_contain_text("rank 0 was killed by SIGKILL")
    expect(alert).to_contain_text("the machine was out of memory: use a smaller batch or a smaller net")
    tab.page.click("#lab-start")
    tab.running()
    expect(alert).to_be_hidden()


def test_a_server_that_is_started_again_says_what_to_do(browser: Browser) -> None:
    with serving(ENDLESS, port=0) as first:
        tab = Tab(browser, first.url)
        tab.running()
        port = httpx.URL(first.url).port
    lost = tab.page.locator("[data-lost]")
    expect(lost).to_contain_text("The server does not answer")
    with serving(ENDLESS, port=port):
        expect(lost).to_contain_text("The server no longer knows this tab")
        tab.page.click("[data-reload]")
        tab.running()
        expect(lost).to_be_hidden()
        tab.context.close()
