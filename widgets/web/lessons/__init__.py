"""What the page teaches in longer words: its presets, and the lessons of failures, in the language of the tab."""

from __future__ import annotations

from widgets import languages

__getattr__ = languages.words(__name__)
