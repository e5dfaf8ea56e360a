"""Every word in the page's figures and their tables, in the language of now, see `widgets.languages`.

`{fields}` are filled in where a figure is made; Plotly fills in `%{{x}}` later, in the browser.
"""

from __future__ import annotations

from widgets import languages

__getattr__ = languages.words(__name__)
