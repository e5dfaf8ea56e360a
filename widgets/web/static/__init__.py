"""The page's own files, and the colours and words that go into them."""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from typing import Any

from widgets import board, languages
from widgets.figures import PALETTES, Theme
from widgets.web import lessons, text

PLOTLY_PATH = "parallel-lab/plotly.min.js"
"""Where the page serves Plotly's bundle, relative to the page, so that it works behind a proxy's prefix too."""
DRAWN_PATH = "parallel-lab/drawn"
"""Where the browser says which frame it has drawn."""
ALIVE_PATH = "parallel-lab/alive"
"""Where the browser says that the tab is still there."""
RUN_PATH = "parallel-lab/run.json"
"""A tab's run, as a file to keep."""
TABLE_PATH = "parallel-lab/table.csv"
"""The numbers behind one of a tab's charts, as a file."""
BENCH_SCRIPTS = ("common.js", "cards.js", "replay.js", "linking.js", "compare.js", "insight.js", "alive.js", "bench.js")
"""Each may use what those before it define."""


@functools.cache
def read(name: str) -> str:
    """One of the files beside this one. In HTML, `%{word}` is filled in by the browser, see `words.js`."""
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def head() -> str:
    """What the document's head has before anything is drawn. Gradio gives the rules of `css` more weight than they
    have; those of projector mode stand here, to be stronger."""
    return f"<script>{early()}</script><style>{read('projector.css')}</style>"


def early() -> str:
    """What the document's head runs: light or dark, the words, and projector mode."""
    tables = {each: _words(each) for each in languages.LANGUAGES}
    words = f"const parallelLabWords = {json.dumps(tables, ensure_ascii=False)};"
    return "\n".join((read("early.js"), words, read("words.js"), read("projector.js")))


def _words(language: languages.Language) -> dict[str, Any]:
    with languages.speaking(language):
        tables = {"presets": lessons.PRESETS, "preset_groups": lessons.PRESET_GROUPS, "lessons": text.LESSONS}
        return {**text.BENCH, **tables, "board": board.words.WORDS}


def bench() -> str:
    """The instruments' template: cards that the script fills."""
    return read("bench.html")


def bench_script() -> str:
    """What fills the cards."""
    return "\n".join(read(name) for name in BENCH_SCRIPTS)


def panel_script() -> str:
    """The placement board's core, and how it is held in the page."""
    return f"{board.script()}\n{read('panel.js')}"


def css() -> str:
    """The page's stylesheet, with the figures' colours as variables. All type grows with `--lab-type`, which projector
    mode sets."""
    sheets = "".join(map(read, ("page.css", "bench.css", "insight.css"))) + board.css()
    sheets = re.sub(r"((?:font-size|text-size|font):[^;}]*?)\b([\d.]+)px", r"\1calc(\2px * var(--lab-type))", sheets)
    return _variables("light", ":root") + _variables("dark", ".dark") + sheets


def _variables(theme: Theme, selector: str) -> str:
    palette = PALETTES[theme]
    pairs = {
        "card": palette.card,
        "ink": palette.ink,
        "soft": palette.soft,
        "quiet": palette.soft,
        "line": palette.line,
        "track": palette.track,
        "accent": palette.accent,
        "crossing": palette.crossing,
        **{f"d{index}": color for index, color in enumerate(palette.devices)},
    }
    return selector + "{" + "".join(f"--lab-{name}:{value};" for name, value in pairs.items()) + "}\n"
