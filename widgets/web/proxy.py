"""The page as a tile in JupyterLab's launcher, for jupyter-server-proxy: on Binder, on a hub, or on a laptop.

jupyter-server-proxy finds `page` through this project's entry point, starts its command when somebody clicks the tile,
and shows what it serves under `<server>/parallel-lab/`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

NAME = "parallel-lab"
"""Of the entry point, and the last part of the page's address. `lab` would hide JupyterLab itself."""
TITLE = "Parallel Lab"
STARTUP_SECONDS = 180
"""For the page to answer. It takes 5 s on an idle laptop; Binder's machines are shared, and may have to read it all
from a cold disk."""
SMALL_BYTES = 4 * 10**9
"""Less memory than this is kept for one run of two ranks: a rank takes about 0.25 GB, and notebooks run ranks too."""
SMALL_BOUNDS = ("--max-runs", "1", "--max-ranks", "2")


def page() -> dict[str, Any]:
    """How jupyter-server-proxy starts the page; it fills in `{port}` and `{base_url}`, which ends in a slash."""
    address = ("--port", "{port}", "--root-path", "{base_url}" + NAME)
    return {
        "command": [sys.executable, "-m", "lab", "serve", *address, *_bounds()],
        "timeout": STARTUP_SECONDS,
        "launcher_entry": {
            "title": TITLE,
            # Not by importing `widgets.web.static`, which would load Plotly into JupyterLab's own server.
            "icon_path": str(Path(__file__).with_name("static") / "icon.svg"),
        },
    }


def _bounds() -> tuple[str, ...]:
    """What the page allows: on a machine of its own, what `serve` allows everywhere; less where a hub (Binder is one)
    says through MEM_LIMIT, in bytes, that it has given little memory."""
    limit = os.environ.get("MEM_LIMIT", "")
    return SMALL_BOUNDS if limit.isdecimal() and int(limit) < SMALL_BYTES else ()
