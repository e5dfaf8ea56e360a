"""Model parallelism on modelled hardware behaves as published; the whole table is in tests/benchmarks/fidelity.py."""

from __future__ import annotations

import torch

from lab.vgpu import profiles
from tests.benchmarks.fidelity import split_ms


def test_two_stages_are_slower_unsplit_gain_less_than_twice_and_lose_when_split_too_far() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    profile, batch = profiles.get("classroom"), 1024
    one = split_ms(("vgpu:0", "vgpu:0"), profile, batch, 1)
    unsplit, some, many = (split_ms(("vgpu:0", "vgpu:1"), profile, batch, count) for count in (1, 8, 256))
    torch.set_num_threads(threads)
    assert one < unsplit < many
    assert one / 2 < some < one
