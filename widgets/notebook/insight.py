"""What just happened in a run, in sentences computed from its own numbers.

InsightView(run)                # follows the run; run it again with another and the two are compared
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Sequence

from ipywidgets import HTML

from lab import insight
from lab.state import RunState
from widgets import findings
from widgets.findings import Said
from widgets.findings.earlier import Earlier
from widgets.notebook import cells
from widgets.notebook.follow import Run, ThrownAway, follow, unfollow
from widgets.notebook.staying import Stays

PACE_SECONDS = 1.0
"""Sentences that change more often cannot be read."""
_CHIP = "font-size:11px;opacity:.7;border:1px solid;border-radius:999px;padding:0 6px;white-space:nowrap"


class InsightView(ThrownAway, Stays, HTML):
    """Follows its run to the end. Given another run with `show`, it compares that with the one before."""

    def __init__(self, run: Run | None = None) -> None:
        self._guard = threading.RLock()
        self._due = 0.0
        self._run: Run | None = None
        self._earlier = Earlier()
        super().__init__()
        cells.watch_interrupts()
        self.show(run)

    @property
    def run(self) -> Run | None:
        return self._run

    def show(self, run: Run | None) -> None:
        """Follows another run from now on."""
        with self._guard:
            before, self._run = self._run, run
            if before is not None and before is not run:
                unfollow(before, self)
                with before.lock:
                    self._earlier.keep(before.state)
        self.refresh(everything=True)
        if run is not None:
            follow(run, self)

    def refresh(self, everything: bool = False) -> None:
        """Says what is new, if its time has come. Called by the thread that follows the run."""
        with self._guard:
            now = time.monotonic()
            if now < self._due and not everything:
                return
            self._due = now + PACE_SECONDS
            page = _page(self.said(), self._run.state if self._run is not None else RunState())
            if page != self.value:
                self.value = page

    def said(self) -> list[Said]:
        """The sentences, the most important first."""
        run = self._run
        if run is None:
            return []
        with run.lock:
            return _said(run.state, self._earlier)

    def close(self) -> None:
        """Follows no run any more, and goes from the screen."""
        with self._guard:
            run, self._run = self._run, None
        if run is not None:
            unfollow(run, self)
        super().close()


def _said(state: RunState, earlier: Earlier) -> list[Said]:
    return findings.say(insight.look(state, earlier.before(state), earlier.one(state)))


def _page(said: Sequence[Said], state: RunState) -> str:
    words = findings.words
    head = f"<b>{html.escape(words.TITLE)}</b>"
    if not said:
        return f"{head}<p style='margin:4px 0;opacity:.7'>{html.escape(findings.silence(state))}</p>"
    first, others = said[: findings.SHOWN], said[findings.SHOWN :]
    more = f"<details><summary>{html.escape(words.MORE)}</summary>{_list(others)}</details>" if others else ""
    return f"<div style='max-width:92ch;line-height:1.5'>{head}{_list(first)}{more}</div>"


def _list(said: Sequence[Said]) -> str:
    lines = [
        f"<li>{html.escape(each.text)} <span style='{_CHIP}' title='{html.escape(each.meaning, quote=True)}'>"
        f"{html.escape(each.label)}</span></li>"
        for each in said
    ]
    return f"<ul style='margin:4px 0;padding-left:18px'>{''.join(lines)}</ul>"
