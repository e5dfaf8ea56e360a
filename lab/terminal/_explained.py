"""What just happened, at the end of a run in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lab import insight
from lab.state import RunState

MOST = 4
"""Sentences: what explains most, and no more than is read at a glance."""


def explanation(state: RunState) -> RenderableType:
    """The first few findings, in the words that all faces use; nothing for a run that took no step."""
    found = insight.look(state)[:MOST]
    if not found:
        return Group()
    # Only here, as the words are no part of the engine.
    from widgets import findings

    lines = Table.grid(padding=(0, 1))
    for each in findings.say(found):
        lines.add_row("•", escape(str(each)))
    return Group(Text(f"\n{findings.words.TITLE}", style="bold"), lines)
