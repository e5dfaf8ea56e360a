"""Checks of notebook 09: how to choose, and many models at once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lab.exercises import reading
from lab.exercises.grading import Wrong, call, exercise

CASES = (((7, 5, 4, 3, 2, 2, 1), 2), ((1, 1, 1, 1, 1, 5), 2), ((9, 8, 7, 6, 5, 4, 3, 2, 1), 3), ((2, 2), 4))
WORST = 4 / 3
"""How far from perfect the longest-first rule can be (Graham, 1969)."""


@exercise(
    "09-assign",
    todo="Give each run to the device that is free first. Which run should go first: a long or a short one?",
)
def assign(answer: Any) -> str:
    """Runs of known length on devices, so that the last is done early."""
    for minutes, devices in CASES:
        case = f"for runs of {list(minutes)} minutes on {devices} devices"
        found = call(answer, list(minutes), devices)
        lists = reading.lists_of_numbers(found)
        if lists is None:
            raise Wrong(f"{case}, a list of runs for each device is asked for, and this is {found!r}")
        if len(lists) != devices:
            raise Wrong(f"{case}, there are lists for {len(lists)} devices: {lists}")
        count = Counter(run for runs in lists for run in runs)
        wrong = [run for run in range(len(minutes)) if count[run] != 1]
        if wrong or len(count) != len(minutes):
            what = (
                f"run {wrong[0]} is there {count[wrong[0]]} times" if wrong else f"there is a run that is not: {lists}"
            )
            raise Wrong(f"{case}, {what}. Runs are named by their place in the list, 0 to {len(minutes) - 1}")
        end = max(sum(minutes[run] for run in runs) for runs in lists)
        bound = max(-(-sum(minutes) // devices), max(minutes))
        if end > WORST * bound:
            raise Wrong(f"{case}, the last device is done after {end} minutes; {bound} can be reached. Yours: {lists}")
    return "no device is done much later than the others, in any of the cases."
