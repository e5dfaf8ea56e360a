"""What stays of a widget in a notebook that is opened again, when no kernel knows it any more: its last picture.

The picture is an output of its own, below the widget's, and is seen only where the widget is not: front ends draw a
widget wherever there is one, and say "model not found" in its place when its kernel is gone.
"""

from __future__ import annotations

import html
import re
from typing import Any

from widgets.notebook import cells

PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]*")
"""What a front end may send as the picture of a figure."""
MOST_BYTES = 2_000_000
"""Of one picture; longer ones are left out, for the sake of the notebook."""
MOST_COPIES = 8
"""Places in the notebook, the last ones, where a widget's picture is kept up to date."""
# The widget is there: no picture. It is not: what stands in its place goes.
STYLE = """<style>
.jp-OutputArea-child:has(.parallel-lab-view) + .jp-OutputArea-child:has(> * .parallel-lab-still) { display: none }
.jp-OutputArea-child:not(:has(.parallel-lab-view)):has(+ .jp-OutputArea-child .parallel-lab-still img) { display: none }
.parallel-lab-still img { max-width: 100% }
</style>"""


class Stays:
    """A widget that leaves its picture below itself when it is shown in a notebook."""

    def still(self) -> str:
        """What it shows now, as HTML without scripts; empty while there is nothing to see."""
        raise NotImplementedError

    def kept(self) -> dict[str, Any]:
        """What else the notebook's file keeps of it beside the picture, by MIME type."""
        return {}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = self._repr_mimebundle_()  # type: ignore[attr-defined]
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display(data, metadata=metadata, raw=True)
        if getattr(cells.shell(), "kernel", None) is not None:
            handle = display(self._left(), raw=True, display_id=True)
            self._copies = [*getattr(self, "_copies", []), handle][-MOST_COPIES:]

    def keep_still(self) -> None:
        """Puts the picture of now in place of the earlier one."""
        for handle in getattr(self, "_copies", []):
            handle.update(self._left(), raw=True)

    def _left(self) -> dict[str, Any]:
        return {"text/plain": "", "text/html": _below(self.still()), **self.kept()}


def image(picture: str, title: str) -> str:
    """A picture from a front end, as HTML; empty for what is none."""
    if len(picture) > MOST_BYTES or not PICTURE.fullmatch(picture):
        return ""
    return f'<img src="{picture}" alt="{html.escape(title)}">'


def _below(still: str) -> str:
    return f'{STYLE}<div class="parallel-lab-still">{still}</div>'
