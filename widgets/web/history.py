"""The runs that a tab has had, as small summaries: for the ghosts behind the loss, and to compare two of them.

A summary is some tens of kilobytes at most, whatever the run was, and a tab keeps few of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab import breakdown
from lab.breakdown import Breakdown
from lab.events import Clock
from lab.experiment import Experiment
from lab.state import RunState
from widgets import figures
from widgets.figures import Compared, Curve, duration, human_bytes
from widgets.web import text

KEPT = 8
"""Runs of a tab, the one that goes on among them."""
GHOSTS = 3
MOST_DEVICES = 16
"""Of a run, in a comparison."""
LABELLED = 2
"""Settings that a run's label names."""
MOST_VALUE = 60
"""Characters of a setting's value."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of a run."""

    run_id: str
    number: int
    """In the tab, from 1 on."""
    experiment: Experiment
    state: str
    clock: Clock
    steps: int
    curve: Curve
    loss: float | None
    """Smoothed, at the end."""
    accuracy: float | None
    """On the test set."""
    step_seconds: float | None
    pace: float | None
    """Samples per second."""
    wall_seconds: float | None
    devices: dict[str, Breakdown]
    waiting: float | None
    """Share of the time, over all devices."""
    crossing_bytes: int | None
    """Per step."""
    peak_bytes: int
    """Of memory, on the fullest device."""


def summary(run_id: str, number: int, experiment: Experiment, state: RunState) -> Summary | None:
    """None for a run that has not come as far as two steps. Hold the run's lock meanwhile."""
    if state.started is None or len(state.mean_loss) < 2:
        return None
    spent = {name: breakdown.of_device(state, name) for name in state.device_names[:MOST_DEVICES]}
    return Summary(
        run_id=run_id,
        number=number,
        experiment=experiment,
        state=state.status,
        clock=state.started.clock,
        steps=state.step,
        curve=figures.curve(state),
        loss=figures.smoothed_loss(state),
        accuracy=state.evaluations[-1].accuracy if state.evaluations else None,
        step_seconds=state.step_seconds,
        pace=state.pace,
        wall_seconds=state.finished.wall_seconds if state.finished else None,
        devices={name: each for name, each in spent.items() if each is not None},
        waiting=figures.idle_share(state),
        crossing_bytes=state.crossing_bytes,
        peak_bytes=max((memory.peak for memory in state.memory.values()), default=0),
    )


@dataclass(slots=True)
class History:
    """A tab's runs, the latest last."""

    chosen: tuple[str, str] | None = None
    """The ids of the two runs that the reader compares; None takes the last two."""
    _kept: list[Summary] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    """Run -> its number, of the last runs that were begun."""
    _count: Any = field(default_factory=lambda: itertools.count(1))

    def begin(self, run_id: str) -> None:
        """A run starts, and gets its number. The one before it is kept a moment later, when its end is seen."""
        self._numbers[run_id] = next(self._count)
        while len(self._numbers) > KEPT:
            del self._numbers[min(self._numbers, key=self._numbers.__getitem__)]

    def keep(self, run_id: str, experiment: Experiment, state: RunState) -> None:
        """Takes the run as it is now, in place of what was kept of it before."""
        taken = self.look(run_id, experiment, state)
        if taken is not None:
            others = [each for each in self._kept if each.run_id != run_id]
            self._kept = sorted([*others, taken], key=lambda each: each.number)[-KEPT:]

    def look(self, run_id: str, experiment: Experiment, state: RunState) -> Summary | None:
        """The run as it is now."""
        number = self._numbers.get(run_id)
        return summary(run_id, number, experiment, state) if number is not None else None

    def ghosts(self, run_id: str, experiment: Experiment) -> list[Curve]:
        """The last runs beside this one, the latest first, each labelled with what it has otherwise."""
        others = [each for each in self._kept if each.run_id != run_id][: -GHOSTS - 1 : -1]
        return [_named(each, label(each, experiment)) for each in others]

    def all(self, now: Summary | None = None) -> list[Summary]:
        """All runs, with the one that goes on as it is `now`."""
        others = [each for each in self._kept if now is None or each.run_id != now.run_id]
        return sorted([*others, *([now] if now else [])], key=lambda each: each.number)[-KEPT:]

    def pair(self, now: Summary | None = None) -> tuple[Summary, Summary] | None:
        """The two runs to compare; None while there are none."""
        runs = {each.run_id: each for each in self.all(now)}
        if len(runs) < 2:
            return None
        first, second = (runs.get(run_id) for run_id in self.chosen or ("", ""))
        if first is None or second is None:
            first, second = list(runs.values())[-2:]
        return first, second


