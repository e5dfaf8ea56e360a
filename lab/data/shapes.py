"""Shapes: generated colour images of 3 × 64 × 64 with one shape each, of ten kinds.

Place, size and colours vary and say nothing about the class; only the outline does. Everything up to the last
normalisation is computed in whole numbers, so that every machine generates the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from lab.data import REGISTRY, Dataset, cache

SEED = 20_240_229
MEAN, DEVIATION = 0.5, 0.25
"""Of the pixels, scaled to 0..1, near enough."""

_NOISE = 24
"""Greatest change of a pixel, of 255."""
_CONTRAST = 80
"""Least difference of shape and background in every channel, of 255."""

_KEY = f"shapes 1: seed {SEED}, noise {_NOISE}, contrast {_CONTRAST}, (x / 255 - {MEAN}) / {DEVIATION}"

# Which pixels belong to a shape: x and y count from its centre, r is half of its size; all are whole numbers.
SHAPES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "disc": lambda x, y, r: x * x + y * y <= r * r,
    "ring": lambda x, y, r: (x * x + y * y <= r * r) & (4 * (x * x + y * y) >= r * r),
    "square": lambda x, y, r: _farther(x, y) <= r,
    "frame": lambda x, y, r: (_farther(x, y) <= r) & (2 * _farther(x, y) >= r),
    "diamond": lambda x, y, r: x.abs() + y.abs() <= r,
    "triangle": lambda x, y, r: (y.abs() <= r) & (2 * x.abs() <= y + r),
    "plus": lambda x, y, r: (_farther(x, y) <= r) & (4 * torch.minimum(x.abs(), y.abs()) <= r),
    "cross": lambda x, y, r: (_farther(x, y) <= r) & (3 * (x.abs() - y.abs()).abs() <= r),
    "bars": lambda x, y, r: (_farther(x, y) <= r) & (3 * y.abs() >= r),
    "chequers": lambda x, y, r: (_farther(x, y) <= r) & ((x > 0) ^ (y > 0)),
}
"""In the order of their class numbers."""


def load() -> Dataset:
    """Images (N, 3, 64, 64) with mean about 0 and deviation about 1; labels (N,) of the ten shapes.

    Raises:
        DataError: when the cache folder cannot be written.
    """
    return cache.prepared("shapes", _KEY, _make)


def _make() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    spec = REGISTRY["shapes"].spec
    generator = torch.Generator().manual_seed(SEED)
    train, train_labels = draw(spec.train_samples, spec.shape[-1], generator)
    test, test_labels = draw(spec.test_samples, spec.shape[-1], generator)
    return _normalised(train), train_labels, _normalised(test), test_labels


def draw(samples: int, pixels: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images (samples, 3, pixels, pixels) as bytes, and labels (samples,); classes are as equal in number as can be."""
    labels = torch.arange(samples)[torch.randperm(samples, generator=generator)] % len(SHAPES)
    shape = _masks(labels, pixels, generator)  # (N, 1, H, W), 0 or 1

    background = torch.randint(40, 216, (samples, 3, 1, 1), generator=generator, dtype=torch.int16)
    contrast = torch.randint(_CONTRAST, 128, (samples, 3, 1, 1), generator=generator, dtype=torch.int16)
    colour = torch.where(background < 128, background + contrast, background - contrast)

    noise = torch.randint(-_NOISE, _NOISE + 1, (samples, 3, pixels, pixels), generator=generator, dtype=torch.int16)
    image = noise.add_(background).addcmul_(shape, colour - background)  # (N, 3, H, W)
    return image.clamp_(0, 255).to(torch.uint8), labels


def _masks(labels: Tensor, pixels: int, generator: Generator) -> Tensor:
    """1 inside of each sample's shape, 0 outside: (N, 1, pixels, pixels)."""
    samples = len(labels)
    radius = torch.randint(pixels // 8, pixels // 3, (samples, 1, 1), generator=generator)
    centre = torch.randint(pixels // 3, pixels - pixels // 3, (2, samples, 1, 1), generator=generator)
    steps = torch.arange(pixels)
    masks = torch.zeros(samples, pixels, pixels, dtype=torch.int16)
    for number, inside in enumerate(SHAPES.values()):
        of_class = labels == number
        x = steps - centre[0, of_class]  # (n, 1, W)
        y = steps.unsqueeze(1) - centre[1, of_class]  # (n, H, 1)
        masks[of_class] = inside(x, y, radius[of_class]).to(torch.int16)
    return masks.unsqueeze(1)


def _farther(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs())


def _normalised(image: Tensor) -> Tensor:
    return image.to(torch.float32).div_(255).sub_(MEAN).div_(DEVIATION)
