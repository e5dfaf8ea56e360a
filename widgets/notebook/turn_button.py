"""Buttons that wait for what they have started: clicks from meanwhile are dropped instead of done one after another.

A kernel that works does not look at clicks. Those of an ordinary button pile up, and are done all at once in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets


class TurnButton(anywidget.AnyWidget):  # type: ignore[misc]
    """A button whose clicks each carry the turn that they were meant for; one of an earlier turn does nothing."""

    _esm = Path(__file__).parent / "static" / "turn_button.js"

    description = traitlets.Unicode().tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)
    primary = traitlets.Bool(False).tag(sync=True)
    turn = traitlets.Int(0).tag(sync=True)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._handlers: list[Callable[[int], None]] = []
        self.on_msg(self._take)

    def on_click(self, handler: Callable[[int], None]) -> None:
        """Calls the handler with the turn that a click was meant for; it says itself when that is over."""
        self._handlers.append(handler)

    def click(self) -> None:
        """As a click that is meant for now."""
        self._call(self.turn)

    def _take(self, widget: Any, content: Any, buffers: Any) -> None:
        turn = content.get("turn") if isinstance(content, dict) and content.get("event") == "click" else None
        if isinstance(turn, int):
            self._call(turn)

    def _call(self, turn: int) -> None:
        for handler in self._handlers:
            handler(turn)
