"""How fast a run goes that people watch: how long it stands still between two steps, which no number of it counts."""

from __future__ import annotations

PAUSES = {"full": 0.0, "slow": 0.2, "slower": 1.0}
"""A speed by its name -> seconds between two steps."""
WATCH = "watch"
"""The speed at which a short run lasts long enough to be watched, whatever its number of steps."""
WATCHED_SECONDS = 8.0
"""That long."""
LEAST_SECONDS = 0.005
"""A run of so many steps that it would stand still for less is long enough by itself."""
MOST_SECONDS = 1.0


def pause_s(speed: str, steps: int) -> float:
    """Seconds for which a run of so many steps is to stand still between two of them.

    Args:
        speed: of `PAUSES`, or `WATCH`.
    """
    if speed != WATCH:
        return PAUSES[speed]
    seconds = min(MOST_SECONDS, WATCHED_SECONDS / max(1, steps))
    return seconds if seconds >= LEAST_SECONDS else 0.0
