"""The sentences of "What just happened"; `words.TITLE` is in the language of the tab, see `widgets.languages`."""

from __future__ import annotations

from widgets import languages

__getattr__ = languages.words(__name__)
