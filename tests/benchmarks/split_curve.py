"""Draws what docs/examples/resnet50_split.py prints: the step time over the split size.

python docs/examples/resnet50_split.py > times.txt
python -m tests.benchmarks.split_curve times.txt docs/resnet50-split.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright

from widgets.figures import PALETTES
from widgets.figures import _theme as theming

TITLE = "ResNet-50, 120 images of 128 x 128, on two NVIDIA T4 over PCIe 3 · modelled, simulated clock"
WIDTH, HEIGHT = 900, 380


def read(path: Path) -> dict[str, float]:
    """Milliseconds by the name of the line: `one GPU`, `two GPUs`, `split 12`."""
    rows = (line.rsplit(maxsplit=2) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {name.strip(): float(ms) for name, ms, _ in rows}


def figure(times: dict[str, float]) -> go.Figure:
    palette = PALETTES["light"]
    splits = {int(name.split()[1]): ms for name, ms in times.items() if name.startswith("split")}
    spec = theming.base(
        "light",
        TITLE,
        HEIGHT,
        margin={"l": 8, "r": 170, "t": 44, "b": 8},
        xaxis={
            "title": {"text": "split size, images"},
            "tickvals": [1, *range(5, 61, 5)],
            "showgrid": False,
            "range": [0, 61],
        },
        yaxis={"title": {"text": "a training step, ms (simulated)"}, "range": [0, 1.05 * max(times.values())]},
    )
    curve = {
        "type": "scatter",
        "x": list(splits),
        "y": list(splits.values()),
        "mode": "lines+markers",
        "line": {"color": palette.accent, "width": 2.4},
        "marker": {"size": 5},
    }
    drawn = go.Figure({**spec, "data": [curve]}).update_layout(template="none", paper_bgcolor=palette.card)
    below = min(splits, key=lambda size: splits[size])
    drawn.add_annotation(
        x=below,
        y=splits[below],
        text=f"{splits[below]:.0f} ms at {below}",
        ay=32,
        ax=0,
        arrowcolor=palette.soft,
        arrowhead=0,
        standoff=5,
    )
    for name, text, dash, anchor in (
        ("one GPU", "one GPU", "solid", "top"),
        ("two GPUs", "two, no pipeline", "dash", "bottom"),
    ):
        drawn.add_hline(times[name], line={"color": palette.soft, "width": 1.4, "dash": dash})
        label = f" {text}: {times[name]:.0f} ms"
        drawn.add_annotation(
            x=1, xref="paper", y=times[name], text=label, showarrow=False, xanchor="left", yanchor=anchor
        )
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("times", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "figure.html"
        figure(read(options.times)).write_html(page_file, include_plotlyjs=True, config={"displayModeBar": False})
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT + 16}, device_scale_factor=2)
        page.goto(page_file.as_uri())
        page.wait_for_selector(".scatterlayer .point")
        page.screenshot(path=options.picture)


if __name__ == "__main__":
    main()
