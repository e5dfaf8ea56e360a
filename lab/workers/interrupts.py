"""Keeps Ctrl-C from worker processes. The terminal, and a notebook's kernel, send it to the whole process group, but
what becomes of a run is for its parent to say, who tells the workers by message.

A process that starts takes the interrupt until it says otherwise, and a worker has the user's script to import before
its first line of ours. So it is started with the interrupt held back, and lets go of it when it has learnt to ignore
it. (multiprocessing does the same for its resource tracker.)
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Processes that this thread starts inside begin with interrupts held back; one sent to this process meanwhile
    reaches another thread, or this one afterwards. Does nothing on Windows, which has no process groups of that kind.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its start ends with interrupts let through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """From now on this process, and what it forks, takes no notice of interrupts, one that was held back included."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
