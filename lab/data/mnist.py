"""MNIST: 70,000 handwritten digits in grey, 28 × 28. All of it comes with the lab, so it needs no network.

Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", CC BY-SA 3.0. The files are the
original IDX ones, gzipped; they are unpacked once into the cache folder, where torchvision's own class reads them:

    torchvision.datasets.MNIST(lab.data.mnist.unpack(), download=False)
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from lab._torch_compat import import_torchvision
from lab.data import Dataset, cache
from lab.errors import DataError

MEAN, DEVIATION = 0.1307, 0.3081
"""Of all training pixels, scaled to 0..1."""

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the unpacked files."""

_KEY = f"mnist 1: {' '.join(MD5.values())}, (x / 255 - {MEAN}) / {DEVIATION}"


def load() -> Dataset:
    """All of MNIST: images (N, 1, 28, 28), normalised to mean 0 and deviation 1; labels (N,) of the digits 0 to 9.

    Raises:
        DataError: when a bundled file is damaged, or the cache folder cannot be written.
    """
    return cache.prepared("mnist", _KEY, _make)


def unpack() -> Path:
    """Unpacks what is not unpacked yet, and gives the `root` that torchvision's class wants.

    Raises:
        DataError: when a bundled file is damaged, or the cache folder cannot be written.
    """
    root = cache.folder()
    raw = root / "MNIST" / "raw"
    with cache.locked(raw):
        for name, md5 in MD5.items():
            if not _is_whole(raw / name, md5):
                _write(raw / name, _bundled(name, md5))
    return root


def _make() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    root = unpack()
    read = import_torchvision().datasets.MNIST
    train, test = read(root, train=True, download=False), read(root, train=False, download=False)
    return _normalised(train.data), train.targets, _normalised(test.data), test.targets


def _normalised(pixels: Tensor) -> Tensor:
    """(N, 28, 28) bytes to (N, 1, 28, 28) floats; the arithmetic of torchvision's ToTensor and Normalize."""
    return pixels.unsqueeze(1).to(torch.float32).div_(255).sub_(MEAN).div_(DEVIATION)


def _write(path: Path, content: bytes) -> None:
    cache.write(path, len(content), lambda file: file.write(content))


def _is_whole(path: Path, md5: str) -> bool:
    try:
        with open(path, "rb") as file:
            digest = hashlib.md5(usedforsecurity=False)
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return False
    return digest.hexdigest() == md5


def _bundled(name: str, md5: str) -> bytes:
    """The content of a bundled file, unpacked and checked."""
    packed = resources.files("lab.data") / "mnist" / f"{name}.gz"
    try:
        content = gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{packed} cannot be unpacked ({error}). Install parallel-lab again.") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"{packed} does not hold the MNIST file it should. Install parallel-lab again.")
    return content
