"""Net as a function of its parameters is the course's Net, and what it says of a mistake is that mistake."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lab.exercises import net_scores
from lab.nets.net import Net

MADE = torch.Generator().manual_seed(7)
PARAMETERS = net_scores.drawn(MADE)
IMAGES = 2 * torch.randn(8, 1, 28, 28, generator=MADE)
MISTAKES = list(net_scores._mistakes(PARAMETERS, IMAGES))


def test_it_is_the_net_of_the_course() -> None:
    net = Net()
    net.load_state_dict(PARAMETERS)
    expected = net(IMAGES).detach()
    assert torch.allclose(net_scores.scores(PARAMETERS, IMAGES).log_softmax(1), expected, atol=1e-5)


@pytest.mark.parametrize(("sentence", "wrong"), MISTAKES, ids=[sentence for sentence, _ in MISTAKES])
def test_each_mistake_is_told_from_the_right_scores_and_from_the_others(sentence: str, wrong: torch.Tensor) -> None:
    assert not net_scores.close(wrong, net_scores.scores(PARAMETERS, IMAGES))
    assert net_scores.mistake(wrong, PARAMETERS, IMAGES) == sentence


def test_parameters_go_to_their_layers_whatever_they_are_called() -> None:
    net = nn.ModuleDict(
        {"d": nn.Linear(50, 10), "a": nn.Conv2d(1, 10, 5), "c": nn.Linear(320, 50), "b": nn.Conv2d(10, 20, 5)}
    )
    own = net_scores.give(net, PARAMETERS)
    assert own is not None
    assert own["conv1.bias"] is net["a"].bias
    for name, parameter in own.items():
        assert torch.equal(parameter, PARAMETERS[name])


def test_another_nets_parameters_are_none() -> None:
    assert net_scores.give(nn.Linear(2, 2), PARAMETERS) is None
    assert net_scores.mistake(F.one_hot(torch.arange(8), 10).float(), PARAMETERS, IMAGES) is None
