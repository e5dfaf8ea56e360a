"""What stays of a widget where only outputs are kept: a notebook opened again, nbconvert, a viewer without widgets.

It is an output of its own, below the widget's, and is seen only where the widget is not: front ends draw a widget
wherever there is one, and say "model not found" in its place when its kernel is gone. After every cell it is brought up
to date, by Python alone, so that it is there where no browser was.
"""

from __future__ import annotations

import html
import logging
import re
import weakref
from typing import Any

from widgets.notebook import cells

PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]*")
"""What a front end may send as the picture of a figure."""
MOST_BYTES = 2_000_000
"""Of one picture; longer ones are left out, for the sake of the notebook."""
MOST_COPIES = 8
"""Places in the notebook, the last ones, where a widget's picture is kept up to date."""
BELOW = "parallel-lab-still"
"""The class of what stays."""
HERE = "parallel-lab-stays"
"""The class of a widget that is on the screen itself."""
# The widget is there: no picture. It is not: what stands in its place goes.
STYLE = f"""<style>
.jp-OutputArea-child:has(.{HERE}) + .jp-OutputArea-child:has(> * .{BELOW}) {{ display: none }}
.jp-OutputArea-child:not(:has(.{HERE})):has(+ .jp-OutputArea-child .{BELOW}:not(:empty)) {{ display: none }}
.{BELOW} img {{ max-width: 100% }}
</style>"""

log = logging.getLogger(__name__)
_shown: weakref.WeakSet[Any] = weakref.WeakSet()
"""Whatever has a place in the notebook."""
_listening: weakref.WeakSet[Any] = weakref.WeakSet()
"""Shells that tell the end of a cell."""


class Stays:
    """A widget that leaves what it shows below itself when it is shown in a notebook."""

    _left: dict[str, Any] | None = None
    """What was put into the notebook last."""

    def still(self) -> str:
        """What it shows now, as HTML without scripts; empty while there is nothing to see."""
        from widgets.notebook import keeping

        return keeping.still(self)

    def kept(self) -> dict[str, Any]:
        """What else the notebook's file keeps of it beside the picture, by MIME type."""
        return {}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        in_kernel = getattr(cells.shell(), "kernel", None) is not None
        if in_kernel:
            self.add_class(HERE)  # type: ignore[attr-defined]
        bundle = self._repr_mimebundle_()  # type: ignore[attr-defined]
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if not in_kernel:
            display(data, metadata=metadata, raw=True)
            return
        # What says it for front ends without widgets is the output below.
        view = {mime: value for mime, value in data.items() if mime != "text/html"}
        display({**view, "text/plain": ""}, metadata=metadata, raw=True)
        # The picture itself follows when the cell ends: painting one may take as long as six steps of training.
        self._left = self._left or _below("", self.kept())
        handle = display(self._left, raw=True, display_id=True)
        self._copies = [*getattr(self, "_copies", []), handle][-MOST_COPIES:]
        _shown.add(self)
        _listen()

    def keep_still(self) -> None:
        """Puts what is seen now in place of what was seen before."""
        if not getattr(self, "_copies", []):
            return
        now = _below(self.still(), self.kept())
        if now != self._left:
            self._left = now
            for handle in self._copies:
                handle.update(now, raw=True)


def _listen() -> None:
    ip = cells.shell()
    if ip not in _listening:
        _listening.add(ip)
        ip.events.register("post_run_cell", _after_cell)


def _after_cell(result: Any) -> None:
    """On the main thread, as a part of the cell: nbclient, which nbconvert runs notebooks with, hears no other news."""
    for widget in list(_shown):
        _keep(widget)


def _keep(widget: Stays) -> None:
    try:
        widget.keep_still()
    except Exception:  # one that cannot be painted must not keep the others from it
        log.exception("could not keep what %s shows", type(widget).__name__)


def image(address: str, title: str, background: str = "transparent") -> str:
    """A picture as HTML."""
    style = f"max-width:100%;background:{background};border-radius:6px"
    return f'<img src="{address}" alt="{html.escape(title)}" style="{style}">'


def acceptable(picture: str) -> bool:
    """Whether what came from a front end is a picture."""
    return len(picture) <= MOST_BYTES and PICTURE.fullmatch(picture) is not None


def _below(still: str, kept: dict[str, Any]) -> dict[str, Any]:
    return {"text/plain": "", "text/html": f'{STYLE}<div class="{BELOW}">{still}</div>', **kept}
