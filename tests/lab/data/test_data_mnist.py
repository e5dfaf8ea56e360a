"""MNIST: the right numbers, and an unpacking that survives bad files."""

import gzip
import shutil
import struct
from importlib import resources

import numpy
import pytest
import torch

from lab import data
from lab._torch_compat import import_torchvision
from lab.data import cache, mnist
from lab.errors import DataError

BUNDLED = resources.files("lab.data") / "mnist"


@pytest.fixture(scope="module")
def dataset():
    return data.load("mnist")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def read_idx(name):
    """The bytes of an IDX file by its published format: two zeros, a type, the number of dimensions, the dimensions."""
    content = gzip.decompress((BUNDLED / f"{name}.gz").read_bytes())
    zeros, kind, dimensions = struct.unpack(">HBB", content[:4])
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    assert (zeros, kind) == (0, 8)
    return numpy.frombuffer(content, numpy.uint8, offset=4 + 4 * dimensions).reshape(shape)


@pytest.mark.parametrize(("files", "split"), [("train", "train"), ("t10k", "test")])
def test_every_sample_is_the_one_in_the_file(dataset, files, split):
    pixels, labels = read_idx(f"{files}-images-idx3-ubyte"), read_idx(f"{files}-labels-idx1-ubyte")
    inputs, targets = getattr(dataset, f"{split}_inputs"), getattr(dataset, f"{split}_targets")
    assert numpy.array_equal(targets.numpy(), labels)
    back = ((inputs * 0.3081 + 0.1307) * 255).round_().to(torch.uint8)
    assert numpy.array_equal(back.squeeze(1).numpy(), pixels)


def test_samples_are_bit_for_bit_what_torchvisions_transforms_give(dataset):
    transforms = import_torchvision().transforms
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    plain = import_torchvision().datasets.MNIST(mnist.unpack(), train=True, download=False, transform=transform)
    for index in (0, 1, 31_415, 59_999):
        image, label = plain[index]
        assert torch.equal(dataset.train_inputs[index], image)
        assert int(dataset.train_targets[index]) == label


def test_labels_are_as_many_as_published(dataset):
    assert dataset.train_targets.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert dataset.test_targets.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_pixels_are_normalised(dataset):
    deviation, mean = torch.std_mean(dataset.train_inputs)
    assert abs(mean) < 1e-3
    assert abs(deviation - 1) < 1e-3


def _half(content):
    return content[: len(content) // 2]


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [_half, _flipped, lambda content: b"", lambda content: b"not gzip", lambda content: gzip.compress(b"other"), None],
    ids=["truncated", "a byte flipped", "empty", "not gzip", "another file", "missing"],
)
def test_a_damaged_bundled_file_is_named_and_nothing_is_left(folder, tmp_path, monkeypatch, damage):
    bundle = tmp_path / "bundle" / "mnist"
    shutil.copytree(BUNDLED, bundle)
    bad = bundle / "train-labels-idx1-ubyte.gz"
    if damage:
        bad.write_bytes(damage(bad.read_bytes()))
    else:
        bad.unlink()
    # One small file is enough; the large ones come first and last.
    monkeypatch.setattr(mnist, "MD5", {name: mnist.MD5[name] for name in ("train-labels-idx1-ubyte",)})
    with monkeypatch.context() as patch:
        patch.setattr(mnist.resources, "files", lambda package: tmp_path / "bundle")
        with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz .*Install parallel-lab again"):
            mnist.unpack()
    assert list((folder / "MNIST").rglob("*ubyte*")) == []
    mnist.unpack()
    assert (folder / "MNIST" / "raw" / "train-labels-idx1-ubyte").stat().st_size == 60_008


def test_a_damaged_unpacked_file_is_unpacked_again_and_the_others_are_left_alone(folder):
    raw = mnist.unpack() / "MNIST" / "raw"
    labels, images = raw / "t10k-labels-idx1-ubyte", raw / "train-images-idx3-ubyte"
    good, inode = labels.read_bytes(), images.stat().st_ino
    for bad in (good[:5000], good[:5000] + b"\xff" + good[5001:]):
        labels.write_bytes(bad)
        mnist.unpack()
        assert labels.read_bytes() == good
    assert images.stat().st_ino == inode
    assert sorted(path.name for path in raw.iterdir()) == sorted(mnist.MD5)
