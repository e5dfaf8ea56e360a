"""The forms in which students write values."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from lab import vgpu
from lab.exercises import reading
from lab.exercises.grading import Wrong


@pytest.mark.parametrize("value", [2, 2.0, torch.tensor([2.0]), np.float32(2), np.array([[2]])], ids=repr)
def test_a_number_may_come_as_anything_that_is_one(value: Any) -> None:
    assert reading.number(value) == 2


@pytest.mark.parametrize(
    "value", [None, "2", torch.ones(3), [1], float("nan"), float("inf"), lambda: 1, object], ids=repr
)
def test_what_is_no_number_is_said(value: Any) -> None:
    with pytest.raises(Wrong, match="One number is asked for, and this is"):
        reading.number(value)


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1, 2]),
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.tensor([1, 2], dtype=torch.bfloat16),
        np.array([1, 2], dtype=np.float32),
        [1, 2.0],
        (torch.tensor(1), np.int64(2)),
        (each for each in (1, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_tensor_may_come_as_anything_that_is_one(value: Any) -> None:
    found = reading.tensor(value, (2,))
    assert found.tolist() == [1, 2]
    assert (found.dtype, found.requires_grad) == (torch.float64, False)


def test_a_tensor_is_copied() -> None:
    given = torch.zeros(2, dtype=torch.float64)
    found = reading.tensor(given)
    given += 1
    assert found.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "A tensor is asked for, and this is None"),
        ("12", "A tensor is asked for, and this is '12'"),
        ([[1], [1, 2]], "A tensor is asked for"),
        (3.0, "shape (2,) is asked for, and yours has ()"),
        (torch.ones(3), "shape (2,) is asked for, and yours has (3,)"),
        ([1, float("nan")], "not finite"),
        (itertools.count(), "goes on and on"),
    ],
)
def test_what_is_no_such_tensor_is_said(value: Any, words: str) -> None:
    with pytest.raises(Wrong) as wrong:
        reading.tensor(value, (2,))
    assert words in str(wrong.value)


@pytest.mark.parametrize(
    "value", [[3, 1], (3.0, 1), torch.tensor([3, 1]), np.array([3, 1]), iter([3, 1]), {0: 3, 1: 1}]
)
def test_indices_may_stand_in_anything(value: Any) -> None:
    assert reading.indices(value) == [3, 1]


@pytest.mark.parametrize("value", [None, 3, "31", [1.5], [None], [True, False], torch.ones(2, 2)])
def test_what_is_no_indices_is_none(value: Any) -> None:
    assert reading.indices(value) is None


def test_a_device_has_several_names() -> None:
    vgpu.enable(devices=1)
    for value in ("vgpu", "vgpu:0", torch.device("vgpu:0"), torch.device("vgpu")):
        assert reading.device(value) == torch.device("vgpu:0")


@pytest.mark.parametrize("value", [0, None, "gpu one", ["vgpu:0"], torch.ones(1)])
def test_what_is_no_device_is_said(value: Any) -> None:
    with pytest.raises(Wrong, match="A device is asked for"):
        reading.device(value)
