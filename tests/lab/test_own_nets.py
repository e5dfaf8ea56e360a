"""Copies of nets, the type of their numbers, and lazy layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lab.own_nets import copy_of, input_dtype, materialise, to_dtype
from tests.lab import odd_nets

X = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(3))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
@pytest.mark.parametrize(
    "kind",
    [odd_nets.OldWeightNorm, odd_nets.HoldsALock, odd_nets.Scripted, odd_nets.NewWeightNorm, odd_nets.Tied],
)
def test_a_copy_computes_the_same_and_is_another(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = kind()
    made = copy_of(net)
    expected = net(X)
    assert torch.equal(made(X), expected)
    pairs = list(zip(made.parameters(), net.parameters(), strict=True))
    assert all(ours is not theirs and torch.equal(ours, theirs) and ours.is_leaf for ours, theirs in pairs)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
    assert torch.equal(net(X), expected)
    assert not torch.equal(made(X), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_only_what_is_of_the_default_type_gets_the_type_of_the_run(dtype: torch.dtype) -> None:
    net = odd_nets.Types()
    net.norm = nn.BatchNorm1d(3)
    before = {name: value.dtype for name, value in net.state_dict().items()}
    same = {id(parameter) for parameter in net.parameters()}
    assert to_dtype(net, dtype) is net
    after = {name: value.dtype for name, value in net.state_dict().items()}
    assert after == {name: dtype if old == torch.float32 else old for name, old in before.items()}
    assert {id(parameter) for parameter in net.parameters()} == same
    assert {torch.complex64, torch.bfloat16, torch.float64, torch.int8, torch.int64} <= set(after.values())
    assert [name for name, _ in net.named_buffers()] == [
        "mix.turn", "whole.table", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (nn.Linear(1, 1), torch.bfloat16),
        (nn.Sequential(nn.Linear(1, 1, dtype=torch.float64), nn.Linear(1, 1)), torch.bfloat16),
        (nn.Linear(1, 1, dtype=torch.float64), torch.float64),
        (nn.Flatten(), torch.bfloat16),
        (nn.Linear(1, 1, dtype=torch.cfloat), torch.float32),
    ],
)
def test_images_have_the_type_of_the_run_unless_the_net_has_only_others(net: nn.Module, expected: torch.dtype) -> None:
    assert input_dtype(to_dtype(net, torch.bfloat16), torch.bfloat16) == expected


def test_lazy_layers_get_what_the_first_forward_would_give_them() -> None:
    torch.manual_seed(0)
    expected = odd_nets.Lazy()
    output, random = expected(X), torch.get_rng_state()
    torch.manual_seed(0)
    net = odd_nets.Lazy()
    materialise(net, X[:2])
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert net.first[1].num_batches_tracked == 0
    assert torch.equal(net(X), output)
    before = [parameter.clone() for parameter in net.parameters()]
    materialise(net, X)
    assert all(torch.equal(ours, was) for ours, was in zip(net.parameters(), before, strict=True))
