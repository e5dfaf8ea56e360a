"""What the checks of notebooks 05 to 09 leave alone, and their blanks. Their answers are in `answers/`."""

from __future__ import annotations

import pytest
import torch

from lab import course, vgpu
from lab.exercises import check
from lab.exercises.choosing import earliest_end
from tests.lab.exercises.answers import answers_08


def test_the_readers_devices_are_back() -> None:
    mine = vgpu.enable(devices=3)
    assert check("08-fits", answers_08.recomputed).passed
    assert not check("08-fits", answers_08.on_a_larger_device).passed
    assert vgpu.current() is mine


@pytest.mark.parametrize("name", ["05-accumulate", "06-groups", "08-fits", "09-assign"])
def test_a_function_that_is_not_written_yet_is_blank(name: str) -> None:
    assert check(name, lambda *arguments: ...).outcome == "blank"


def test_functions_of_which_one_is_not_written_yet_are_blank() -> None:
    assert check("07-resume", lambda *arguments: ..., lambda *arguments: ...).outcome == "blank"


def test_the_earliest_end_is_that_of_the_best_of_all_ways() -> None:
    assert earliest_end((5, 5, 4, 4, 3, 3), 2) == 12
    assert earliest_end((3, 3, 2, 2, 2), 2) == 6  # longest first ends after 7
    assert earliest_end((2, 2), 4) == 2


def test_the_time_of_a_program_on_virtual_gpus_is_their_clocks() -> None:
    devices = course.devices(2, "virtual", timing="modelled")
    x = torch.zeros(250_000, device=devices[0])

    # 1 MB at 1 GB/s, 20 µs of latency and 5 µs until the host has issued it.
    assert course.milliseconds(lambda: x.to(devices[1]), devices) == pytest.approx(1.025, abs=0.03)
    assert course.milliseconds(lambda: x.to(devices[1]), devices, times=3) == pytest.approx(1.025, abs=0.03)
    assert course.milliseconds(lambda: None, ["cpu"]) < 1000
