"""The cache folder: whole files or none, whatever goes wrong."""

import errno
import io
import os
import threading

import pytest
import torch

from lab.data import cache
from lab.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Makes a small data set, and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        generator = torch.Generator().manual_seed(1)
        inputs = torch.randn(300, 1, 20, 20, generator=generator)
        return inputs[:200], torch.arange(200), inputs[200:], torch.arange(100)

    def load(self, key="key"):
        return cache.prepared("mnist", key, self)


def check(dataset):
    train_inputs, train_targets, test_inputs, test_targets = Maker()()
    assert torch.equal(dataset.train_inputs, train_inputs)
    assert torch.equal(dataset.train_targets, train_targets)
    assert torch.equal(dataset.test_inputs, test_inputs)
    assert torch.equal(dataset.test_targets, test_targets)


def files(folder):
    """All files but the locks, which are empty."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_size == 0 for path in found if path.suffix == ".lock")
    return [str(path.relative_to(folder)) for path in found if path.suffix != ".lock"]


def test_the_folder_is_the_users_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    assert cache.folder() == tmp_path
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "~/here")
    assert str(cache.folder()) == os.path.expanduser("~/here")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "")
    assert "parallel-lab" in cache.folder().parts


def test_a_data_set_is_made_once_and_then_read(folder):
    maker = Maker()
    check(maker.load())
    assert files(folder) == ["processed/mnist.pt"]
    dataset = maker.load()
    check(dataset)
    assert maker.calls == 1
    assert (dataset.source.train_samples, dataset.source.test_samples) == (200, 100)


def test_writing_into_the_tensors_changes_nothing_for_others(folder):
    maker = Maker()
    maker.load().train_inputs.zero_()
    check(maker.load())
    assert maker.calls == 1


def test_a_data_set_of_another_kind_is_stale(folder):
    maker = Maker()
    maker.load(key="old")
    check(maker.load(key="new"))
    check(maker.load(key="new"))
    assert maker.calls == 2


def _truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def _zero_middle(path):
    content = path.read_bytes()
    third = len(content) // 3
    path.write_bytes(content[:third] + bytes(third) + content[2 * third :])


DAMAGE = {
    "truncated": _truncate,
    "zeroed in the middle": _zero_middle,
    "last byte lost": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: path.write_bytes(b""),
    "not a torch file": lambda path: path.write_bytes(b"hello" * 1000),
    "another torch file": lambda path: torch.save([1, 2], path),
    "a part missing": lambda path: torch.save({"key": "key", "check": 0, "parts": {}}, path),
    "parts of a wrong type": lambda path: torch.save(
        {"key": "key", "check": 0, "parts": dict.fromkeys(cache._PARTS, "text")}, path
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_anew(folder, damage):
    maker = Maker()
    maker.load()
    DAMAGE[damage](folder / "processed" / "mnist.pt")
    check(maker.load())
    assert maker.calls == 2
    check(maker.load())
    assert maker.calls == 2, "the new file is good"


class SmallDisk(io.FileIO):
    """A file on a disk with `room` bytes left."""

    room = 0

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.mark.parametrize("room", [0, 1_000, 200_000, 480_000])
def test_a_full_disk_leaves_nothing_behind(folder, monkeypatch, no_leaks, room):
    def open_small(path, mode):
        file = SmallDisk(path, mode)
        file.room = room
        return io.BufferedWriter(file)

    maker = Maker()
    with monkeypatch.context() as patch:
        patch.setattr(cache, "open", open_small, raising=False)
        with pytest.raises(DataError, match=r"disk is full: .*mnist\.pt \(0\.5 MB\).*PARALLEL_LAB_CACHE"):
            maker.load()
    assert files(folder) == []
    check(maker.load())


@pytest.mark.parametrize(
    ("function", "error"), [("fsync", errno.ENOSPC), ("replace", errno.EACCES), ("fsync", errno.EIO)]
)
def test_a_write_that_fails_at_its_end_leaves_nothing_behind(folder, monkeypatch, function, error):
    def fail(*args):
        raise OSError(error, os.strerror(error))

    maker = Maker()
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(DataError, match="PARALLEL_LAB_CACHE"):
            maker.load()
    assert files(folder) == []
    check(maker.load())


def test_an_interrupted_write_leaves_nothing_behind_and_is_not_hidden(folder, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    maker = Maker()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            maker.load()
    assert files(folder) == []
    check(maker.load())


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"file/cache/processed cannot be written .*Set PARALLEL_LAB_CACHE"):
        Maker().load()


def test_a_filled_cache_that_cannot_be_written_still_serves(folder, monkeypatch):
    maker = Maker()
    maker.load()

    def refuse(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        patch.setattr(os, "mkdir", refuse)
        check(maker.load())
        with pytest.raises(DataError, match=r"processed cannot be written \(Read-only file system\)"):
            maker.load(key="another")


def test_what_a_killed_writer_left_is_cleared_away(folder):
    leftover = folder / "processed" / ".mnist.pt.0123abcd.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    check(Maker().load())
    assert files(folder) == ["processed/mnist.pt"]


def test_threads_make_a_data_set_once(folder, no_leaks):
    maker, datasets = Maker(), []
    threads = [threading.Thread(target=lambda: datasets.append(maker.load())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert maker.calls == 1
    assert len(datasets) == 4
    for dataset in datasets:
        check(dataset)


def test_a_lock_that_is_never_given_back_is_reported(folder, monkeypatch):
    monkeypatch.setattr(cache, "LOCK_SECONDS", 0.2)
    held, done = threading.Event(), threading.Event()

    def hold():
        with cache.locked(folder / "processed" / "mnist.pt"):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        with pytest.raises(DataError, match="Another process has been preparing"):
            Maker().load()
    finally:
        done.set()
        thread.join()
    check(Maker().load())


def test_a_failure_to_make_it_gives_the_lock_back(folder):
    def fail():
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        cache.prepared("mnist", "key", fail)
    check(Maker().load())
