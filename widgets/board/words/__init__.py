"""Every word on the placement board, in the language of now, see `widgets.languages`."""

from __future__ import annotations

from widgets import languages

__getattr__ = languages.words(__name__)
