"""The panel, the views and `%%ranks` in a real kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

from tests.widgets.notebook.kernel import Kernel, kernel
from tests.widgets.notebook.slow_run import until

NET = """
import torch
from torch import nn
import lab

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(784, 16), nn.Linear(16, 10)
    def forward(self, x):
        return self.second(torch.relu(self.first(x.flatten(1))))
"""
PANEL = """
import lab
from widgets.notebook import LabPanel
panel = LabPanel(lab.Experiment(strategy="model_parallel", steps=1_000_000), show=("loss",))
panel
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Kernel]:
    with kernel() as started:
        started.run("%load_ext widgets.notebook")
        yield started


@pytest.fixture
def ready(shared: Kernel) -> Iterator[Kernel]:
    """The kernel, with nothing going on; nothing may be left when the test ends."""
    yield shared
    shared.run("%ranks stop\nif 'panel' in dir(): panel.close()")
    until(lambda: not shared.family(), 20)


def start(ready: Kernel) -> None:
    ready.run("panel.start()")
    until(lambda: ready.run("panel.run.state.step > 3").result == "True", 60)


def test_a_cell_goes_on_while_a_panel_runs(ready: Kernel) -> None:
    said = ready.run(PANEL, "panel-cell")
    assert said.error == ""
    assert "application/vnd.jupyter.widget-view+json" in said.displayed[0]
    began = time.monotonic()
    assert ready.run("panel.start()").error == ""
    assert time.monotonic() - began < 20
    until(lambda: ready.run("panel.run.state.step > 3").result == "True", 60)
    ready.run("before = len(panel.views['loss'].figure)\nimport time; time.sleep(1.5)")  # this cell blocks
    assert ready.run("len(panel.views['loss'].figure) > before").result == "True"
    assert ready.family()
    ready.run("panel.stop()")
    until(lambda: not ready.family(), 20)
    until(lambda: "Stopped after" in ready.run("print(panel.status.value)").text)


def test_running_the_panels_cell_again_stops_the_run(ready: Kernel) -> None:
    ready.run(PANEL, "panel-cell")
    start(ready)
    ready.run("first = panel.run")
    ready.run("panel")  # displayed again: nothing changes
    assert ready.run("first.done").result == "False"
    ready.run(PANEL, "panel-cell")
    until(lambda: not ready.family(), 20)
    assert ready.run("first.wait(10), first.state.status, panel.run").result == "(True, 'stopped', None)"


def test_an_interrupt_of_a_cell_stops_the_run(ready: Kernel) -> None:
    ready.run(PANEL, "panel-cell")
    start(ready)
    cell = ready.send("for event in panel.run: pass")
    time.sleep(0.5)
    ready.interrupt()
    assert ready.read(cell).error.startswith("KeyboardInterrupt")
    until(lambda: not ready.family(), 20)


def test_an_interrupt_between_cells_stops_the_run(ready: Kernel) -> None:
    ready.run(PANEL, "panel-cell")
    start(ready)
    time.sleep(0.3)
    ready.interrupt()
    until(lambda: not ready.family(), 20)
    assert ready.run("panel.run.wait(10), panel.run.state.status").result == "(True, 'stopped')"


def test_a_loop_over_the_events_needs_no_widgets(ready: Kernel) -> None:
    said = ready.run(
        "run = lab.start(lab.Experiment(steps=5))\n"
        "losses = [event.loss for event in run if type(event).__name__ == 'StepFinished']\n"
        "len(losses), run.result().state"
    )
    assert said.result == "(5, 'finished')"


@pytest.mark.parametrize(
    "fields", ["strategy='model_parallel'", "strategy='ddp', world_size=2", "strategy='data_parallel'"]
)
def test_a_net_of_a_cell_trains_on_virtual_gpus_and_in_ranks(ready: Kernel, fields: str) -> None:
    ready.run(NET)
    said = ready.run(
        f"run = lab.start(lab.Experiment({fields}, steps=40, lr=0.05), net=Mine)\n"
        "result = run.result()\n"
        "first = run.state.mean_loss.y[0]\n"
        "result.state, run.experiment.net, result.loss < first"
    )
    assert said.error == ""
    assert said.result == "('finished', 'own:Mine', True)"


def test_ranks_from_cell_to_cell(ready: Kernel) -> None:
    assert "3 ranks are ready, on cpu" in ready.run("%ranks start 3").text
    said = ready.run("%%ranks\nimport torch, torch.distributed as dist\nprint('I am', rank)\nx = torch.ones(1) * rank")
    assert said.text == "[rank 0] I am 0\n[rank 1] I am 1\n[rank 2] I am 2\n"
    assert ready.run("%%ranks\ndist.all_reduce(x); x.item()").text == "".join(f"[rank {r}] 3.0\n" for r in range(3))
    assert ready.run("%%ranks 0,2\nrank").text == "[rank 0] 0\n[rank 2] 2\n"
    ready.run("scale = 4\n%ranks push scale")
    ready.run("%%ranks\nscaled = scale * rank")
    assert ready.run("%ranks pull scaled").result == "{0: 0, 1: 4, 2: 8}"
    assert "3 ranks are ready" in ready.run("%ranks").text


