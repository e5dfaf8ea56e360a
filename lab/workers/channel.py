"""The worker's end of the pipe: events out, messages in. Sending never holds up the training."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import shutil
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

MAX_BACKLOG = 200
"""Batches (about ten seconds' worth) that may wait for a slow reader; then spans are dropped, and counted."""


class Channel:
    """Sends batches from a thread of its own, and listens for messages on another.

    When the parent goes away, the process ends at once: an orphan is of no use to anyone.

    Args:
        tell: takes the parent's messages, from the listening thread.
        folder: the run's, removed when the parent is gone and cannot do it.
    """

    def __init__(self, pipe: Connection, tell: Callable[[Any], None], folder: str) -> None:
        self.dropped_spans = 0
        self._tell = tell
        self._folder = folder
        self._pipe = pipe
        self._outbox: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send_all, name="lab-send", daemon=True)
        self._sender.start()
        threading.Thread(target=self._listen, name="lab-listen", daemon=True).start()

    def emit(self, batch: list[Any]) -> None:
        """Queues a batch of events and span rows."""
        if self._outbox.qsize() > MAX_BACKLOG:
            essential = [item for item in batch if not isinstance(item, tuple)]
            self.dropped_spans += len(batch) - len(essential)
            batch = essential
        if batch:
            self._outbox.put(batch)

    def close(self) -> None:
        """Returns when everything has been sent."""
        self._outbox.put(None)
        self._sender.join()

    def _send_all(self) -> None:
        try:
            while (batch := self._outbox.get()) is not None:
                self._pipe.send_bytes(pickle.dumps(batch, protocol=pickle.HIGHEST_PROTOCOL))
        except OSError:
            self._leave_orphaned()  # the parent has closed its end

    def _leave_orphaned(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(1)

    def _listen(self) -> None:
        parent = multiprocessing.parent_process()
        watched: list[Any] = [self._pipe] + ([parent.sentinel] if parent is not None else [])
        while True:
            for ready in wait(watched):
                if ready is not self._pipe:
                    self._leave_orphaned()
                try:
                    message = pickle.loads(self._pipe.recv_bytes())
                except (EOFError, OSError):
                    self._leave_orphaned()
                self._tell(message)
