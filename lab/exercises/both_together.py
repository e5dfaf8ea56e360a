"""Checks of notebook 06: replicas of a placed net."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lab.exercises import reading
from lab.exercises.grading import Wrong, call, exercise


@exercise(
    "06-groups",
    todo="For 2 replicas of 2 stages, devices 0 and 2 hold the same layers, and so do 1 and 3. Write it for any.",
)
def groups(answer: Any) -> str:
    """Which devices average their gradients."""
    for replicas, stages in ((2, 2), (3, 2), (2, 4), (1, 3)):
        case = f"with {replicas} replica{'s' * (replicas > 1)} of {stages} stages"
        found = call(answer, replicas, stages)
        lists = reading.lists_of_numbers(found)
        if lists is None:
            raise Wrong(f"{case}, a list of lists is asked for, and this is {found!r}")
        count = Counter(device for group in lists for device in group)
        wrong = [device for device in range(replicas * stages) if count[device] != 1]
        if wrong or sum(count.values()) != replicas * stages:
            what = (
                f"device {wrong[0]} is in {count[wrong[0]]} groups" if wrong else "there is a device that is not there"
            )
            raise Wrong(f"{case}, {what}: each of the {replicas * stages} belongs to exactly one. Yours: {lists}")
        for group in lists:
            held = {device % stages for device in group}
            if len(held) > 1:
                raise Wrong(
                    f"{case}, the devices {group} do not hold the same layers: they are of stages {sorted(held)}"
                )
        if len(lists) != stages:
            raise Wrong(f"{case}, there is one group for each stage, and you have {len(lists)}: {lists}")
    return "each stage has its own all-reduce, among the devices that hold its layers."
