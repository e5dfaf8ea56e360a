"""An interrupt reaches no worker, from its first instruction on."""

from __future__ import annotations

import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch.multiprocessing as mp

from lab.workers import interrupts, launch

pytestmark = pytest.mark.usefixtures("no_leaks")


def taken() -> bool:
    """Whether an interrupt would end this process now."""
    held = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return not held and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


class WhenUnpickled:
    """Turns into what `taken` says in the process that unpickles it, which a new process does before all else."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (taken, ())


def answer(pipe: Connection, environment: dict[str, str], at_first: bool) -> None:
    before = taken()
    interrupts.ignore()
    held = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pipe.send((at_first, before, taken(), held))
    pipe.close()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_worker_takes_no_interrupt_while_it_starts_nor_later(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if method == "spawn":
        monkeypatch.setattr(launch, "context", lambda: mp.get_context("spawn"))
    worker = launch.launch(answer, WhenUnpickled())
    assert worker.pipe.recv() == (False, False, False, False)
    worker.close()
    assert taken(), "the parent still takes its own"


def test_an_interrupt_sent_meanwhile_reaches_the_parent_afterwards() -> None:
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - where it comes out is the point
        with interrupts.held_back():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            reached = True
        pytest.fail("it was lost")
    assert reached
