"""The worker's end of the pipe: events out, commands in. Sending never holds up the training."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import threading
from multiprocessing.connection import Connection, wait
from typing import Any

MAX_BACKLOG = 200
"""Batches (about ten seconds' worth) that may wait for a slow reader; then spans are dropped, and counted."""


class Channel:
    """Sends batches from a thread of its own, and listens for `stop` on another.

    When the parent goes away, the process ends at once: an orphan is of no use to anyone.
    """

    def __init__(self, pipe: Connection) -> None:
        self.stop = threading.Event()
        self.dropped_spans = 0
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
            os._exit(1)  # the parent has closed its end

    def _listen(self) -> None:
        parent = multiprocessing.parent_process()
        watched: list[Any] = [self._pipe] + ([parent.sentinel] if parent is not None else [])
        while True:
            for ready in wait(watched):
                if ready is not self._pipe:
                    os._exit(1)
                try:
                    command = self._pipe.recv_bytes()
                except (EOFError, OSError):
                    os._exit(1)
                if command == b"stop":
                    self.stop.set()
