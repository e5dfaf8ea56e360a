"""Plotly's own JavaScript, sent to the browser once per kernel.

A FigureWidget brings it along with every instance, and it weighs 5 MB: a panel of five figures would send 25 MB. So one
hidden model holds it, and each view's front end reads it from there.
"""

from __future__ import annotations

import threading
from importlib import resources

import traitlets
from ipywidgets import Widget

_lock = threading.Lock()
_bundle: Bundle | None = None


class Bundle(Widget):
    """A model without a view."""

    code = traitlets.Bytes().tag(sync=True)


def model_id() -> str:
    """Of the model that holds the code; it is made on first use, and made anew when somebody closed all widgets."""
    global _bundle
    with _lock:
        if _bundle is None or _bundle.comm is None:
            path = resources.files("plotly") / "package_data" / "plotly.min.js"
            _bundle = Bundle(code=path.read_bytes())
        return str(_bundle.model_id)
