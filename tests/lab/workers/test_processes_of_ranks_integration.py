"""A rank may start processes of its own, as a rank of torchrun may, and leaves none behind."""

from __future__ import annotations

import os

import psutil
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lab import start, vgpu
from lab.workers.console import Console
from tests.lab.workers.cases import experiment


class Loads(nn.Module):
    """Reads something with a DataLoader that has workers, and says whose children they are."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.device.type != "meta":
            batches = list(DataLoader(range(4), 2, num_workers=2, persistent_workers=True))  # type: ignore[arg-type]
            assert [batch.tolist() for batch in batches] == [[0, 1], [2, 3]]
        return F.relu(self.only(x.flatten(1)))


@pytest.mark.parametrize("where", ["cpu", "vgpu"])
def test_a_data_loader_with_workers_in_a_rank(where: str, no_leaks: None) -> None:
    with start(experiment(where, steps=2), net=Loads) as run:
        assert run.result(60).steps == 2


def test_workers_of_a_rank_end_with_it(no_leaks: None) -> None:
    with Console(1) as console:
        console.run("from torch.utils.data import DataLoader")
        console.run("kept = iter(DataLoader(range(400), 2, num_workers=2)); next(kept)")
        [rank] = console.pids
        workers = psutil.Process(rank).children(recursive=True)
        assert len(workers) >= 2  # and what watches over shared memory
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]


class OnTheDevice(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index), os.getpid()], dtype=torch.float64).to("vgpu:0")


def test_samples_that_a_forked_worker_moves_to_a_device_arrive() -> None:
    vgpu.enable(devices=1)
    [batch] = DataLoader(OnTheDevice(), 4, num_workers=1)
    assert batch.device == torch.device("vgpu:0")
    assert batch[:, 0].cpu().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert batch[0, 1].item() != os.getpid()
