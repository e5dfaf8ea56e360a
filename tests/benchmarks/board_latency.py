"""How long the placement board takes from a drop to the new drawing, in a real browser, for each net.

    python tests/benchmarks/board_latency.py

Prints milliseconds from the release of the mouse to the frame that shows the new crossing bytes: median and largest of
many drops. The aim is under 300.
"""

from __future__ import annotations

import json
import shutil
import statistics

from playwright.sync_api import sync_playwright

from lab import nets
from lab.experiment import Experiment
from widgets import board

DROPS = 20
DEVICES = [f"vgpu:{index}" for index in range(4)]
PAGE = """<!doctype html><body style="width: 344px"><style>{css}</style><div id="board"></div><script type="module">
{script}
window.times = [];
mountBoard(document.getElementById("board"), {{ words: {words} }}).update({state});
let released = 0;
// In the capture phase, so before the board hears of it.
window.addEventListener("pointerup", () => {{ released = performance.now(); }}, true);
window.addEventListener("pointerup", () => requestAnimationFrame(() => setTimeout(() => {{
  times.push(performance.now() - released);
}})));
</script>"""


def main() -> None:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        print(f"{'net':10} {'layers':>6} {'median ms':>10} {'largest ms':>10}")
        for net in nets.NAMES:
            state = board.state(Experiment(net=net, strategy="model_parallel", devices=DEVICES))
            page = browser.new_page(viewport={"width": 400, "height": 1400}, reduced_motion="reduce")
            words, css = json.dumps(board.words.WORDS), board.colors() + board.css()
            page.set_content(PAGE.format(css=css, script=board.script(), words=words, state=json.dumps(state)))
            page.wait_for_selector(".lab-chip")
            layer = state["layers"][0]["path"]
            for drop in range(DROPS):
                target = DEVICES[(drop + 1) % 4]
                chip = page.locator(f"[data-layer='{layer}'] .lab-hold").bounding_box()
                lane = page.locator(f".lab-lane[data-device='{target}'] header").bounding_box()
                if chip is None or lane is None:
                    raise RuntimeError("the board is not drawn")
                page.mouse.move(chip["x"] + 30, chip["y"] + 10)
                page.mouse.down()
                page.mouse.move(lane["x"] + 50, lane["y"] + 8, steps=3)
                page.mouse.up()
                page.wait_for_function("count => times.length >= count", arg=drop + 1)
                if not page.locator(f".lab-lane[data-device='{target}'] [data-layer='{layer}']").count():
                    raise RuntimeError(f"the drop on {target} missed")
            times = page.evaluate("times")
            print(f"{net:10} {len(state['layers']):6} {statistics.median(times):10.1f} {max(times):10.1f}")
        browser.close()


if __name__ == "__main__":
    main()
