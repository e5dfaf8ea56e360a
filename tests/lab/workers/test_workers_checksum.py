"""Checksums of parameters, against sums of their bits in Python."""

from __future__ import annotations

import struct

import pytest
import torch
from torch import nn

from lab.workers.checksum import Checksum


def net_of(*parameters: torch.Tensor) -> nn.Module:
    net = nn.Module()
    for index, values in enumerate(parameters):
        net.register_parameter(f"p{index}", nn.Parameter(values))
    return net


def bits(values: list[float], letters: str = "fi") -> int:
    """The sum of the numbers' bits, read as integers, as a C int holds it."""
    written, read = letters
    total = sum(struct.unpack(f"={len(values)}{read}", struct.pack(f"={len(values)}{written}", *values)))
    width = 8 * struct.calcsize("=" + read)
    return (total + 2 ** (width - 1)) % 2**width - 2 ** (width - 1)


def test_sums_are_those_of_the_bits_even_past_the_largest_integer() -> None:
    few, many = [1.0, -2.5, 3e-9], [1.5] * 1000
    assert abs(sum(struct.unpack("=i", struct.pack("=f", value))[0] for value in many)) > 2**31
    net = net_of(torch.tensor(few), torch.tensor(many))
    assert Checksum(net).sums() == (bits(few), bits(many))


def test_double_precision_has_its_own_width() -> None:
    values = [1.0, -2.5, 3e-9]
    net = net_of(torch.tensor(values, dtype=torch.float64), torch.tensor(values))
    assert Checksum(net).sums() == (bits(values, "dq"), bits(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_one_bit_makes_a_difference(dtype: torch.dtype) -> None:
    net = net_of(torch.randn(1000, dtype=dtype), torch.randn(7, dtype=dtype))
    checksum = Checksum(net)
    before = checksum.sums()
    with torch.no_grad():
        net.p0.view(torch.int8)[1234] ^= 64
    after = checksum.sums()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_the_number_of_threads_makes_none() -> None:
    checksum, threads = Checksum(net_of(torch.randn(1_000_003))), torch.get_num_threads()
    try:
        sums = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            sums.append(checksum.sums())
    finally:
        torch.set_num_threads(threads)
    assert len(set(sums)) == 1


def test_what_is_not_trained_has_none() -> None:
    net = net_of(torch.ones(3))
    net.p0.requires_grad_(False)
    assert Checksum(net).sums() == ()
