"""Which collective operators there are, and that each is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed._functional_collectives
import torch.distributed.tensor

from lab import vgpu
from lab.vgpu import operators
from lab.vgpu.dispatch import compute, compute_in_place, compute_instantly, compute_into, view

KERNELS = {compute, compute_in_place, compute_instantly, compute_into, view}
"""How operations of the device itself are run."""
COLLECTIVES = {"c10d", "_c10d_functional", "_c10d_functional_autograd", "c10d_functional", "_dtensor", "symm_mem"}


def overloads() -> list[Any]:
    """Every operator that PyTorch has registered and that has a tensor among its arguments."""
    found = []
    for schema in torch._C._jit_get_all_schemas():
        if any("Tensor" in str(argument.type) for argument in schema.arguments):
            space, _, name = schema.name.partition("::")
            found.append((space, name, schema))
    return found


def test_every_operator_that_takes_a_group_is_of_a_known_namespace():
    takers = {
        space
        for space, _, schema in overloads()
        if any(
            argument.name in ("group_name", "process_group") or "c10d.ProcessGroup" in str(argument.type)
            for argument in schema.arguments
        )
    }
    assert {"c10d", "_c10d_functional", "symm_mem"} <= takers
    assert takers <= COLLECTIVES, "operators that take a process group, in a namespace that nobody has looked at"


def plan_or_refusal(func: Any) -> Any:
    try:
        return operators.plan_for(func)
    except NotImplementedError as refusal:
        return str(refusal)


@pytest.mark.parametrize("space", sorted(COLLECTIVES))
def test_every_collective_operator_is_simulated_or_refused_by_name(space: str):
    vgpu.enable(2)
    names = sorted({name for found, name, _ in overloads() if found == space})
    assert names
    plans = {name: plan_or_refusal(getattr(getattr(torch.ops, space), name).default) for name in names}
    kernels = [name for name, plan in plans.items() if plan in KERNELS]
    assert kernels == [], "these would be timed as kernels of the device"
    refused = {name: words for name, words in plans.items() if isinstance(words, str)}
    assert all(name in words for name, words in refused.items()), refused
    if space == "symm_mem":
        assert list(refused) == names
        assert all("symmetric memory, which virtual GPUs do not have" in words for words in refused.values())
    else:
        assert refused.keys() <= {"check_for_nan", "monitored_barrier_"}


def test_a_refused_collective_says_so_to_whoever_calls_it():
    vgpu.enable(2)
    with pytest.raises(NotImplementedError, match=r"symm_mem::one_shot_all_reduce .* virtual GPUs do not have"):
        torch.ops.symm_mem.one_shot_all_reduce(torch.ones(2, device="vgpu:0"), "sum", "0")
