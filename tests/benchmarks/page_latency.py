"""How long the page takes to answer, in a real browser, with real runs behind it.

    python -m tests.benchmarks.page_latency [--times 9]

Milliseconds from what the reader does to the frame that is painted on the screen: median, and largest of many. The
server has a process of its own. The first run, which loads torch and the data, is left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
from collections.abc import Callable
from multiprocessing.connection import Connection

from playwright.sync_api import Browser, Page, sync_playwright

from tests.benchmarks.common import print_table

CLICK_MS, GRAPH_MS, RESTART_MS = 500, 300, 1000
"""The bars: a click on Run to a point of the loss; a drop to the new graph on the board; a drop to the new run."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WATCH = """
window.seen = [];
window.painted = (what) => requestAnimationFrame(() => setTimeout(() => window.seen.push([what(), performance.now()])));
for (const kind of ["click", "pointerup"]) {
  window.addEventListener(kind, () => { window.acted = performance.now(); window.seen = []; }, true);
}
document.addEventListener("parallel-lab:frame", ({ detail }) => {
  const { run, kpis, status, figures } = detail;
  const loss = /\\d/.test(kpis.loss[0]) && figures.loss.data.some(({ x }) => (x?.length ?? x?.shape) || x?.bdata);
  window.painted(() => ({ run, loss, state: status.state }));
});
"""
BOARD = """new MutationObserver((changes) => {
  if (changes.some(({ target }) => target.parentElement?.closest("[data-board]"))) painted(() => ({ board: true }));
}).observe(document, { childList: true, subtree: true, characterData: true });"""
FIRST = """([kind, old]) => {
  const wanted = {
    board: (what) => what.board,
    started: (what) => what.run && what.run !== old && what.state === "running",
    loss: (what) => what.run && what.run !== old && what.loss,
  }[kind];
  const found = window.seen.find(([what]) => wanted(what));
  return found ? found[1] - window.acted : 0;
}"""
RUN = "window.seen.findLast(([what]) => what.run && what.loss)?.[0].run ?? ''"
DEVICES = ("vgpu:0", "vgpu:1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=9)
    times = parser.parse_args().times
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,))
    server.start()
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        url = here.recv()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            rows = measured(browser, url, times)
            browser.close()
    finally:
        here.send("end")
        server.join(30)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print_table(f"The page's answers, {times} times each; load {load}", ["what", "median", "largest", "bar"], rows)


def serve(pipe: Connection) -> None:
    """The server's process: says where it is."""
    from lab.experiment import Experiment
    from widgets.web.serve import serving

    experiment = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, epochs=5)
    with serving(experiment, port=0) as served:
        pipe.send(served.url)
        pipe.recv()


def measured(browser: Browser, url: str, times: int) -> list[list[str]]:
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.add_init_script(WATCH)
    page.goto(url)
    running(page)
    page.evaluate(BOARD)
    found: dict[str, list[float]] = {}
    for _ in range(times + 1):
        stop(page)
        answers(page, found, "Run, after Stop", lambda: page.click("#lab-start"), ("loss",))
    for _ in range(times + 1):
        answers(page, found, "Run, beside a run", lambda: page.click("#lab-start"), ("loss",))
    for number in range(times + 1):
        device = DEVICES[number % 2]
        answers(page, found, "drop", lambda device=device: drop(page, device), ("board", "started", "loss"))
    bars = {"loss": CLICK_MS, "board": GRAPH_MS, "started": RESTART_MS}
    words = {"loss": "to a point of the loss", "board": "to the new graph on the board", "started": "to the new run"}
    rows = []
    for name, values in found.items():
        what, _, kind = name.partition("/")
        bar = RESTART_MS if name == "drop/loss" else bars[kind]
        largest, median = max(values[1:]), statistics.median(values[1:])
        rows.append([f"{what}, {words[kind]}", f"{median:.0f} ms", f"{largest:.0f} ms", f"{bar} ms"])
    return rows


def answers(
    page: Page, found: dict[str, list[float]], name: str, act: Callable[[], None], kinds: tuple[str, ...]
) -> None:
    """Does something and notes how long each of the answers took."""
    old = running(page)
    act()
    for kind in kinds:
        page.wait_for_function(f"asked => ({FIRST})(asked) > 0", arg=[kind, old], timeout=30_000)
        found.setdefault(f"{name}/{kind}", []).append(page.evaluate(FIRST, [kind, old]))
    page.wait_for_timeout(1500)  # as somebody who looks at the answer


def running(page: Page) -> str:
    """The run that was last seen to train."""
    page.wait_for_function(f"({RUN}) !== ''", timeout=90_000)
    return str(page.evaluate(RUN))


def stop(page: Page) -> None:
    page.wait_for_timeout(500)
    page.click("#lab-stop")
    page.wait_for_function("window.seen.findLast(([what]) => what.run)?.[0].state === 'stopped'", timeout=30_000)
    page.wait_for_timeout(500)


def drop(page: Page, device: str) -> None:
    """Drags the net's second layer to a device."""
    chip = page.locator("[data-layer='conv2'] .lab-hold").bounding_box()
    lane = page.locator(f".lab-lane[data-device='{device}'] header").bounding_box()
    if chip is None or lane is None:
        raise RuntimeError("the board is not drawn")
    page.mouse.move(chip["x"] + 30, chip["y"] + 10)
    page.mouse.down()
    page.mouse.move(lane["x"] + 50, lane["y"] + 8, steps=4)
    page.mouse.up()


if __name__ == "__main__":
    main()
