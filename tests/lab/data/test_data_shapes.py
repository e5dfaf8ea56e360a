"""Shapes: the same images everywhere, and a class that the outline alone tells."""

import hashlib

import pytest
import torch

from lab import data
from lab.data import shapes

CLASSES = list(shapes.SHAPES)


def drawn(samples=500, seed=3):
    return shapes.draw(samples, 64, torch.Generator().manual_seed(seed))


def test_the_seed_decides_every_byte():
    images, labels = drawn()
    again, labels_again = drawn()
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)
    assert not torch.equal(images, drawn(seed=4)[0])


def test_classes_are_balanced_and_mixed():
    _, labels = drawn(samples=1000)
    assert labels.bincount().tolist() == [100] * 10
    assert labels[:20].unique().numel() > 3


def test_train_and_test_share_no_image():
    dataset = data.load("shapes")
    train, test = (
        {hashlib.md5(image.numpy().tobytes()).digest() for image in images}
        for images in (dataset.train_inputs, dataset.test_inputs)
    )
    assert len(train) == 4096
    assert not train & test


def test_pixels_are_normalised_bytes():
    inputs = data.load("shapes").train_inputs
    pixels = (inputs[:100] * 0.25 + 0.5) * 255
    assert (pixels - pixels.round()).abs().max() < 1e-3
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    assert abs(inputs.mean()) < 0.1
    assert 0.7 < inputs.std() < 1.2


# Share of the square around a shape that it covers, by geometry.
COVERED = {
    "disc": 3.1416 / 4,
    "ring": 3.1416 / 4 * 3 / 4,
    "square": 1.0,
    "frame": 3 / 4,
    "diamond": 1 / 2,
    "triangle": 1 / 2,
    "plus": 2 * (1 / 4) - (1 / 4) ** 2,
    "cross": 1 - (2 / 3) ** 2,
    "bars": 2 / 3,
    "chequers": 1 / 2,
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_shape_covers_what_geometry_says(name):
    r = 300
    x, y = torch.arange(-400, 401), torch.arange(-400, 401).unsqueeze(1)
    covered = shapes.SHAPES[name](x, y, torch.tensor(r)).sum() / (2 * r) ** 2
    assert covered == pytest.approx(COVERED[name], abs=0.01)


def test_colour_does_not_tell_the_class():
    images, labels = drawn(samples=2000)
    corner = images[:, :, 0, 0].float()  # (N, 3), background
    means = torch.stack([corner[labels == number].mean(0) for number in range(10)])
    assert means.std(0).max() < 8
