"""What a tab holds of its frames: a part is sent again only when it has changed since the frame that the tab drew last.

A browser may skip a frame: one that comes before it has drawn the one before. So what it is sent is always relative to
a frame that it says it has drawn, never to the one that was sent last.
"""

from __future__ import annotations

import json
from typing import Any

from widgets import plain


class Parts:
    """Values by name; `figures/loss` stands under `loss` in the frame's `figures`."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._changed: dict[str, int] = {}
        """Name -> the first frame with its value."""

    def note(self, name: str, value: Any, number: int) -> bool:
        """Takes a part as it is in the frame of that number; returns whether it is another than before."""
        value = plain.finite(value)
        if name in self._values and self._values[name] == value:
            return False
        self._values[name] = value
        self._texts[name] = _encode(value)
        self._changed[name] = number
        return True

    def since(self, drawn: int, **head: Any) -> str:
        """The frame as JSON: what has changed after the frame `drawn`, behind what every frame has."""
        fields = [f"{_encode(name)}:{_encode(value)}" for name, value in head.items()]
        groups: dict[str, list[str]] = {}
        for name, text in self._texts.items():
            if self._changed[name] <= drawn:
                continue
            group, _, key = name.rpartition("/")
            field = f"{_encode(key)}:{text}"
            if group:
                groups.setdefault(group, []).append(field)
            else:
                fields.append(field)
        fields += [f"{_encode(group)}:{{{','.join(members)}}}" for group, members in groups.items()]
        return f"{{{','.join(fields)}}}"


def _encode(value: Any) -> str:
    """JSON in which Gradio sees no tag, whatever a reader has written: it warns of scripts in what it shows."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
