"""Data sets in real processes: two that prepare at once, and one that only reads."""

import hashlib
import multiprocessing
import os
import sys
import time

import pytest

from lab import data
from lab.data import cache, mnist


def prepare(barrier, folder, shared, reports):
    """Runs in a fresh process: unpacks MNIST and makes Sums in a new cache, then reads MNIST from a filled one."""
    made_by_import = os.path.exists(folder)
    os.environ[cache.FOLDER_VARIABLE] = folder
    barrier.wait()
    raw = mnist.unpack() / "MNIST" / "raw"
    sums = data.load("sums")
    os.environ[cache.FOLDER_VARIABLE] = shared
    begin = time.perf_counter()
    samples = len(data.load("mnist").train_inputs)
    seconds = time.perf_counter() - begin
    reports.put(
        {
            "made by import": made_by_import,
            "md5": {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in mnist.MD5},
            "inodes": [(raw / name).stat().st_ino for name in mnist.MD5]
            + [os.stat(os.path.join(folder, "processed", "sums.pt")).st_ino],
            "sums": hashlib.md5(sums.train_inputs.numpy().tobytes()).hexdigest(),
            "samples": samples,
            "seconds": seconds,
            "torchvision": "torchvision" in sys.modules,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes") / "cache"


@pytest.fixture(scope="module")
def both(folder):
    data.load("mnist")  # fills the shared cache
    context = multiprocessing.get_context("spawn")
    barrier, reports = context.Barrier(2), context.Queue()
    arguments = barrier, str(folder), str(cache.folder()), reports
    processes = [context.Process(target=prepare, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    try:
        found = [reports.get(timeout=120) for _ in processes]
    finally:
        for process in processes:
            process.join(timeout=30)
            process.kill()
            process.join()
        reports.close()
        reports.join_thread()
    return found


def test_both_get_whole_data_sets(both):
    expected = hashlib.md5(data.load("sums").train_inputs.numpy().tobytes()).hexdigest()
    for report in both:
        assert report["md5"] == mnist.MD5
        assert report["sums"] == expected


def test_only_one_of_them_writes(both, folder):
    assert both[0]["inodes"] == both[1]["inodes"]
    assert not list(folder.rglob("*.tmp"))


def test_importing_makes_nothing(both):
    assert not both[0]["made by import"]
    assert not both[1]["made by import"]


def test_a_filled_cache_is_read_at_once_and_without_torchvision(both):
    for report in both:
        assert report["samples"] == 60_000
        assert not report["torchvision"]
    assert min(report["seconds"] for report in both) < 0.5
