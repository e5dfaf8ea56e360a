"""The panel's speed without a browser, and what it says of the bytes that are sent."""

from __future__ import annotations

import threading

import pytest

from lab.events import GroupJoined, Span, StepFinished
from lab.experiment import Experiment
from lab.state import RunState
from tests.widgets.notebook.slow_run import SlowRun, until
from widgets import pace
from widgets.notebook import LabPanel, text
from widgets.notebook.sent import sent
from widgets.web.text import en


@pytest.mark.parametrize(("steps", "seconds"), [(1, 1.0), (60, 8 / 60), (1600, 0.005), (1601, 0.0), (10**6, 0.0)])
def test_a_short_run_is_slowed_down_to_eight_seconds_and_a_long_one_not(steps: int, seconds: float) -> None:
    assert pace.pause_s(pace.WATCH, steps) == seconds


def test_every_speed_of_the_page_is_the_panels_too() -> None:
    assert list(text.SPEEDS) == [pace.WATCH, *en.SPEEDS]
    assert [pace.pause_s(speed, 60) for speed in en.SPEEDS] == [0.0, 0.2, 1.0]


def test_a_panels_run_is_slow_enough_to_be_watched_until_somebody_waits_for_it(runs: list[SlowRun]) -> None:
    panel = LabPanel(Experiment(steps=80), show=())
    panel.buttons["run"].click()
    until(lambda: runs[0].pauses_s == [0.1])
    panel.speed.value = "slower"
    until(lambda: runs[0].pauses_s == [0.1, 1.0])
    waiting = threading.Thread(target=panel.finished)
    waiting.start()
    until(lambda: runs[0].pauses_s == [0.1, 1.0, 0.0])
    panel.speed.value = "slow"  # somebody still waits
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("lab-pace")])
    assert set(runs[0].pauses_s[2:]) == {0.0}
    runs[0].stop()
    waiting.join()
    until(lambda: "Slowed down to be watched." in panel.status.value)

    # The next one goes as the control says, though the one before was hurried.
    panel.buttons["run"].click()
    until(lambda: runs[1].pauses_s == [0.2])
    panel.close()


def test_a_run_that_nobody_watches_is_never_slow(runs: list[SlowRun]) -> None:
    panel = LabPanel(Experiment(steps=80), show=())
    threading.Thread(target=lambda: (until(lambda: runs), runs[0].stop())).start()
    panel.finished()
    assert set(runs[0].pauses_s) <= {0.0}
    assert "Slowed down" not in panel.status.value
    panel.close()


def of_copies(*sizes: tuple[str, str, int]) -> RunState:
    from tests.lab.test_sent import copy, started

    state = RunState()
    state.apply(started(*sorted({name for source, target, _ in sizes for name in (source, target)})))
    state.apply_all(copy(source, target, size) for source, target, size in sizes)
    state.apply(StepFinished(0, 0, 1.0, samples=64, seconds=0.1, end_ns=10**8))
    return state


def test_what_is_sent_is_said_for_each_and_in_all() -> None:
    alike = of_copies(("vgpu:0", "vgpu:1", 87_360), ("vgpu:1", "vgpu:0", 87_360))
    assert sent(alike) == "each device sends 87.4 kB a step, 174.7 kB in all"
    assert sent(of_copies(("vgpu:0", "vgpu:1", 3_000))) == "sent in a step: vgpu:0 3.0 kB, vgpu:1 0 B; 3.0 kB in all"
    many = of_copies(*((f"vgpu:{index}", f"vgpu:{index + 1}", 1_000) for index in range(5)))
    assert sent(many) == "each device sends 0 B to 1.0 kB a step, 5.0 kB in all"
    assert sent(of_copies(("vgpu:0", "vgpu:1", 0))) == text.NOTHING_SENT
    assert sent(RunState()) == ""


def test_ranks_are_called_ranks() -> None:
    from tests.lab.test_sent import started

    state = RunState()
    state.apply_all([started("vgpu:0", "vgpu:1"), GroupJoined(2, "gloo", 1, ())])
    for rank in range(2):
        span = Span(f"vgpu:{rank}", rank, 0, "collective", "bucket 0", 0, 10, bytes=87_360)
        state.apply_all([span, StepFinished(0, rank, 1.0, samples=32, seconds=0.1, end_ns=10**8)])
    assert sent(state) == "each rank sends 87.4 kB a step, 174.7 kB in all"
