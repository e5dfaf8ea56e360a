"""Answers to the exercise of notebook 09."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from tests.lab.exercises.answers import right, wrong

Minutes = list[int]
Lists = list[list[int]]


def longest_first(minutes: Minutes) -> list[int]:
    return sorted(range(len(minutes)), key=lambda run: -minutes[run])


def to_the_free(order: Any, minutes: Minutes, devices: int) -> Lists:
    runs: Lists = [[] for _ in range(devices)]
    busy = [0] * devices
    for run in order:
        free = busy.index(min(busy))
        runs[free].append(run)
        busy[free] += minutes[run]
    return runs


@right("09-assign")
def by_length(minutes: Minutes, devices: int) -> Lists:
    return to_the_free(longest_first(minutes), minutes, devices)


@right("09-assign")
def from_a_heap(minutes: Minutes, devices: int) -> tuple[tuple[int, ...], ...]:
    heap: Any = [(0, device, ()) for device in range(devices)]
    for run in longest_first(minutes):
        end, device, runs = heapq.heappop(heap)
        heapq.heappush(heap, (end + minutes[run], device, (*runs, run)))
    return tuple(runs for _, _, runs in heap)


@right("09-assign")
def tries_all(minutes: Minutes, devices: int) -> Lists:
    def end(places: Any) -> int:
        return max(sum(m for m, d in zip(minutes, places, strict=True) if d == device) for device in range(devices))

    best = min(itertools.product(range(devices), repeat=len(minutes)), key=end)
    return [[run for run, place in enumerate(best) if place == device] for device in range(devices)]


@right("09-assign")
def as_tensors(minutes: Minutes, devices: int) -> list[torch.Tensor]:
    return [torch.tensor(runs, dtype=torch.int64) for runs in by_length(minutes, devices)]


@right("09-assign")
def as_arrays(minutes: Minutes, devices: int) -> list[Any]:
    return [np.array(runs, dtype=int) for runs in by_length(minutes, devices)]


@right("09-assign")
def one_by_one(minutes: Minutes, devices: int) -> Iterator[Iterator[int]]:
    return (iter(runs) for runs in by_length(minutes, devices))


@right("09-assign")
def by_device(minutes: Minutes, devices: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for device, runs in enumerate(by_length(minutes, devices)):
        for run in runs:
            found[f"vgpu:{device}"].append(run)
    return found


@right("09-assign")
def sorts_what_it_is_given(minutes: Minutes, devices: int) -> Lists:
    order = longest_first(minutes)
    minutes.sort(reverse=True)
    return [[order[place] for place in runs] for runs in to_the_free(range(len(order)), minutes, devices)]


@wrong("09-assign", "the last device is done after 7 minutes; 5 can be reached")
def in_turn(minutes: Minutes, devices: int) -> Lists:
    return [list(range(len(minutes)))[device::devices] for device in range(devices)]


@wrong("09-assign", "the last device is done after 7 minutes; 5 can be reached")
def in_the_given_order(minutes: Minutes, devices: int) -> Lists:
    return to_the_free(range(len(minutes)), minutes, devices)


@wrong("09-assign", "the last device is done after 7 minutes; 5 can be reached")
def shortest_first(minutes: Minutes, devices: int) -> Lists:
    return to_the_free(reversed(longest_first(minutes)), minutes, devices)


@wrong("09-assign", "the last device is done after 19 minutes; 12 can be reached")
def in_stretches(minutes: Minutes, devices: int) -> Lists:
    return [each.tolist() for each in torch.arange(len(minutes)).tensor_split(devices)]


@wrong("09-assign", "can be reached")
def there_and_back(minutes: Minutes, devices: int) -> Lists:
    runs: Lists = [[] for _ in range(devices)]
    for place, run in enumerate(longest_first(minutes)):
        turn, device = divmod(place, devices)
        runs[device if turn % 2 == 0 else devices - 1 - device].append(run)
    return runs


@wrong("09-assign", "the last device is done after 24 minutes; 12 can be reached")
def all_on_the_first(minutes: Minutes, devices: int) -> Lists:
    return [list(range(len(minutes))), *([] for _ in range(devices - 1))]


@wrong("09-assign", "can be reached")
def fewest_runs(minutes: Minutes, devices: int) -> Lists:
    runs: Lists = [[] for _ in range(devices)]
    for run in longest_first(minutes):
        min(runs, key=len).append(run)
    return runs


@wrong("09-assign", "there is a list for 1 device: ")
def one_list(minutes: Minutes, devices: int) -> Lists:
    return [list(range(len(minutes)))]


@wrong("09-assign", "For runs of [9, 8, 7, 6, 5, 4, 3, 2, 1] minutes on 3 devices, there are lists for 2 devices")
def always_two(minutes: Minutes, devices: int) -> Lists:
    return by_length(minutes, 2)


@wrong("09-assign", "For runs of [2, 2] minutes on 4 devices, there are lists for 2 devices")
def without_the_idle(minutes: Minutes, devices: int) -> Lists:
    return [runs for runs in by_length(minutes, devices) if runs]


@wrong("09-assign", "run 0 is there 0 times")
def empty(minutes: Minutes, devices: int) -> Lists:
    return [[] for _ in range(devices)]


@wrong("09-assign", "run 0 is there 2 times")
def each_gets_all(minutes: Minutes, devices: int) -> Lists:
    return [list(range(len(minutes))) for _ in range(devices)]


@wrong("09-assign", "these are the runs' minutes, and their places in the list are asked for")
def minutes_of_runs(minutes: Minutes, devices: int) -> Lists:
    return [[minutes[run] for run in runs] for runs in by_length(minutes, devices)]


@wrong("09-assign", "there is no run 7. Runs are named by their place in the list, 0 to 6")
def counted_from_one(minutes: Minutes, devices: int) -> Lists:
    return [[run + 1 for run in runs] for runs in by_length(minutes, devices)]


@wrong("09-assign", "the last device is done after")
def places_after_sorting(minutes: Minutes, devices: int) -> Lists:
    return to_the_free(range(len(minutes)), sorted(minutes, reverse=True), devices)


@wrong("09-assign", "a list of runs for each device is asked for, and this is [0, 1, 1, 0")
def device_of_each(minutes: Minutes, devices: int) -> list[int]:
    runs = by_length(minutes, devices)
    return [next(device for device in range(devices) if run in runs[device]) for run in range(len(minutes))]


@wrong("09-assign", "For runs of [2, 2] minutes on 4 devices, run 0 is there 0 times")
def a_share_and_no_rest(minutes: Minutes, devices: int) -> Lists:
    if len(minutes) >= devices:
        return by_length(minutes, devices)
    return [[] for _ in range(devices)]


@wrong("09-assign", "a list of runs for each device is asked for, and this is 12")
def only_the_end(minutes: Minutes, devices: int) -> int:
    return max(sum(minutes[run] for run in runs) for runs in by_length(minutes, devices))
