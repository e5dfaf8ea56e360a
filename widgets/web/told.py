"""What just happened, for a tab: the findings of its run in its language."""

from __future__ import annotations

from typing import Any

from lab import insight
from lab.state import RunState
from widgets import findings
from widgets.findings.earlier import Earlier


def tell(state: RunState, earlier: Earlier) -> dict[str, Any]:
    """What the card shows. Hold the run's lock meanwhile."""
    words = findings.words
    said = findings.say(insight.look(state, earlier.before(state), earlier.one(state)))
    return {
        "title": words.TITLE,
        "more": words.MORE,
        "empty": "" if said else findings.silence(state),
        "said": [(each.text, each.label, each.meaning, each.basis) for each in said],
        "shown": findings.SHOWN,
    }
