"""Checks of notebook 06: replicas of a placed net."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from lab.exercises import reading
from lab.exercises.grading import Wrong, call, exercise, shown

CASES = ((2, 2), (3, 2), (2, 4), (1, 3), (4, 1), (5, 3))
"""Replicas and stages."""


@exercise(
    "06-groups",
    todo="Return the groups of devices that average their gradients with each other, for any number of replicas and "
    "of stages.",
    hints=(
        "Which layers does each device hold? Write the devices of two copies below each other.",
        "With 2 copies of 2 stages, device 0 holds the first stage of the first copy, and device 2 that of the second.",
        "A stage's devices lie `stages` apart: stage 0 has 0, stages, 2 * stages, and so on.",
    ),
)
def groups(answer: Any) -> str:
    """Which devices average their gradients."""
    for replicas, stages in CASES:
        case = f"With {replicas} replica{'s' * (replicas > 1)} of {stages} stage{'s' * (stages > 1)}"
        found = call(answer, replicas, stages)
        lists = reading.lists_of_numbers(found)
        if lists is None:
            raise Wrong(f"{case}, a list of lists of devices is asked for, and this is {shown(found)}.")
        if replicas == 1 and not lists:
            continue  # one device has nobody to average with
        lists = [[_index(device) for device in group] for group in lists if group]
        _each_once(lists, replicas * stages, case)
        for group in lists:
            held = sorted({device % stages for device in group})
            if len(held) > 1:
                raise Wrong(
                    f"{case}, the devices {group} do not hold the same layers: they are of stages {held}, counted "
                    f"from 0.{_copies(lists, stages)}"
                )
        if len(lists) != stages:
            raise Wrong(f"{case}, there is one group for each stage, and you have {len(lists)}: {lists}.")
    return "Each stage has its own all-reduce, among the devices that hold its layers."


def _index(device: Any) -> Any:
    """A device's number, also from its name or a torch.device."""
    named = re.fullmatch(r"[a-z]+:(\d+)", str(device))
    return int(named[1]) if named else device


def _each_once(lists: list[list[Any]], devices: int, case: str) -> None:
    """Raises:
    Wrong: unless each device is in exactly one of the lists.
    """
    count = Counter(device for group in lists for device in group)
    strange = [device for device in count if device not in range(devices)]
    if strange:
        raise Wrong(f"{case}, the devices are 0 to {devices - 1}, and yours have {shown(strange[0])}: {lists}.")
    wrong = [device for device in range(devices) if count[device] != 1]
    if wrong:
        raise Wrong(
            f"{case}, device {wrong[0]} is in {count[wrong[0]]} groups, and each of the {devices} belongs to exactly "
            f"one. Yours: {lists}."
        )


def _copies(lists: list[list[Any]], stages: int) -> str:
    """What is said besides when the groups are the copies."""
    copies = all(len({device // stages for device in group}) == 1 and len(group) == stages for group in lists)
    return " Each of your groups is one copy of the net." if copies else ""
