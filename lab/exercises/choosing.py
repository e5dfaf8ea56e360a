"""Checks of notebook 09: how to choose, and many models at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from lab.exercises import reading
from lab.exercises.grading import Wrong, call, exercise, shown

CASES = (
    ((7, 5, 4, 3, 2, 2, 1), 2),
    ((1, 1, 1, 1, 1, 5), 2),
    ((9, 8, 7, 6, 5, 4, 3, 2, 1), 3),
    ((2, 2), 4),
    ((3, 1, 2), 1),
    ((0, 4, 0, 4), 2),
    ((2, 3, 2, 3, 2, 3, 9), 3),
)
"""Minutes of runs, and devices."""
WORST = Fraction(4, 3)
"""How far from the earliest end the longest-first rule can be (Graham, 1969)."""


@exercise(
    "09-assign",
    todo="Return a list for each device, with the places of its runs, so that the last device is done early.",
    hints=(
        "What happens to the end when the longest run is the last to be given out?",
        "Give each run to the device that is free first. In which order, then?",
        "The longest run first: `sorted(range(len(minutes)), key=lambda run: -minutes[run])`.",
    ),
)
def assign(answer: Any) -> str:
    """Runs of known length on devices, so that the last is done early."""
    for minutes, devices in CASES:
        case = f"For runs of {list(minutes)} minutes on {devices} device{'s' * (devices > 1)}"
        lists = _lists(call(answer, list(minutes), devices), minutes, devices, case)
        end, best = max(sum(minutes[run] for run in runs) for runs in lists), earliest_end(minutes, devices)
        if end > WORST * best:
            raise Wrong(f"{case}, the last device is done after {end} minutes; {best} can be reached. Yours: {lists}.")
    return "No device is done much later than the others, in any of the cases."


def earliest_end(minutes: Sequence[int], devices: int) -> int:
    """The earliest possible end of the last device, in minutes: all that the devices can be busy for is tried."""
    reached = {(0,) * devices}
    for length in minutes:
        reached = {
            tuple(sorted((*busy[:device], busy[device] + length, *busy[device + 1 :])))
            for busy in reached
            for device in range(devices)
        }
    return min(busy[-1] for busy in reached)


def _lists(found: Any, minutes: Sequence[int], devices: int, case: str) -> list[list[int]]:
    """The answer as lists of places.

    Raises:
        Wrong: unless there is one for each device, and each run is in one of them.
    """
    lists = reading.lists_of_numbers(found)
    if lists is None:
        raise Wrong(f"{case}, a list of runs for each device is asked for, and this is {shown(found)}.")
    if isinstance(found, Mapping):  # a device without runs need not be named
        lists += [[] for _ in range(devices - len(lists))]
    if len(lists) != devices:
        are = "is a list for 1 device" if len(lists) == 1 else f"are lists for {len(lists)} devices"
        raise Wrong(f"{case}, there {are}: {lists}.")
    count = Counter(run for runs in lists for run in runs)
    if all(count[run] == 1 for run in range(len(minutes))) and len(count) == len(minutes):
        return lists
    if count == Counter(minutes):
        raise Wrong(f"{case}, these are the runs' minutes, and their places in the list are asked for: {lists}.")
    places = f"Runs are named by their place in the list, 0 to {len(minutes) - 1}. Yours: {lists}."
    strange = [run for run in count if run not in range(len(minutes))]
    if strange:
        raise Wrong(f"{case}, there is no run {shown(strange[0])}. {places}")
    wrong = next(run for run in range(len(minutes)) if count[run] != 1)
    raise Wrong(f"{case}, run {wrong} is there {count[wrong]} times. {places}")
