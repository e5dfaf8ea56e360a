"""The placement board: one framework-free core in JavaScript, and what its two adapters need of it.

`model.js`, `lanes.js`, `drag.js` and `board.js` are plain ES modules. Neither Jupyter nor Gradio can import one module
from another, so `script()` puts them into one text; nothing is built, and nothing is fetched from anywhere.
"""

from __future__ import annotations

import functools
import re
from importlib import resources

from widgets.board import words
from widgets.board.state import measured, state
from widgets.figures import PALETTES

__all__ = ["colors", "css", "measured", "script", "state", "words"]

_MODULES = ("model.js", "lanes.js", "drag.js", "board.js")
"""Each may import from those before it."""


@functools.cache
def script() -> str:
    """The core as one script without imports or exports; it defines `mountBoard`."""
    text = "\n".join(_read(name) for name in _MODULES)
    text = re.sub(r"^import .*?;\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


@functools.cache
def css() -> str:
    """The board's stylesheet; it takes its colours from the host's `--lab-*` variables."""
    return _read("board.css")


@functools.cache
def colors() -> str:
    """Those variables, for a host that has none: light, and dark where Jupyter, Colab or VS Code is dark."""
    dark = 'body[data-jp-theme-light="false"] .lab-board, html[theme="dark"] .lab-board, .vscode-dark .lab-board'
    return _variables("light", ".lab-board") + _variables("dark", f"{dark}, .dark .lab-board, .lab-board.dark")


def _variables(theme: str, selector: str) -> str:
    palette = PALETTES["dark" if theme == "dark" else "light"]
    names = ("card", "ink", "soft", "line", "track", "accent", "crossing")
    pairs = {name: getattr(palette, name) for name in names}
    pairs |= {f"d{index}": color for index, color in enumerate(palette.devices)}
    return f"{selector} {{ " + " ".join(f"--lab-{name}: {value};" for name, value in pairs.items()) + " }\n"


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
