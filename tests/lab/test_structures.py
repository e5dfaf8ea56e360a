"""Tensors in nested values, changed without changing what is around them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import pytest
import torch
from torch import nn

from lab.structures import changed, tensors
from tests.lab.odd_nets import Output, Record

Point = namedtuple("Point", "x y")
ONE = torch.ones(2)


def output() -> Output:
    made = Output()
    made["hidden"] = ONE
    return made


@pytest.mark.parametrize(
    "value",
    [
        ONE, (ONE, 1), [ONE], {"a": ONE}, OrderedDict(a=ONE), defaultdict(int, a=ONE), Point(ONE, "y"), output(),
        Record(ONE, "kept"), torch.return_types.max((ONE, 2)), {"deep": [Point(({"x": ONE},), 1)]},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_changed_values_are_of_the_same_class(value: Any) -> None:
    assert [tensor is ONE for tensor in tensors(value)] == [True]
    doubled = changed(value, lambda tensor: tensor * 2)
    assert type(doubled) is type(value)
    (found,) = tensors(doubled)
    assert torch.equal(found, ONE * 2)
    assert tensors(value)[0] is ONE
    assert changed(value, lambda tensor: tensor) is value


def test_attributes_of_a_dictionary_follow_its_entries() -> None:
    doubled = changed(output(), lambda tensor: tensor * 2)
    assert doubled.hidden is doubled["hidden"]


def test_the_lengths_of_a_packed_sequence_stay() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(1), torch.ones(2)], enforce_sorted=False)
    moved = changed(packed, lambda tensor: tensor.to("meta"))
    assert moved.batch_sizes is packed.batch_sizes
    assert {moved.data.device.type, moved.sorted_indices.device.type, moved.unsorted_indices.device.type} == {"meta"}
    sorted_already = nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(1)])
    assert changed(sorted_already, lambda tensor: tensor.to("meta")).sorted_indices is None


def test_other_objects_are_left_alone() -> None:
    for value in (None, "text", 3, Record, object()):
        assert tensors(value) == []
        assert changed(value, lambda tensor: tensor * 2) is value
