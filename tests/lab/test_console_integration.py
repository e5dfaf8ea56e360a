"""A live group of ranks: real processes that keep their variables, fail one by one, and are interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from lab.errors import LabError
from lab.workers import collection
from lab.workers.collection import Outcome
from lab.workers.console import Console, gone


@pytest.fixture
def console(no_leaks: None) -> Iterator[Console]:
    with Console(3) as console:
        console.run("import os, time, torch, torch.distributed as dist")
        yield console


def values(outcome: Outcome) -> dict[int, str | None]:
    assert outcome.failures == []
    return {rank: ended.value for rank, ended in outcome.ended.items()}


def interrupt_after(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_every_rank_knows_its_place_and_keeps_its_variables(console: Console) -> None:
    assert values(console.run("rank, world_size, device")) == {rank: f"({rank}, 3, 'cpu')" for rank in range(3)}
    console.run("mine = rank * 10")
    assert values(console.run("mine", [0, 2])) == {0: "0", 2: "20"}
    assert values(console.run("mine;")) == {0: None, 1: None, 2: None}


def test_collectives_work(console: Console) -> None:
    outcome = console.run("x = torch.tensor([rank + 1.0]); dist.all_reduce(x); x.item()")
    assert set(values(outcome).values()) == {str(1.0 + 2.0 + 3.0)}


def test_what_is_printed_comes_by_rank_and_before_the_end(console: Console) -> None:
    heard: list[tuple[int, str, float]] = []
    console.run(
        "import sys\nprint('out', rank)\nprint('err', file=sys.stderr)\ntime.sleep(0.6)",
        hear=lambda said: heard.append((said.rank, said.text, time.monotonic())),
    )
    assert sorted((rank, text) for rank, text, _ in heard if "out" in text) == [(r, f"out {r}\n") for r in range(3)]
    assert sum("err" in text for _, text, _ in heard) == 3
    assert time.monotonic() - max(at for _, _, at in heard) > 0.3


def test_endless_printing_is_cut(console: Console) -> None:
    heard: list[str] = []
    console.run("for _ in range(100_000): print('0123456789')", [1], hear=lambda said: heard.append(said.text))
    assert len("".join(heard)) < 250_000
    assert "more characters" in heard[-1]


def test_classes_of_a_cell_can_be_pickled_by_a_later_one(console: Console) -> None:
    console.run("from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int = 3")
    assert set(values(console.run("import pickle; pickle.loads(pickle.dumps(Point())).x")).values()) == {"3"}


def test_variables_go_there_and_back(console: Console) -> None:
    console.push(f=lambda x: x + 1, start=5)
    console.run("result = f(start) + rank")
    assert console.pull("result") == {0: 6, 1: 7, 2: 8}
    with pytest.raises(LabError, match="rank 0: NameError: name 'nothing' is not defined"):
        console.pull("nothing")
    with pytest.raises(LabError, match="lock cannot be sent"):
        console.push(lock=threading.Lock())


def test_the_rank_that_failed_comes_first_and_the_others_do_not_wait_for_it(console: Console) -> None:
    console.run("kept = rank; net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))")
    began = time.monotonic()
    outcome = console.run("if rank == 1:\n    broken = 1 / 0\nx = torch.ones(1)\ndist.all_reduce(x)")
    assert time.monotonic() - began < 10  # gloo's own time-out is 30 s
    first, *others = outcome.failures
    assert (first.rank, first.cause, first.primary) == (1, "ZeroDivisionError: division by zero", True)
    assert "broken = 1 / 0" in first.traceback
    assert "console_rank.py" not in first.traceback
    assert {failure.rank for failure in others} == {0, 2}
    assert not any(failure.primary for failure in others)
    assert outcome.connected_anew
    assert values(console.run("x = torch.ones(1); dist.all_reduce(x); kept, x.item()")) == {
        rank: f"({rank}, 3.0)" for rank in range(3)
    }


def test_an_error_without_collectives_leaves_the_connections_alone(console: Console) -> None:
    outcome = console.run("misspelt")
    assert [failure.rank for failure in outcome.failures] == [0, 1, 2]
    assert {failure.cause for failure in outcome.failures} == {"NameError: name 'misspelt' is not defined"}
    assert not outcome.connected_anew
    assert console.run("x = = 1").failures[0].cause.startswith("SyntaxError")
    assert console.run("raise SystemExit(3)").failures[0].cause == "SystemExit: 3"
    assert values(console.run("rank", [1])) == {1: "1"}


@pytest.mark.parametrize(
    ("source", "ranks"),
    [
        ("while True: pass", None),
        ("time.sleep(60)", None),
        ("dist.all_reduce(torch.ones(1))", [0]),  # waits in native code for ranks that do not come
        ("dist.barrier() if rank else time.sleep(60)", None),
    ],
)
def test_an_interrupt_stops_the_cell_and_keeps_the_group(
    console: Console, source: str, ranks: list[int] | None
) -> None:
    console.run("kept = rank")
    interrupt_after(0.5)
    began = time.monotonic()
    outcome = console.run(source, ranks)
    assert outcome.interrupted
    assert time.monotonic() - began < 10
    assert values(console.run("x = torch.ones(1); dist.all_reduce(x); kept, x.item()")) == {
        rank: f"({rank}, 3.0)" for rank in range(3)
    }


def test_a_time_out_stops_the_cell(console: Console) -> None:
    outcome = console.run("time.sleep(60)", timeout=0.3)
    assert outcome.timed_out
    assert not outcome.interrupted
    assert console.alive


def test_a_rank_that_cannot_be_interrupted_ends_the_group(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "KILL_SECONDS", 1.5)
    stubborn = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])\ntime.sleep(60)"
    pids = console.pids
    outcome = console.run(stubborn, [2], timeout=0.3)
    assert outcome.timed_out
    assert not console.alive
    assert "did not stop in time" in gone(outcome, console)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(LabError, match="has ended; start another"):
        console.run("1")


def test_a_rank_whose_process_ends_is_named_and_ends_the_group(console: Console) -> None:
    outcome = console.run("if rank == 2: os._exit(7)\ndist.all_reduce(torch.ones(1))")
    assert (outcome.failures[0].rank, "exit code 7" in outcome.failures[0].cause) == (2, True)
    assert not console.alive
    assert "process is gone" in gone(outcome, console)


def test_a_second_cell_is_refused_while_one_goes_on(console: Console) -> None:
    other = threading.Thread(target=console.run, args=("time.sleep(1)",))
    other.start()
    time.sleep(0.2)
    with pytest.raises(LabError, match="still busy"):
        console.run("1")
    other.join()


def test_ranks_that_there_are_not(console: Console) -> None:
    with pytest.raises(LabError, match="there is no rank 3: ranks are 0 to 2"):
        console.run("1", [0, 3])
    with pytest.raises(LabError, match="17 ranks cannot be started: give a number from 1 to 16"):
        Console(17)


def test_virtual_gpus_train_with_ddp(no_leaks: None) -> None:
    with Console(2, "vgpu") as console:
        here = console.run("import torch; torch.ones(1, device='vgpu').device.index, torch.vgpu.current_device()")
        outcome = console.run(
            "import torch\n"
            "from torch.nn.parallel import DistributedDataParallel as DDP\n"
            "torch.manual_seed(0)\n"
            "net = DDP(torch.nn.Linear(4, 1).to(device))\n"
            "torch.manual_seed(rank)\n"
            "net(torch.randn(8, 4).to(device)).sum().backward()\n"
            "grad = net.module.weight.grad\n"
            "device, grad.device.type, [round(value, 6) for value in grad.cpu().flatten().tolist()]"
        )
    assert values(here) == {0: "(0, 0)", 1: "(1, 1)"}  # without an index, a rank's own is meant
    shown = values(outcome)
    assert shown[0] is not None
    assert shown[0].startswith("('vgpu:0', 'vgpu', [")
    assert shown[1] == shown[0].replace("vgpu:0", "vgpu:1")  # both have the same mean of their gradients


ABSENT = [
    ("if rank == 0: time.sleep(60)\ndist.all_reduce(x)", 0, "in line 1 of the cell (if rank == 0: time.sleep(60))"),
    ("for _ in range(2 + (rank == 2)): dist.all_reduce(x)", 2, "called a collective more than the others"),
    ("for _ in range(3 - (rank == 1)): dist.all_reduce(x)", 1, "it is at the end of the cell"),
    ("if rank == 1:\n    while True: pass\ndist.all_reduce(x)", 1, "in line 2 of the cell (while True: pass)"),
]


@pytest.mark.parametrize("device", ["cpu", "vgpu"])
def test_the_rank_that_does_not_come_is_named_and_the_others_are_not(device: str, no_leaks: None) -> None:
    # gloo gives up ten seconds after the seat's time
    with Console(3, device, wait_seconds=-8) as console:  # type: ignore[arg-type]
        for source, rank, words in ABSENT:
            console.run("import time, torch, torch.distributed as dist; x = torch.ones(1, device=device)")
            outcome = console.run(source)
            first = outcome.failures[0]
            assert (first.rank, first.primary) == (rank, True), outcome.failures
            assert words in first.cause
            assert outcome.connected_anew
        values(console.run("dist.all_reduce(x)"))


def test_a_time_out_and_an_interrupt_say_who_did_not_come(console: Console) -> None:
    source = "if rank == 2: time.sleep(60)\ndist.all_reduce(torch.ones(1))"
    outcome = console.run(source, timeout=1.0)
    assert outcome.timed_out
    assert outcome.absent is not None
    assert outcome.absent.rank == 2
    assert "ranks 0 and 1 wait for it in all_reduce" in outcome.absent.cause
    interrupt_after(1.0)
    outcome = console.run(source)
    assert outcome.interrupted
    assert outcome.absent is not None
    assert outcome.absent.rank == 2
    assert console.run("time.sleep(60)", timeout=0.5).absent is None
