"""Every word that the page shows, in one place; `text.START` is in the language of the tab, see `widgets.languages`.

Error sentences come from `lab`, which knows the reader's numbers, and are English. So is what the server says in its
terminal and to requests that the page would not make, in `server.py`.
"""

from __future__ import annotations

from widgets import languages

__getattr__ = languages.words(__name__)
