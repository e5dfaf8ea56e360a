"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import psutil
import pytest

LEAK_SECONDS = 5.0
"""How long a process, thread or file descriptor may take to go away."""


# Before torch is loaded: other processes share the cores, and OpenMP's threads would spin while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure(config: pytest.Config) -> None:
    # A shell that runs the tests in the background has them ignore Ctrl-C, and so would all that they start: what is
    # interrupted on purpose would never end.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Data sets are unpacked once for all test runs, and not into the user's own cache.
    cache = getattr(config, "cache", None)  # absent with `-p no:cacheprovider`
    if cache is not None:
        os.environ.setdefault("PARALLEL_LAB_CACHE", str(cache.mkdir("parallel-lab")))


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails when the test leaves a child process, a thread or a file descriptor behind."""
    before = _alive()
    yield
    deadline = time.monotonic() + LEAK_SECONDS
    while (left := _alive() - before) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert not left, f"left behind: {sorted(left)}"


def _alive() -> set[str]:
    """Everything of this process that can leak, by description; what the forkserver keeps for good is left out."""
    kept_processes = {
        getattr(forkserver._forkserver, "_forkserver_pid", None),
        getattr(resource_tracker._resource_tracker, "_pid", None),
    }
    kept_files = {
        str(getattr(forkserver._forkserver, "_forkserver_alive_fd", None)),
        str(getattr(resource_tracker._resource_tracker, "_fd", None)),
    }
    alive = {f"thread {thread.name} {thread.ident}" for thread in threading.enumerate()}
    for child in psutil.Process().children(recursive=True):
        if child.pid not in kept_processes:
            alive.add(f"process {child.pid}")
    for link in Path("/proc/self/fd").glob("*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue  # the descriptor that listed the folder
        if link.name not in kept_files:
            alive.add(f"descriptor {link.name} {target}")
    return alive
