"""The nets of the registry: what they compute, and that they learn on their own data."""

import pytest
import torch
import torch.nn.functional as F

from lab import data, nets
from lab.nets.net import Net


def build(name):
    torch.manual_seed(0)
    return nets.build(name, data.REGISTRY[nets.REGISTRY[name].default_data].spec)


def loss_of(net, inputs, targets):
    return F.cross_entropy(net(inputs).flatten(0, -2), targets.flatten())


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_net_has_the_parameters_counted_by_hand():
    assert {name: parameters(layer) for name, layer in Net().named_children()} == {
        "conv1": 10 * (1 * 5 * 5) + 10,  # 260
        "conv2": 20 * (10 * 5 * 5) + 20,  # 5,020
        "fc1": 50 * (20 * 4 * 4) + 50,  # 16,050
        "fc2": 10 * 50 + 10,  # 510
    }


def test_net_is_the_published_sequence_of_operations():
    torch.manual_seed(0)
    net, images = Net(), torch.randn(3, 1, 28, 28)
    plain = torch.nn.Sequential(
        net.conv1, torch.nn.MaxPool2d(2), torch.nn.ReLU(), net.conv2, torch.nn.MaxPool2d(2), torch.nn.ReLU(),
        torch.nn.Flatten(), net.fc1, torch.nn.ReLU(), net.fc2, torch.nn.LogSoftmax(1),
    )  # fmt: skip
    assert torch.equal(net(images), plain(images))


@pytest.mark.parametrize("name", nets.NAMES)
def test_a_net_fits_its_data_and_one_step_lowers_its_loss(name):
    entry = data.REGISTRY[nets.REGISTRY[name].default_data]
    dataset, net = data.load(nets.REGISTRY[name].default_data), build(name)
    inputs, targets = dataset.train_inputs[:8], dataset.train_targets[:8]
    assert net(inputs).shape == (*targets.shape, entry.spec.classes)

    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    before = loss_of(net, inputs, targets)
    before.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    optimizer.step()
    assert loss_of(net, inputs, targets) < before


@pytest.mark.parametrize("name", nets.NAMES)
def test_the_seed_decides_the_parameters(name):
    first, again = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", nets.NAMES)
def test_every_parameter_belongs_to_a_layer_that_can_be_placed(name):
    assert not list(build(name).parameters(recurse=False))


@pytest.mark.parametrize(("name", "other"), [("mlp", "shapes"), ("resnet18", "mnist")])
def test_image_nets_take_other_images(name, other):
    spec = data.REGISTRY[other].spec
    net = nets.build(name, spec)
    assert net(torch.zeros(2, *spec.shape)).shape == (2, spec.classes)


def test_resnet_is_torchvisions_own_where_its_data_has_three_channels():
    from lab._torch_compat import import_torchvision

    net = build("resnet18")
    torch.manual_seed(0)
    own = import_torchvision().models.resnet18(num_classes=10)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), own.parameters(), strict=True))


def test_gpt_sees_no_later_token():
    net, tokens = build("gpt"), torch.randint(13, (2, 31), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 20] = (changed[:, 20] + 1) % 13
    before, after = net(tokens), net(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.isclose(before[:, 20:], after[:, 20:]).all(-1).any(), "every later position sees the change"


def test_gpt_tells_positions_apart():
    net = build("gpt")
    logits = net(torch.full((1, 5), 3))
    assert not torch.isclose(logits[0, 0], logits[0, 4]).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("net", ("conv1", "conv2", "fc1", "fc2")),
        ("mlp", ("fc1", "fc2", "fc3")),
        ("gpt", ("tok_emb", "pos_emb", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "ln_f", "head")),
    ],
)
def test_layer_names_need_no_data_and_leave_the_random_state_alone(name, expected):
    state = torch.get_rng_state()
    nets.layer_names.cache_clear()
    assert nets.layer_names(name, nets.REGISTRY[name].default_data) == expected
    assert torch.equal(torch.get_rng_state(), state)
