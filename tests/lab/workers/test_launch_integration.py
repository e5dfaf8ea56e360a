"""What a worker process is started with."""

from __future__ import annotations

import resource
import sys
from multiprocessing.connection import Connection

import pytest
import torch

from lab.workers import launch

pytestmark = pytest.mark.usefixtures("no_leaks")
STEPS = 5
BLOCK = 7_500_000
"""Numbers in a tensor of 30 MB. The C library keeps one that is freed; of three, it gives some back."""


def faults_of_each_step(pipe: Connection, environment: dict[str, str]) -> None:
    """Says how many pages each of some steps had to get, which all allocate the same and free it."""
    counts = []
    for _ in range(STEPS):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.zeros(BLOCK).add_(1) for _ in range(3)]
        del blocks
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    pipe.send(counts)
    pipe.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are those of glibc")
def test_a_worker_keeps_the_memory_that_a_step_frees() -> None:
    worker = launch.launch(faults_of_each_step)
    first, *later = worker.pipe.recv()
    worker.close()
    assert sum(later) < first / 2