def _named(run: Summary, name: str) -> Curve:
    return Curve(name, run.curve.steps, run.curve.losses)


def label(run: Summary, beside: Experiment | None = None) -> str:
    """`Run 2: batch size 32`, with what differs from another Experiment."""
    name = text.RUN_NUMBER.format(number=run.number)
    if beside is None:
        return name
    found = differences(run.experiment, beside)[:LABELLED]
    parts = [f"{setting[:1].lower()}{setting[1:]} {value}" for setting, value, _ in found]
    return f"{name}: {', '.join(parts)}" if parts else name


def differences(first: Experiment, second: Experiment) -> list[tuple[str, str, str]]:
    """(setting, its value in the first, in the second) of the settings that are not the same."""
    one, other = (each.model_dump(mode="json") for each in (first, second))
    return [
        (text.FIELDS.get(name, name.replace("_", " ")), _value(value), _value(other.get(name)))
        for name, value in one.items()
        if value != other.get(name)
    ]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        words = ", ".join(f"{name} {each}" for name, each in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        words = ", ".join(map(str, value))
    else:
        words = "" if value is None else str(value)
    words = words or text.NO_VALUE
    return words if len(words) <= MOST_VALUE else f"{words[: MOST_VALUE - 1]}…"


def rows(first: Summary, second: Summary) -> list[tuple[str, str, str, str]]:
    """(what, in the first run, in the second, the second as a multiple of the first)."""
    out = [(setting, one, other, "") for setting, one, other in differences(first.experiment, second.experiment)]
    out.append((text.OUTCOME, _outcome(first), _outcome(second), ""))
    out.append(_row(text.BENCH["loss"], first.loss, second.loss, lambda value: f"{value:.3f}"))
    out.append(_row(text.TEST_ACCURACY, first.accuracy, second.accuracy, lambda value: f"{value:.1%}"))
    seconds = [
        _row(text.BENCH["step_time"], first.step_seconds, second.step_seconds, lambda each: duration(each * 1e9))
    ]
    if first.clock != second.clock:
        clocks = [figures.clock_name(each.clock) for each in (first, second)]
        # Times of two clocks are no multiples of each other.
        seconds = [(*seconds[0][:3], ""), (text.CLOCK, *clocks, "")]
    out += seconds
    out.append(_row(text.PACE, first.pace, second.pace, lambda value: f"{value:,.0f}"))
    if first.clock != second.clock:
        out[-1] = (*out[-1][:3], "")
    for name in {**first.devices, **second.devices}:
        out.append((text.BUSY.format(device=name), *(_busy(each.devices.get(name)) for each in (first, second)), ""))
    out.append(_row(text.BENCH["waiting"], first.waiting, second.waiting, lambda value: f"{value:.0%}"))
    out.append(_row(text.BYTES_PER_STEP, first.crossing_bytes, second.crossing_bytes, human_bytes))
    out.append(_row(text.PEAK_MEMORY, first.peak_bytes or None, second.peak_bytes or None, human_bytes))
    return [row for row in out if row[1:3] != (text.NO_VALUE, text.NO_VALUE)]


def _outcome(run: Summary) -> str:
    after = text.AFTER_ONE_STEP if run.steps == 1 else text.AFTER_STEPS
    return after.format(state=text.STATES.get(run.state, run.state), steps=run.steps)


def _busy(spent: Breakdown | None) -> str:
    return text.NO_VALUE if spent is None else f"{spent.busy:.0%}"


def _row(what: str, first: float | None, second: float | None, shown: Any) -> tuple[str, str, str, str]:
    known = [value is not None and value == value for value in (first, second)]
    cells = [
        shown(value) if is_known else text.NO_VALUE for value, is_known in zip((first, second), known, strict=True)
    ]
    factor = f"× {second / first:.2f}" if all(known) and first and second is not None else ""
    return what, cells[0], cells[1], factor


def compared(first: Summary, second: Summary) -> list[Compared]:
    """For the figure."""
    return [Compared(_named(each, label(each)), each.devices) for each in (first, second)]


def table(first: Summary, second: Summary) -> tuple[tuple[str, ...], list[tuple[str, str, str, str]]]:
    """The columns and the rows that stand below the figure."""
    change = text.BENCH["compare_change"]
    return (text.BENCH["compare_what"], label(first), label(second), change), rows(first, second)
