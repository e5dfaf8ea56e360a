"""The six steps against a plain PyTorch step of one device, and against a real run."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lab
from lab.errors import ExperimentError, LabError
from lab.experiment import Experiment
from lab.six_steps import NAMES, SixSteps

DATA_PARALLEL = Experiment(strategy="data_parallel", devices=["vgpu:0", "vgpu:1", "vgpu:2"], batch_size=48, lr=0.1)
DDP = Experiment(strategy="ddp", world_size=2, steps=3)


def by_hand(steps: SixSteps, experiment: Experiment) -> dict[str, torch.Tensor]:
    """A step of one device on the whole batch, without the lab's code."""
    from lab.data import load
    from lab.training import build_net

    net = build_net(experiment, None)
    data = load("mnist")
    indices = torch.cat(steps.indices)
    F.cross_entropy(net(data.train_inputs[indices]), data.train_targets[indices]).backward()
    return {name: value.detach() - experiment.lr * value.grad for name, value in net.named_parameters()}


@pytest.mark.parametrize("experiment", [DATA_PARALLEL, DDP, Experiment(strategy="model_parallel")])
def test_both_sides_agree_with_each_other_and_with_one_device(experiment: Experiment) -> None:
    steps = SixSteps(experiment)
    steps.finish()
    expected = by_hand(steps, experiment)
    updates = steps.updates()
    assert {update.name for update in updates} == set(expected)
    for update in updates:
        assert update.difference < 1e-7
        assert not torch.equal(update.before, update.after)
        torch.testing.assert_close(update.after, expected[update.name], atol=1e-6, rtol=1e-5)


def test_what_each_of_the_six_steps_does() -> None:
    steps = SixSteps(DDP)
    assert steps.advance() == "split"
    assert [len(share) for share in steps.indices] == [32, 32]
    assert not set(steps.indices[0].tolist()) & set(steps.indices[1].tolist())
    steps.advance()
    assert len(steps.copies) == 2
    assert steps.copies_differ_by == 0
    steps.advance()
    one, other = (gradients["fc2.bias"] for gradients in steps.gradients)
    assert not torch.equal(one, other)  # of different shares
    steps.advance()
    torch.testing.assert_close(steps.mean["fc2.bias"], (one + other) / 2)
    with pytest.raises(LabError, match="nothing has been updated yet"):
        steps.updates()
    steps.advance()
    assert steps.copies_differ_by == 0
    assert steps.advance() == "repeat"
    assert (steps.round, steps.done) == (1, 0)
    before = steps.indices
    steps.advance()
    assert not torch.equal(before[0], steps.indices[0])


@pytest.mark.parametrize("experiment", [DATA_PARALLEL, DDP.replace(momentum=0.5), DDP.replace(momentum=0)])
def test_the_formula_holds_in_every_step(experiment: Experiment) -> None:
    steps, velocity = SixSteps(experiment), torch.zeros(10)
    for step in range(3):
        steps.finish()
        updates = {update.name: update for update in steps.updates()}
        assert max(update.difference for update in updates.values()) < 1e-7
        bias = updates["fc2.bias"]
        velocity = experiment.momentum * velocity + bias.mean
        torch.testing.assert_close(bias.after, bias.before - experiment.lr * velocity)
        plain = float((bias.before - experiment.lr * bias.mean - bias.after).abs().max())
        assert (plain > 1e-4) == bool(step and experiment.momentum)  # without the momentum it holds in step 0 only
        steps.advance()


def test_a_wrong_mean_shows() -> None:
    steps = SixSteps(DDP)
    for _ in NAMES[:4]:
        steps.advance()
    steps.mean = {name: 2 * value for name, value in steps.mean.items()}  # the sum, which is what Gloo adds up
    steps.advance()
    assert max(update.difference for update in steps.updates()) > 1e-5


def test_losses_are_those_of_a_run(no_leaks: None) -> None:
    run = lab.start(DDP)
    run.result(120)
    steps = SixSteps(DDP)
    for step in range(2):
        steps.finish()
        assert steps.losses == pytest.approx([run.state.loss[rank].y[step] for rank in range(2)], abs=1e-5)
        steps.advance()


def test_the_whole_batch_gives_the_mean_of_the_shares() -> None:
    steps = SixSteps(DATA_PARALLEL)
    steps.finish()
    for name, whole in steps.whole_batch_gradient().items():
        torch.testing.assert_close(steps.mean[name], whole, atol=1e-6, rtol=1e-4)


def test_each_device_updates_what_it_holds() -> None:
    steps = SixSteps(Experiment(strategy="model_parallel", placement={"conv*": "vgpu:0", "*": "vgpu:1"}))
    steps.finish()
    assert {update.name: update.device for update in steps.updates()} == {
        "conv1.weight": "vgpu:0", "conv1.bias": "vgpu:0", "conv2.weight": "vgpu:0", "conv2.bias": "vgpu:0",
        "fc1.weight": "vgpu:1", "fc1.bias": "vgpu:1", "fc2.weight": "vgpu:1", "fc2.bias": "vgpu:1",
    }  # fmt: skip


def test_a_net_of_ones_own_is_left_as_it_is() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    before = [value.clone() for value in net.parameters()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    steps = SixSteps(Experiment(net="own:Sequential", strategy="data_parallel"), net)
    steps.finish()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(steps.updates()[0].before, before[0])


def test_another_optimizer_has_another_formula() -> None:
    with pytest.raises(ExperimentError, match="'adam' updates by another formula"):
        SixSteps(Experiment(optimizer="adam"))


def test_steps_end_with_the_experiments() -> None:
    steps = SixSteps(Experiment(steps=1))
    steps.finish()
    steps.advance()
    with pytest.raises(LabError, match="steps are over"):
        steps.advance()
