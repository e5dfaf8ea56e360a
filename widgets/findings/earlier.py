"""The runs that somebody has seen, as far as later ones are compared with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab import insight
from lab.insight import Summary
from lab.state import RunState

KEPT = 8
"""Runs that are remembered."""


@dataclass(slots=True)
class Earlier:
    """The earlier runs of a tab, or of a panel."""

    _kept: dict[str, Summary] = field(default_factory=dict)
    _beside: dict[str, Summary] = field(default_factory=dict)
    """Runs of one device that nobody saw, made to compare with."""

    def keep(self, state: RunState, beside: bool = False) -> None:
        """Takes the run as it is now, in place of what was kept of it before. Hold its lock meanwhile.

        Args:
            beside: it was made to compare with, and is no run of the reader's.
        """
        taken, kept = insight.summary(state), self._beside if beside else self._kept
        if taken is not None:
            kept[taken.run_id] = taken
            while len(kept) > KEPT:
                del kept[next(iter(kept))]

    def before(self, state: RunState) -> Summary | None:
        """The last run before this one."""
        return next(reversed(self._others(state)), None)

    def one(self, state: RunState) -> Summary | None:
        """The last run of the same training on one device."""
        if state.started is None:
            return None
        fields = state.started.experiment
        known = [*self._beside.values(), *self._others(state)]
        return next((each for each in reversed(known) if insight.is_reference(each, fields)), None)

    def _others(self, state: RunState) -> list[Summary]:
        own = state.started.run_id if state.started is not None else ""
        return [each for each in self._kept.values() if each.run_id != own]
