"""Says in the browser that the kernel behind a panel is gone, and offers to run the cells up to it again."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

from widgets.notebook import text

_STATIC = Path(__file__).parent / "static"


class Alive(anywidget.AnyWidget):  # type: ignore[misc]
    """Nothing to see, as long as its kernel is there. After that the front end alone is left to say anything."""

    _esm = _STATIC / "alive.js"
    _css = _STATIC / "alive.css"

    own = traitlets.Unicode().tag(sync=True)
    """Its own model's id, by which the front end finds out whether it still has a kernel."""
    words = traitlets.Dict(text.GONE).tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self.own = self.model_id