def test_a_net_of_a_cell_trains_in_live_ranks(ready: Kernel) -> None:
    ready.run("%ranks start 2")
    ready.run(NET + "%ranks push Mine")
    said = ready.run(
        "%%ranks\n"
        "import torch\n"
        "net = torch.nn.parallel.DistributedDataParallel(Mine())\n"
        "torch.manual_seed(rank)\n"
        "net(torch.randn(4, 784)).sum().backward()\n"
        "round(net.module.second.weight.grad.sum().item(), 5)"
    )
    first, second = said.text.splitlines()
    assert first.removeprefix("[rank 0] ") == second.removeprefix("[rank 1] ")


def test_errors_of_ranks_are_told_with_the_right_one_first(ready: Kernel) -> None:
    ready.run("%ranks start 3")
    said = ready.run(
        "%%ranks\nimport torch, torch.distributed as dist\nif rank == 1: 1 / 0\ndist.all_reduce(torch.ones(1))"
    )
    assert said.error == "RanksError: rank 1: ZeroDivisionError: division by zero."
    assert "magic.py" not in said.traceback
    lines = said.text.splitlines()
    assert lines[0] == "[rank 1] Traceback (most recent call last):"
    assert lines[-1] == "The ranks were connected anew and keep their variables; make DDP nets again."
    assert {line[:8] for line in lines[:-1]} == {"[rank 0]", "[rank 1]", "[rank 2]"}
    assert ready.run("%%ranks\nnothing").error == "RanksError: all ranks: NameError: name 'nothing' is not defined."


@pytest.mark.parametrize(
    ("source", "absent"),
    [
        ("while True: pass", ""),
        (
            "import torch.distributed as d; d.barrier() if rank else None; d.barrier()",
            ": rank 0 did not come: it is at the end of the cell, while rank 1 waits for it in barrier",
        ),
    ],
)
def test_an_interrupt_stops_the_cell_on_the_ranks(ready: Kernel, source: str, absent: str) -> None:
    ready.run("%ranks start 2")
    ready.run("%%ranks\nkept = rank")
    cell = ready.send(f"%%ranks\n{source}")
    time.sleep(1)
    ready.interrupt()
    assert ready.read(cell, 30).error == f"Interrupted: the cell was interrupted on every rank{absent}"
    assert ready.run("%%ranks\nkept").text == "[rank 0] 0\n[rank 1] 1\n"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("%ranks strat", "'strat' is no command of %ranks (did you mean 'start'?)"),
        ("%ranks start many", "'many' is neither a number of ranks nor cpu, cuda or vgpu"),
        ("%ranks start 99", "99 ranks cannot be started: give a number from 1 to 16"),
        ("%ranks push nowhere", "'nowhere' is not defined in this notebook"),
        ("%%ranks one\n1", "'one' is no rank: write %%ranks 0,2"),
        ("%%ranks --timeout soon\n1", "give the time-out in seconds"),
        ("%%ranks 5\n1", "there is no rank 5: ranks are 0 to 1"),
        ("%%ranks --timeout 0.3\nimport time; time.sleep(30)", "took longer than 0.3 s"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(ready: Kernel, source: str, words: str) -> None:
    said = ready.run(source)
    assert words in said.error
    assert "Traceback" not in said.traceback


def test_a_restart_of_the_kernel_ends_runs_and_ranks() -> None:
    with kernel() as started:
        started.run("%load_ext widgets.notebook\n%ranks start 2")
        started.run(PANEL)
        start(started)
        family = psutil.Process(started.pid).children(recursive=True)
        assert len(started.family()) == 3  # two ranks and the run's worker
        started.manager.restart_kernel(now=True)
        started.client.wait_for_ready(timeout=120)
        _, left = psutil.wait_procs(family, 20)
        assert left == []


def test_a_kernel_that_is_killed_leaves_nothing() -> None:
    with kernel() as started:
        started.run("%load_ext widgets.notebook\n%ranks start 2")
        started.run(PANEL)
        start(started)
        family = psutil.Process(started.pid).children(recursive=True)
        psutil.Process(started.pid).kill()
        _, left = psutil.wait_procs(family, 20)
        assert left == []
        started.manager.restart_kernel(now=True)
        started.client.wait_for_ready(timeout=120)
